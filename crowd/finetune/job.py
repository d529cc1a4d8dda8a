"""Fine-tuning of a vision transformer on image files with the crowd's labels: all its weights, or adapters on it.

Two stages, as in the paper: the head alone, then everything, by one optimiser. A stopped training goes on from its
checkpoint and ends with the bytes it would have had (on a CPU in float32). Knows no dataset, no teacher and no student
folder: arrays and files come in, tensors go out.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentifuse import ConfigError
from sentifuse.crowd.finetune.checkpoints import Checkpoints
from sentifuse.crowd.finetune.images import default_threads, find_left_out
from sentifuse.crowd.finetune.log import FinetuneLog, write_left_out
from sentifuse.crowd.finetune.lora import require_peft
from sentifuse.crowd.finetune.network import Base, read_base
from sentifuse.crowd.finetune.recipe import Finetuned, FinetuneRequest, LeftOut
from sentifuse.crowd.finetune.request import check_parts, check_request, identity_of
from sentifuse.crowd.finetune.training import Training
from sentifuse.crowd.folder_lock import only_here
from sentifuse.extract.devices import resolve_devices

__all__ = ["finetune", "remove_checkpoint"]


def finetune(request: FinetuneRequest, *, progress: Callable[[Mapping[str, Any]], None] | None = None) -> Finetuned:
    """Train, and give the weights that the recipe selects; a request that was finished before gives its result again.

    All randomness comes from the request's seed; torch's global generators are as before afterwards.

    Parameters
    ----------
    progress
        Hears every row of the two logs as it is written; one with `val_loss` is of history.csv. A training that goes on
        gives `resumed_step` and `is_finished` first.

    Raises
    ------
    ConfigError
        Settings that contradict each other; a folder with another training's checkpoint, or with one when the request
        does not say to go on.
    Locked
        Another process is at this training.
    DataError
        Arrays that do not fit the images; a checkpoint that is damaged; an image that went away meanwhile.
    ResourceError
        The base, the device, or an optional package is missing; the device has too little memory.
    TrainingError
        A class without a usable image; a loss that is not finite.
    """
    check_request(request)
    device = torch.device(resolve_devices(request.device)[0])
    precision = _precision(request, device)
    base = read_base(request.base, request.recipe.image_px)
    checkpoints = Checkpoints(request.out, identity_of(request, base, precision))
    if request.kind == "lora":
        require_peft()
    with only_here(request.out):
        return _train(request, base, checkpoints, device, precision, progress)


def _train(
    request: FinetuneRequest,
    base: Base,
    checkpoints: Checkpoints,
    device: torch.device,
    precision: str,
    progress: Callable[[Mapping[str, Any]], None] | None,
) -> Finetuned:
    if checkpoints.path.is_file() and not request.resume:
        raise ConfigError(
            f"{checkpoints.path}: a training was begun here. Go on with it (--resume), or take another folder"
        )
    state = checkpoints.read()
    log = FinetuneLog(
        request.out,
        history=state["history"] if state else (),
        steps=state["steps"] if state else (),
        writes_tensorboard=request.writes_tensorboard,
    )
    left_out = _left_out(request, state)
    gone = {(image.id, image.path) for image in left_out}
    is_usable = np.array([(image.id, str(image.path)) not in gone for image in request.images], dtype=bool)
    train_rows, val_rows = (rows[is_usable[rows]] for rows in (request.train_rows, request.val_rows))
    check_parts(request.recipe, request.classes, train_rows, val_rows)
    with log, _seeded(request.seed, device):
        training = Training(
            request,
            base,
            checkpoints,
            log,
            device=device,
            precision=precision,
            train_rows=train_rows,
            val_rows=val_rows,
            left_out=left_out,
        )
        if state is not None:
            training.restore(state)
            if progress is not None:
                progress({"resumed_step": training.step, "is_finished": training.is_finished})
        training.run(progress)
        return training.result()


def remove_checkpoint(folder: Path) -> None:
    """Take the checkpoint out of a working folder, once the student lies elsewhere; the logs stay."""
    Checkpoints(folder, {}).remove()


def _left_out(request: FinetuneRequest, state: Mapping[str, Any] | None) -> tuple[LeftOut, ...]:
    """Decided once: a training that goes on leaves out what it left out before."""
    if state is not None:
        names = tuple(LeftOut.__dataclass_fields__)
        return tuple(LeftOut(**dict(zip(names, values, strict=True))) for values in state["left_out"])
    rows = np.sort(np.concatenate([request.train_rows, request.val_rows]))
    if request.find_left_out is None:
        left_out = find_left_out(request.images, rows, request.loader_threads or default_threads())
    else:
        own = {(request.images[row].id, str(request.images[row].path)) for row in rows.tolist()}
        left_out = tuple(image for image in request.find_left_out() if (image.id, image.path) in own)
    write_left_out(request.out, left_out)
    return left_out


def _precision(request: FinetuneRequest, device: torch.device) -> str:
    asked = request.recipe.precision
    if asked != "auto":
        return asked
    return "bfloat16" if device.type == "cuda" else "float32"


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
