"""How others store the weights of this network, and how their tensors become ours. Arrays in, arrays out; no files.

Caffe (the origin) and MILVLG's port put the background first, have two logits per anchor, list anchors by ratio, and
predict boxes for the background too, with other units. Input channels are blue-green-red everywhere: nothing flips.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse.extract.detector.architecture import ANCHORS_PER_CELL, PREDICTOR, Architecture
from sentifuse.extract.detector.boxes import CAFFE_BOXES, SIZES, cell_anchors_of_caffe
from sentifuse.extract.detector.predictions import BOX_WEIGHTS
from sentifuse.extract.errors import ModelMismatch

__all__ = ["ANCHORS_KEY", "from_caffe", "from_milvlg", "is_caffe", "is_milvlg", "to_caffe", "to_milvlg"]

Array = npt.NDArray[Any]
ANCHORS_KEY = "proposal_generator.anchor_generator.cell_anchors.0"
RPN = "proposal_generator.rpn_head"
RATIO_COUNT = len(CAFFE_BOXES)
# Place of our anchor (size * 3 + ratio) in theirs (ratio * 4 + size).
THEIR_ANCHOR = np.array([ratio * len(SIZES) + size for size in range(len(SIZES)) for ratio in range(RATIO_COUNT)])
# MILVLG's names where they differ from ours.
MILVLG_NAMES = {"cls_embedding": "cls_embed", "fc_attr": "attr_linear1", "attr_score": "attr_linear2"}
# Layers of the heads with weight and bias, Caffe's name first.
CAFFE_HEADS = {
    "rpn_conv/3x3": f"{RPN}.conv",
    "rpn_cls_score": f"{RPN}.objectness_logits",
    "rpn_bbox_pred": f"{RPN}.anchor_deltas",
    "cls_score": f"{PREDICTOR}.cls_score",
    "bbox_pred": f"{PREDICTOR}.bbox_pred",
    "cls_embedding": f"{PREDICTOR}.cls_embedding",
    "fc_attr": f"{PREDICTOR}.fc_attr",
    "attr_score": f"{PREDICTOR}.attr_score",
}


def is_milvlg(names: Sequence[str]) -> bool:
    """Whether the names of a state dict are those of MILVLG's port."""
    return any(f".{theirs}." in name for name in names for theirs in MILVLG_NAMES.values())


def is_caffe(names: Sequence[str]) -> bool:
    """Whether the names of layers are those of the Caffe original."""
    return "rpn_conv/3x3" in names


def from_milvlg(state: Mapping[str, Array]) -> dict[str, Array]:
    """Our tensors from MILVLG's."""
    ours = {}
    for key, value in state.items():
        name = key
        for mine, theirs in MILVLG_NAMES.items():
            name = name.replace(f".{theirs}.", f".{mine}.")
        ours[name] = _from_theirs(name, np.asarray(value))
    if ANCHORS_KEY in ours:
        ours[ANCHORS_KEY] = _anchors_from_theirs(ours[ANCHORS_KEY])
    else:
        ours[ANCHORS_KEY] = cell_anchors_of_caffe().numpy()
    return ours


def to_milvlg(state: Mapping[str, Array]) -> dict[str, Array]:
    """The way back, as far as it goes: the background's own boxes, which we do not have, become zeros."""
    theirs = {}
    for key, value in state.items():
        name = key
        for mine, other in MILVLG_NAMES.items():
            name = name.replace(f"{PREDICTOR}.{mine}.", f"{PREDICTOR}.{other}.")
        theirs[name] = _to_theirs(key, value)
    if ANCHORS_KEY in theirs:
        is_caffes = np.array_equal(state[ANCHORS_KEY], cell_anchors_of_caffe().numpy())
        theirs[ANCHORS_KEY] = _by_ratio(state[ANCHORS_KEY]) - (_PLUS_ONE if is_caffes else 0)
    return theirs


def from_caffe(layers: Mapping[str, Sequence[Array]], sizes: Architecture, *, where: str) -> dict[str, Array]:
    """Our tensors from the layers of a Caffe model.

    Raises
    ------
    ModelMismatch
        A layer is missing, or has fewer arrays than its kind.
    """

    def take(layer: str, count: int) -> Sequence[Array]:
        found = layers.get(layer, ())
        if len(found) < count:
            raise ModelMismatch(
                f"{where}: layer {layer!r} has {len(found)} arrays, expected {count}: not the network of "
                "bottom-up-attention with ResNet-101?"
            )
        return found

    ours: dict[str, Array] = {}
    for conv, norm, scale, name in _caffe_convolutions(sizes):
        ours[f"{name}.weight"] = take(conv, 1)[0]
        mean, variance, factor = take(norm, 3)[:3]
        divisor = float(factor.reshape(-1)[0]) or 1.0
        ours[f"{name}.norm.running_mean"] = mean.reshape(-1) / np.float32(divisor)
        ours[f"{name}.norm.running_var"] = variance.reshape(-1) / np.float32(divisor)
        ours[f"{name}.norm.weight"], ours[f"{name}.norm.bias"] = (part.reshape(-1) for part in take(scale, 2)[:2])
    for layer, name in CAFFE_HEADS.items():
        if layer in ("cls_embedding", "fc_attr", "attr_score") and layer not in layers:
            continue  # trained without attributes
        parts = ("weight",) if layer == "cls_embedding" else ("weight", "bias")
        for part, value in zip(parts, take(layer, len(parts)), strict=False):
            # Old files write every array with four sides; a vector's others are 1.
            flat = value.reshape(-1) if part == "bias" else value.reshape(_trimmed(value, name))
            ours[f"{name}.{part}"] = _from_theirs(f"{name}.{part}", flat)
    ours[ANCHORS_KEY] = cell_anchors_of_caffe().numpy()
    return ours


def to_caffe(state: Mapping[str, Array], sizes: Architecture) -> dict[str, list[Array]]:
    """The way back, for tests: norms with factor 1. Anchors are not stored there; they must be Caffe's."""
    layers: dict[str, list[Array]] = {}
    for conv, norm, scale, name in _caffe_convolutions(sizes):
        layers[conv] = [state[f"{name}.weight"]]
        statistics = [state[f"{name}.norm.running_mean"], state[f"{name}.norm.running_var"]]
        layers[norm] = [*statistics, np.ones(1, dtype=np.float32)]
        layers[scale] = [state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]]
    for layer, name in CAFFE_HEADS.items():
        keys = [f"{name}.{part}" for part in ("weight", "bias") if f"{name}.{part}" in state]
        if keys:
            layers[layer] = [_to_theirs(key, state[key]) for key in keys]
    return layers


_PLUS_ONE = np.array([0, 0, 1, 1], dtype=np.float32)


def _from_theirs(name: str, value: Array) -> Array:
    """One tensor of the heads in our order and units; others pass."""
    rule = _rule(name)
    return rule[0](value) if rule else value


def _to_theirs(name: str, value: Array) -> Array:
    rule = _rule(name)
    return rule[1](value) if rule else value


Change = Callable[[Array], Array]


def _rule(name: str) -> tuple[Change, Change] | None:
    layer = name.rpartition(".")[0].rpartition(".")[2]
    return {
        "objectness_logits": (_one_logit, _two_logits),
        "anchor_deltas": (_deltas_by_size, _deltas_by_ratio),
        "cls_score": (_first_to_last, _last_to_first),
        "cls_embedding": (_first_to_last, _last_to_first),
        "attr_score": (_first_to_last, _last_to_first),
        "bbox_pred": (_foreground_boxes, _all_boxes),
    }.get(layer)


def _one_logit(value: Array) -> Array:
    """12 logits of the background, then 12 of an object → their differences, which order like the softmax."""
    if len(value) != 2 * ANCHORS_PER_CELL:
        raise ModelMismatch(f"objectness has {len(value)} channels, expected {2 * ANCHORS_PER_CELL} in this layout")
    difference: Array = value[ANCHORS_PER_CELL:] - value[:ANCHORS_PER_CELL]
    by_size: Array = difference[THEIR_ANCHOR]
    return by_size


def _two_logits(value: Array) -> Array:
    by_ratio = _by_ratio(value)
    return np.concatenate([np.zeros_like(by_ratio), by_ratio])


def _deltas_by_size(value: Array) -> Array:
    by_size: Array = value.reshape(ANCHORS_PER_CELL, 4, *value.shape[1:])[THEIR_ANCHOR]
    return by_size.reshape(value.shape)


def _deltas_by_ratio(value: Array) -> Array:
    return _by_ratio(value.reshape(ANCHORS_PER_CELL, 4, *value.shape[1:])).reshape(value.shape)


def _by_ratio(value: Array) -> Array:
    """Rows in our order of anchors, in theirs."""
    by_ratio: Array = value[np.argsort(THEIR_ANCHOR)]
    return by_ratio


def _first_to_last(value: Array) -> Array:
    return np.roll(value, -1, axis=0)


def _last_to_first(value: Array) -> Array:
    return np.roll(value, 1, axis=0)


def _factors(value: Array) -> Array:
    """Their deltas are in units of the box; ours are ten and five times as large."""
    return np.tile(np.array(BOX_WEIGHTS, dtype=np.float32), len(value) // 4).reshape(-1, *[1] * (value.ndim - 1))


def _foreground_boxes(value: Array) -> Array:
    foreground = value[4:]
    scaled: Array = foreground * _factors(foreground)
    return scaled


def _all_boxes(value: Array) -> Array:
    scaled = value / _factors(value)
    return np.concatenate([np.zeros_like(scaled[:4]), scaled])


def _anchors_from_theirs(value: Array) -> Array:
    """Caffe's own anchors get the "+1" their arithmetic adds to a width; any others are taken as they are."""
    ours = np.asarray(value, dtype=np.float32).reshape(ANCHORS_PER_CELL, 4)[THEIR_ANCHOR]
    caffe = cell_anchors_of_caffe().numpy()
    return caffe if np.allclose(ours + _PLUS_ONE, caffe, atol=1e-3) else ours


def _trimmed(value: Array, name: str) -> tuple[int, ...]:
    """Shape without the leading ones that old files put before a matrix."""
    rank = 4 if name.startswith(RPN) else 2
    return value.shape[value.ndim - rank :] if value.ndim > rank else value.shape


def _caffe_convolutions(sizes: Architecture) -> list[tuple[str, str, str, str]]:
    """Caffe's layers of convolution, norm and scale, and our name, for all of them."""
    found = [("conv1", "bn_conv1", "scale_conv1", "backbone.stem.conv1")]
    branches = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}
    for stage in (2, 3, 4, 5):
        depth = sizes.depths[stage - 2]
        prefix = "roi_heads.res5" if stage == 5 else f"backbone.res{stage}"
        for block in range(depth):
            is_numbered = stage in (3, 4) and block > 0  # a, b1, b2 ... there; a, b, c in the others
            letter = f"b{block}" if is_numbered else "abcdefgh"[block]
            for ours, theirs in branches.items():
                if ours == "shortcut" and block:
                    continue
                part = f"{stage}{letter}_{theirs}"
                found.append((f"res{part}", f"bn{part}", f"scale{part}", f"{prefix}.{block}.{ours}"))
    return found
