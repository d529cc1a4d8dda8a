"""Loading transformers folders: quietly, strictly, in float32, without running their code. Knows no encoder."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import SLOW_TOKENIZER

__all__ = ["LOAD_ERRORS", "first_lines", "load_model", "load_tokenizer", "quiet_transformers"]

# What from_pretrained raises on folders that are torn or hold another kind of network; each was seen.
LOAD_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    UnpicklingError,
    SafetensorError,
)


def load_model(auto_class: Any, folder: Path, device: torch.device, *, without_pooler: bool = False) -> Any:
    """A network in float32 (whatever the checkpoint holds), in evaluation mode.

    Parameters
    ----------
    without_pooler
        Leave out the layer on top of the first state, which nobody reads here and which many checkpoints do not have.

    Raises
    ------
    ModelMismatch
        A tensor that the network needs is not in the checkpoint (transformers would fill it with random numbers and
        print a report), one has another shape, or the folder cannot be loaded as this kind of network.
    """
    what = auto_class.__name__
    options = {
        "local_files_only": True,
        "trust_remote_code": False,  # left out, transformers asks on stdin
        "use_safetensors": any(
            folder.glob("*.safetensors")
        ),  # else .bin, which is read by torch.load(weights_only=True)
        "dtype": torch.float32,  # the default follows the checkpoint, float16 even on a CPU
        "output_loading_info": True,
    }
    try:
        with quiet_transformers():
            try:
                # Only networks that know the option take it; the others have no pooler or keep it under its own name.
                extra = {"add_pooling_layer": False} if without_pooler else {}
                net, report = auto_class.from_pretrained(folder, **options, **extra)
            except TypeError:
                if not without_pooler:
                    raise
                net, report = auto_class.from_pretrained(folder, **options)
    except LOAD_ERRORS as error:
        raise ModelMismatch(f"{folder}: cannot be loaded as {what}: {first_lines(error)}") from error
    missing = sorted(key for key in report["missing_keys"] if not (without_pooler and key.startswith("pooler.")))
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise ModelMismatch(
            f"{folder}: {len(missing)} tensors of {what} are missing: {', '.join(missing[:8])}{more}. "
            "Is it a checkpoint of another kind? They would have been random"
        )
    return net.eval().requires_grad_(False).to(device)


def load_tokenizer(folder: Path, vocabulary_size: int) -> Any:
    """The folder's tokenizer, for a network with so many word embeddings.

    Raises
    ------
    ModelMismatch
        There is none, it has more pieces than the network knows, or it cannot give character offsets.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", *SLOW_TOKENIZER)):
        # transformers 5 would make up a tokenizer that knows nothing but its special pieces.
        raise ModelMismatch(f"{folder}: no tokenizer, expected tokenizer.json (or older files such as vocab.txt)")
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise ModelMismatch(f"{folder}: no tokenizer that can be loaded: {first_lines(error)}") from error
    if len(tokenizer) > vocabulary_size:
        raise ModelMismatch(
            f"{folder}: its tokenizer has {len(tokenizer)} pieces, its network {vocabulary_size}: not of one model"
        )
    if not tokenizer.is_fast:
        raise ModelMismatch(f"{folder}: its tokenizer ({type(tokenizer).__name__}) gives no character offsets")
    return tokenizer


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, reports or advice on stderr while a model loads; problems come as errors instead."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()


def first_lines(error: BaseException) -> str:
    """The beginning of an error's text on one line: transformers' own messages run to a page."""
    text = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())  # torch writes in bold
    return text[:300] or type(error).__name__
