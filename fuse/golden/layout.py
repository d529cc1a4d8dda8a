"""Which arrays a golden file of each kind has, and of what shape: looked at before anything is computed.

Sizes are those of the file; an array that is missing, too many, of another shape or type is refused by its name.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from sentifuse import DataError
from sentifuse.fuse.golden.file import HINT, Array, GoldenFile
from sentifuse.fuse.heads.ctmwa_network import BACKBONE, CALLS, WEIGHT_NETS

__all__ = ["HYPER", "LAYOUTS", "Shapes", "check_layout", "steps_of"]

# Shapes: B pairs, m regions, n words, K classes, d shared width, h width of an MLP; other letters as in the heads.

Shapes = dict[str, tuple[int, ...]]

TRANSLATION = ("trans_ti", "trans_it", "trans_tit", "trans_iti")
RATES = ("inner_lr", "lr", "wnet_lr", "weight_decay")
SHARES = ("beta1", "dropout")
HYPER = (*RATES, *TRANSLATION, *SHARES, "input_scale")
SIDES = ("joint", "text", "image")
INIT_BATCHES = {"train0", "train1", "train2", "meta0", "meta1"}


def check_layout(kind: str, golden: GoldenFile) -> None:
    """Compare the names, shapes and types of all arrays with those of the kind.

    Raises
    ------
    DataError
        An array is missing, too many, of another shape or type, or an integer or setting is out of its range.
    """
    expected = LAYOUTS[kind](golden)
    for name, shape in expected.items():
        found = golden.array(name)
        wanted = _dtype(name)
        if found.shape != shape or found.dtype != wanted:
            raise DataError(
                f"{golden.path}: expected {name!r} as {wanted} of shape {shape}, "
                f"found {found.dtype} of shape {found.shape}. {HINT}"
            )
        if not found.size:
            raise DataError(f"{golden.path}: expected numbers in {name!r}, found shape {shape}. {HINT}")
    unknown = sorted(golden.values.keys() - expected)
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise DataError(
            f"{golden.path}: expected the arrays of kind {kind} alone, found {unknown[0]!r}{more}, which nothing here "
            f"could verify. {HINT}"
        )
    _check_ranges(golden, expected)


def steps_of(golden: GoldenFile) -> range:
    """The numbers of the steps in a file of CTMWA's steps: all from 1 to the last."""
    heads = {name.partition(".")[0] for name in golden.values}  # one with a number beyond all counts is no step
    return range(1, max((i for i in range(1, len(golden.values) + 1) if f"step{i}" in heads), default=0) + 1)


def _itin_paper(golden: GoldenFile) -> Shapes:
    b, m, n, inputs = _itin_inputs(golden, has_lengths=True)
    d, k, h, class_count = _itin_widths(golden)
    parameters = {
        **_recurrent("word_gru", 3, inputs["input.words"][-1], d),
        "align.region.weight": (k, d),
        "align.text.weight": (k, d),
        "fuse.bias": (d,),
        **_itin_common(golden, d, h, class_count, pool_heads=1),
    }
    values: Shapes = {
        **dict.fromkeys(("r", "U", "o", "z"), (b, m, d)),
        **dict.fromkeys(("A", "A_norm"), (b, m, n)),
        **dict.fromkeys(("C", "S"), (b, d)),
        **dict.fromkeys(("F1", "F2", "F"), (b, h)),
        **dict.fromkeys(("logits", "prob"), (b, class_count)),
        "w": (b, n, d),
        "c": (b, m, 2 * d),
        "alpha": (b, m),
        "loss_per_sample": (b,),
        "loss": (),
        **_under("grad.", parameters),
    }
    gates = {"scalar": (b, m), "vector": (b, m, d)}
    of_gates = [_under(f"{gate}.", values | {"g": shape}) for gate, shape in gates.items()]
    return {**inputs, **_under("param.", parameters), **of_gates[0], **of_gates[1]}


def _itin_code(golden: GoldenFile) -> Shapes:
    b, m, n, inputs = _itin_inputs(golden, has_lengths=False)
    d, k, h, class_count = _itin_widths(golden)
    pool_heads = golden.array("param.pool.linear2.bias", 1).shape[0]
    parameters = {
        **{
            name: shape
            for gru in ("word_gru", "context_gru")
            for layer, width in (("layer0", inputs["input.words"][-1]), ("layer1", 2 * d))
            for name, shape in _recurrent(f"{gru}.{layer}", 3, width, d).items()
        },
        "align.region.weight": (k, d),
        "align.text.weight": (k, d),
        "regroup.query.weight": (d, d),
        "regroup.key.weight": (d, d),
        **_itin_common(golden, d, h, class_count, pool_heads=pool_heads),
    }
    values: Shapes = {
        **dict.fromkeys(("region", "text_message", "regrouped_message", "o", "z"), (b, m, d)),
        **dict.fromkeys(("C", "S"), (b, d)),
        **dict.fromkeys(("F1", "F2"), (b, h)),
        "word": (b, n, d),
        "align_weights": (b, m, n),
        "gate": (b, m),
        "c": (b, m, 2 * d),
        "pool_weights": (b, pool_heads, m),
        "logits": (b, class_count),
        "loss": (),
    }
    return {**inputs, **_under("param.", parameters), **_under("out.", values), **_under("grad.", parameters)}


def _itin_inputs(golden: GoldenFile, *, has_lengths: bool) -> tuple[int, int, int, Shapes]:
    """B, m, n and the inputs."""
    b, m, region_width = golden.array("input.regions", 3).shape
    _, n, word_width = golden.array("input.words", 3).shape
    context_width = golden.array("input.context", 2).shape[1]
    inputs: Shapes = {
        "input.regions": (b, m, region_width),
        "input.words": (b, n, word_width),
        "input.context": (b, context_width),
        "input.label": (b,),
    }
    return b, m, n, inputs | ({"input.lengths": (b,)} if has_lengths else {})


def _itin_widths(golden: GoldenFile) -> tuple[int, int, int, int]:
    """d, k, h, K."""
    k, d = golden.array("param.align.region.weight", 2).shape
    class_count, h = golden.array("param.classifier.weight", 2).shape
    return d, k, h, class_count


def _itin_common(golden: GoldenFile, d: int, h: int, class_count: int, *, pool_heads: int) -> Shapes:
    return {
        **_linear("region", golden.array("input.regions", 3).shape[2], d),
        "fuse.weight": (d, 2 * d),
        **_linear("pool.linear1", d, d),
        **_linear("pool.linear2", d, pool_heads),
        **_linear("visual_mlp", golden.array("input.context", 2).shape[1] + d, h),
        **_linear("textual_mlp", 2 * d, h),
        **_linear("classifier", h, class_count),
    }


def _rnn_ca(golden: GoldenFile) -> Shapes:
    b, n, word_width = golden.array("input.words", 3).shape
    image_width = golden.array("input.image", 2).shape[1]
    expected: Shapes = {
        "input.words": (b, n, word_width),
        "input.image": (b, image_width),
        "input.lengths": (b,),
        "input.label": (b,),
    }
    for cell, gates in (("lstm", 4), ("gru", 3)):
        u = golden.array(f"{cell}.param.{cell}.forward.w_hidden", 2).shape[1]
        a = golden.array(f"{cell}.param.attention.hidden.bias", 1).shape[0]
        class_count = golden.array(f"{cell}.param.classifier.bias", 1).shape[0]
        parameters = {
            **_recurrent(cell, gates, word_width, u),
            **_linear("image", image_width, 2 * u),
            **_linear("attention.hidden", 2 * u, a),
            "attention.score.weight": (1, a),
            **_linear("classifier", 2 * u, class_count),
        }
        values: Shapes = {
            **dict.fromkeys(("image", "attended", "sentence"), (b, 2 * u)),
            **dict.fromkeys(("loss", "loss_class", "loss_rank"), ()),
            "h": (b, n, 2 * u),
            "attention": (b, n + 1),
            "logits": (b, class_count),
            "similarity": (b, b),
        }
        for group, shapes in (("param", parameters), ("out", values), ("grad", parameters)):
            expected |= _under(f"{cell}.{group}.", shapes)
    return expected


def _ctmwa_init(golden: GoldenFile) -> Shapes:
    parameters = _ctmwa_parameters(golden, "param.")
    b, text = golden.array("train0.text", 2).shape
    image = golden.array("train0.image", 2).shape[1]
    class_count = golden.array("param.text_classifier.linear2.bias", 1).shape[0]
    expected = _under("param.", parameters)
    more = {name.partition(".")[0] for name in golden.values if name.startswith(("train", "meta"))}
    for batch in sorted(more | INIT_BATCHES):
        pairs = golden.array(f"{batch}.label", 1).shape[0]
        labels = ("label",) if batch.startswith("train") else ("label", "text_label", "image_label")
        expected |= {f"{batch}.text": (pairs, text), f"{batch}.image": (pairs, image)}
        expected |= {f"{batch}.{label}": (pairs,) for label in labels}
    values: Shapes = {
        **_pass(b, class_count),
        **dict.fromkeys(("text_encoded", "text_cycle", "text_from_image"), (b, text)),
        **dict.fromkeys(("image", "image_cycle", "image_from_text"), (b, image)),
        **dict.fromkeys(("fusion_text", "fusion_image"), (b, text + image)),
    }
    missing = (
        "missing_text.proposal.logits_joint",
        "missing_text.unimodal.logits_image",
        "missing_image.proposal.logits_joint",
        "missing_image.unimodal.logits_text",
    )
    return expected | _under("forward.", values) | dict.fromkeys(missing, (b, class_count))


def _ctmwa_steps(golden: GoldenFile) -> Shapes:
    steps = steps_of(golden)
    last = next((step for step in reversed(steps) if golden.names(f"step{step}.params.")), 1)
    parameters = _ctmwa_parameters(golden, f"step{last}.params.")
    nets = {name: shape for name, shape in parameters.items() if name.startswith(WEIGHT_NETS)}
    b, class_count = golden.array("step1.virtual.logits_joint", 2).shape
    meta_pairs = golden.array("step1.meta.logits_joint", 2).shape[0]
    expected: Shapes = {f"hyper.{name}": () for name in HYPER}
    for step in steps:
        in_all: dict[str, Shapes] = {
            "virtual.": _pass(b, class_count),
            "meta.": {
                **{f"logits_{side}": (meta_pairs, class_count) for side in SIDES},
                **{f"ce_{side}": () for side in SIDES},
                "total": (),
            },
            "real.": _pass(b, class_count),
            "meta_grad_norm.": dict.fromkeys(nets, ()),
            "grad_norm_before_clip.": dict.fromkeys(BACKBONE, ()),
        }
        in_some: dict[str, Shapes] = {
            "meta_grad.": nets,
            "params.": parameters,
            "virtual_params.": {name: shape for name, shape in parameters.items() if name not in nets},
        }
        for group, shapes in (in_all | in_some).items():
            prefix = f"step{step}.{group}"
            if group in in_all or golden.names(prefix):
                expected |= _under(prefix, shapes)
        # Without dropout nothing is dropped, with or without masks.
        if golden.names("mask.") or golden.array("hyper.dropout", 0) > 0:
            for which, pairs in (("virtual", b), ("meta", meta_pairs), ("real", b)):
                expected |= {f"mask.step{step - 1}.{which}.{call}": (pairs, 2) for call in CALLS}
    if not any(".meta_grad." in name for name in expected):
        # Adam's first steps are about ± its rate whatever the gradient: without meta-gradients little is verified.
        expected |= _under("step1.meta_grad.", nets)
    return expected


def _ctmwa_parameters(golden: GoldenFile, prefix: str) -> Shapes:
    def size(name: str) -> int:
        units: int = golden.array(f"{prefix}{name}.bias", 1).shape[0]
        return units

    text, image = size("text_encoder"), size("text_to_image.output")
    e, class_count = size("text_neck.linear2"), size("text_classifier.linear2")
    expected = _linear("text_encoder", text, text)
    for name, width, units in (("image_to_text", image, text), ("text_to_image", text, image)):
        expected |= _linear(f"{name}.hidden", width, units)
        expected |= _linear(f"{name}.value", units, 2 * units)
        expected |= _linear(f"{name}.output", 2 * units, units)
    blocks = {
        "text_neck": (text + image, (text + image + e) // 2, e),
        "image_neck": (text + image, (text + image + e) // 2, e),
        "joint_classifier": (2 * e, (2 * e + class_count) // 2, class_count),
        "text_classifier": (e, (e + class_count) // 2, class_count),
        "image_classifier": (e, (e + class_count) // 2, class_count),
        **dict.fromkeys(WEIGHT_NETS, (3 * class_count + text + image, size("text_weight_net.linear1"), 1)),
    }
    for name, (width, middle, units) in blocks.items():
        expected |= _linear(f"{name}.linear1", width, middle) | _linear(f"{name}.linear2", middle, units)
    return expected


def _pass(b: int, class_count: int) -> Shapes:
    """What a file has of a virtual or real pass."""
    sums = ("l1_text_cycle", "l1_image_cycle", "l1_text_from_image", "l1_image_from_text")
    return {
        **dict.fromkeys((*sums, "translation", "weighted_text", "weighted_image", "total"), ()),
        **{f"ce_{side}": (b,) for side in SIDES},
        **{f"logits_{side}": (b, class_count) for side in SIDES},
        "weight_text": (b,),
        "weight_image": (b,),
    }


def _linear(name: str, width: int, units: int) -> Shapes:
    return {f"{name}.weight": (units, width), f"{name}.bias": (units,)}


def _recurrent(name: str, gates: int, width: int, hidden: int) -> Shapes:
    one: Shapes = {
        "w_input": (gates * hidden, width),
        "w_hidden": (gates * hidden, hidden),
        "b_input": (gates * hidden,),
        "b_hidden": (gates * hidden,),
    }
    return _under(f"{name}.forward.", one) | _under(f"{name}.backward.", one)


def _under(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


LAYOUTS: dict[str, Callable[[GoldenFile], Shapes]] = {
    "itin_paper": _itin_paper,
    "itin_code": _itin_code,
    "ctmwa_init": _ctmwa_init,
    "ctmwa_steps": _ctmwa_steps,
    "rnn_ca": _rnn_ca,
}


def _dtype(name: str) -> np.dtype[np.generic]:
    if name.endswith(("label", "lengths")):
        return np.dtype(np.int64)
    return np.dtype(np.uint8 if name.startswith("mask.") else np.float64)


def _check_ranges(golden: GoldenFile, names: Iterable[str]) -> None:
    """Whole numbers and settings that would stop a computation instead of changing its result."""
    counts = [golden.values[name].shape[-1] for name in golden.values if name.endswith(("logits", "logits_joint"))]
    for name in names:
        values = golden.array(name)
        if name.endswith("label"):
            _check_range(golden, name, values, 0, counts[0] - 1)
        elif name.endswith("lengths"):
            _check_range(golden, name, values, 1, golden.array("input.words", 3).shape[1])
        elif name.startswith("mask."):
            _check_range(golden, name, values, 0, 1)
        elif name.startswith("hyper."):
            setting = name.removeprefix("hyper.")
            least = 0.0 if setting in (*RATES, *SHARES) else -math.inf
            most = math.nextafter(1.0, 0.0) if setting in SHARES else math.inf
            _check_range(golden, name, np.where(np.isfinite(values), values, np.nan), least, most)


def _check_range(golden: GoldenFile, name: str, values: Array, least: float, most: float) -> None:
    wrong = values[~((values >= least) & (values <= most))]  # a NaN is in no range
    if wrong.size:
        raise DataError(
            f"{golden.path}: expected numbers from {least} to {most} in {name!r}, found {wrong.flat[0]}. {HINT}"
        )
