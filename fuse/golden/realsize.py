"""Golden files of ITIN and CTMWA at real widths: JSON with a few numbers of each case, for arrays would be too large.

Inputs and parameters come from the rule for the seed in the file. Checking one takes seconds.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentifuse import DataError
from sentifuse.fuse.golden.ctmwa import VERSIONS
from sentifuse.fuse.golden.ctmwa_run import (
    META_BATCHES,
    Sizes,
    build_network,
    build_step,
    meta_batch,
    train_batch,
)
from sentifuse.fuse.golden.file import Array, Deviation, GoldenFile, compare
from sentifuse.fuse.golden.itin import INPUTS, authors_config, build_batch, golden_name
from sentifuse.fuse.golden.layout import HYPER
from sentifuse.fuse.golden.rule import INPUT_BOUND, integers, parameter, reals
from sentifuse.fuse.heads.ctmwa_network import CtmwaNetwork
from sentifuse.fuse.heads.ctmwa_step import StepMasks, StepRecord
from sentifuse.fuse.heads.itin import CONTEXT, REGIONS, WORDS, Itin, ItinConfig

HINT = "Name a file of real-size numbers of ITIN or CTMWA, unchanged: sentifuse doctor --golden FILE.json"
WEIGHT_NET_WIDTH = 128
LARGEST = 100_000  # of any width or count in a file

Values = dict[str, Array]


def read_realsize(path: Path) -> tuple[str, GoldenFile]:
    """Kind and numbers of a JSON file, flattened: `<case>.steps.0.meta_total` and the like.

    Raises
    ------
    DataError
        No such file, no JSON, or not of one of the two kinds.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected a golden file, found nothing there. {HINT}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON, cannot be read: {' '.join(str(error).split())}. {HINT}") from error
    try:
        values = dict(_flat(document, ""))
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: expected numbers under names, found something else: {error}. {HINT}") from error
    golden = GoldenFile(path=path, values=values)
    if golden.names("inputs."):
        return "itin_realsize", golden
    if any(".steps." in name for name in values):
        return "ctmwa_realsize", golden
    raise DataError(f"{path}: expected 'inputs' or cases with 'steps', found neither. {HINT}")


def check_itin(golden: GoldenFile) -> list[Deviation]:
    """`itin_realsize`: logits, gates, norms and losses of each case."""
    rows = []
    for case in _cases(golden):
        if case == "inputs":
            continue
        head, sample = _itin(golden, case)
        with torch.no_grad():
            output = head(sample)
            found = {
                "logits": output.logits,
                "gate": output.details["gate"],
                "C_norm": output.details["pooled"].norm(dim=-1),
                "S_norm": output.details["text_context"].norm(dim=-1),
                "loss": head.loss(output, sample),
            }
        names = golden.names(f"{case}.")
        _check_names(golden, f"{case}.", names, found, needed=("logits",))
        rows += [compare(case, name, found[name], golden.array(f"{case}.{name}")) for name in names]
    return rows


def check_ctmwa(golden: GoldenFile, *, version: str = "fast") -> list[Deviation]:
    """`ctmwa_realsize`: sums over everything that a step computes and changes, and the numbers of parameters."""
    rows = []
    for case in _cases(golden):
        seed, sizes = _count(golden, f"{case}.seed", least=0), _sizes(golden, case)
        hyper = {name: float(golden.array(f"{case}.hyper.{name}", 0)) for name in HYPER if name != "input_scale"}
        hyper["input_scale"] = float(golden.array(f"{case}.input_scale", 0))
        if hyper["dropout"]:
            raise DataError(f"{golden.path}: expected dropout 0 in {case}, found {hyper['dropout']}. {HINT}")
        network = build_network(seed, sizes)
        rows += [
            compare(case, name, value, golden.array(f"{case}.{name}"))
            for name, value in _counts(network, sizes).items()
        ]
        step = build_step(VERSIONS[version], network, hyper)
        for place in range(_steps(golden, case)):
            prefix = f"{case}.steps.{place}."
            record = step(
                train_batch(seed, place, sizes, hyper["input_scale"]),
                meta_batch(seed, place % META_BATCHES, sizes, hyper["input_scale"]),
                masks=StepMasks(),
            )
            found = _sums_of_step(record, network) | {"step": np.array(place + 1)}
            names = golden.names(prefix)
            has_parameters = any(name.startswith("params.") for name in names)
            needed = [name for name in found if has_parameters or not name.startswith("params.")]
            _check_names(golden, prefix, names, found, needed=needed)
            stage = f"{case} {place + 1}"
            rows += [compare(stage, name, found[name], golden.array(f"{prefix}{name}")) for name in names]
    return rows


def _cases(golden: GoldenFile) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in golden.values))


def _steps(golden: GoldenFile, case: str) -> int:
    return len({name.partition(".")[0] for name in golden.names(f"{case}.steps.")})


def _check_names(
    golden: GoldenFile, prefix: str, names: list[str], found: Mapping[str, Any], *, needed: tuple[str, ...] | list[str]
) -> None:
    for name in needed:
        golden.array(f"{prefix}{name}")
    unknown = [name for name in names if name not in found]
    if unknown:
        raise DataError(f"{golden.path}: expected none but {', '.join(found)}, found {prefix}{unknown[0]}. {HINT}")


def _flat(value: Any, name: str) -> Iterator[tuple[str, Array]]:
    inner: Any = None
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        inner = enumerate(value)
    if inner is None:
        array = np.array(value)
        if not name or array.dtype.kind not in "if":
            raise TypeError(f"{name or 'the whole'} is {type(value).__name__}")
        yield name, array
    else:
        for key, part in inner:
            yield from _flat(part, f"{name}.{key}" if name else str(key))


def _count(golden: GoldenFile, name: str, *, least: int = 1) -> int:
    value = golden.array(name, 0)
    if value.dtype.kind != "i" or not least <= value <= LARGEST:
        raise DataError(f"{golden.path}: expected {name!r} from {least} to {LARGEST:,}, found {value}. {HINT}")
    return int(value)


def _sizes(golden: GoldenFile, case: str) -> Sizes:
    return Sizes(
        text=_count(golden, f"{case}.text_dim"),
        image=_count(golden, f"{case}.image_dim"),
        embedding=_count(golden, f"{case}.hidden"),
        class_count=_count(golden, f"{case}.classes"),
        weight_net=WEIGHT_NET_WIDTH,
        batch=_count(golden, f"{case}.batch"),
        meta_batch=_count(golden, f"{case}.meta_batch"),
    )


def _counts(network: CtmwaNetwork, sizes: Sizes) -> dict[str, Array]:
    """Numbers of parameters: of ours, and with those that nothing reads in the authors' program.

    For each translator these are four of five kernel rows, and query and key of two heads of the width it ends at.
    """
    live = sum(parameter.numel() for parameter in network.parameters())
    unused = sum(
        4 * sizes.text * sizes.image + 2 * (2 * width * width + 2 * width) for width in (sizes.text, sizes.image)
    )
    return {"parameters_live": np.array(live), "parameters_all": np.array(live + unused)}


def _sums_of_step(record: StepRecord, network: CtmwaNetwork) -> dict[str, Any]:
    def sums(tensor: torch.Tensor) -> torch.Tensor:
        flat = tensor.detach().flatten()
        turning = torch.cos(0.1 * torch.arange(len(flat), dtype=flat.dtype))
        return torch.stack([flat.sum(), flat.norm(), (flat * turning).sum()])

    return {
        "virtual_total": record.virtual.total,
        "meta_total": record.meta_total,
        "real_total": record.real.total,
        **{
            f"mean_weight_{side}_{which}": getattr(of, f"{side}_weight").mean()
            for side in ("text", "image")
            for which, of in (("virtual", record.virtual), ("real", record.real))
        },
        **{f"grad_norm_before_clip.{part}": norm for part, norm in record.norms.items()},
        **{f"meta_grad.{name}": sums(value) for name, value in record.weight_gradients.items()},
        **{f"params.{name}": sums(value) for name, value in network.named_parameters()},
    }


def _itin(golden: GoldenFile, case: str) -> tuple[Itin, Any]:
    """The head of a case and its batch; the case's name says the form and its widths."""
    mlp_width, n = _count(golden, "inputs.mlp_hidden"), _count(golden, "inputs.words")
    visual_weight = float(golden.array("inputs.lam", 0))
    if match := re.fullmatch(r"paper_d(\d{1,4})_k(\d{1,4})_(scalar|vector)", case):
        config = ItinConfig(
            width=int(match[1]),
            align_width=int(match[2]),
            mlp_width=mlp_width,
            gate="scalar" if match[3] == "scalar" else "vector",
            visual_weight=visual_weight,
        )
        stream, lengths = "itin_paper", golden.array("inputs.lengths_for_paper", 1)
    elif match := re.fullmatch(r"code_d(\d{1,4})", case):
        d = int(match[1])
        config = authors_config(d, d, mlp_width, unmasked_length=n, visual_weight=visual_weight)
        stream, lengths = "itin_code", np.full(_count(golden, "inputs.batch"), n)
    else:
        raise DataError(
            f"{golden.path}: expected cases named code_d<d> or paper_d<d>_k<k>_<scalar|vector>, found {case!r}. {HINT}"
        )
    return _built(golden, config, stream, lengths)


def _built(golden: GoldenFile, config: ItinConfig, stream: str, lengths: Array) -> tuple[Itin, Any]:
    seed, b, n = (
        _count(golden, "inputs.seed", least=0),
        _count(golden, "inputs.batch"),
        _count(golden, "inputs.words"),
    )
    if lengths.shape != (b,) or lengths.dtype.kind != "i" or not ((lengths >= 1) & (lengths <= n)).all():
        raise DataError(f"{golden.path}: expected {b} lengths from 1 to {n}, found {lengths.tolist()}. {HINT}")
    bound, class_count = float(golden.array("inputs.bound", 0)), _count(golden, "inputs.classes")
    if bound != INPUT_BOUND:
        raise DataError(f"{golden.path}: expected 'inputs.bound' {INPUT_BOUND}, found {bound}. {HINT}")
    widths = {
        REGIONS: _count(golden, "inputs.region_dim"),
        WORDS: _count(golden, "inputs.word_dim"),
        CONTEXT: _count(golden, "inputs.context_dim"),
    }
    before = {REGIONS: (b, _count(golden, "inputs.regions")), WORDS: (b, n), CONTEXT: (b,)}
    inputs: Values = {
        f"input.{name}": reals(seed, f"itin.{name}", (*before[key], widths[key]), bound) for name, key in INPUTS.items()
    }
    inputs["input.label"] = integers(seed, "itin.label", (b,), class_count)
    inputs["input.lengths"] = lengths
    with torch.device("meta"):  # no time spent on initial values
        head = Itin(config, widths, class_count)
    state = {
        name: torch.from_numpy(
            parameter(seed, f"{stream}.param.{golden_name(name, layered=stream == 'itin_code')}", value.shape)
        )
        for name, value in head.named_parameters()
    }
    head.load_state_dict(state, assign=True)
    return head.eval(), build_batch(GoldenFile(path=golden.path, values=inputs))
