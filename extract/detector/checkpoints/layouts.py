"""How others store the weights of this network, and how their tensors become ours. Arrays in, arrays out; no files.

Caffe (the origin) and MILVLG's port put the background first, have two logits per anchor, list anchors by ratio, and
predict boxes for the background too, with other units. Input channels are blue-green-red everywhere: nothing flips.

The rules follow from the code and the network descriptions of those projects: no trained file was at hand to compare.
Assumed of MILVLG: its anchors are what its file stores, its code adds one pixel to every width and height (it does, as
Caffe's), and where a file stores no anchors they are Caffe's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse.extract.detector.architecture import (
    ANCHORS_PER_CELL,
    PREDICTOR,
    Architecture,
    tensor_specs,
)
from sentifuse.extract.detector.boxes import CAFFE_BOXES, SIZES, cell_anchors, cell_anchors_of_caffe
from sentifuse.extract.detector.checkpoints.header import ANCHORS_KEY, COUNTER, MILVLG_NAMES, is_milvlg
from sentifuse.extract.detector.predictions import BOX_WEIGHTS

__all__ = [
    "ANCHORS_KEY",
    "COUNTER",
    "caffe_shapes",
    "from_caffe",
    "from_milvlg",
    "is_caffe",
    "is_milvlg",
    "milvlg_shapes",
    "split_layers",
]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
RPN = "proposal_generator.rpn_head"
RATIO_COUNT = len(CAFFE_BOXES)
# Place of our anchor (size * 3 + ratio) in theirs (ratio * 4 + size).
THEIR_ANCHOR = np.array([ratio * len(SIZES) + size for size in range(len(SIZES)) for ratio in range(RATIO_COUNT)])
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
CAFFE_BACKBONE = ("conv1", "bn_conv1", "scale_conv1", "res", "bn", "scale")  # how names of its layers begin


def is_caffe(layers: Sequence[str]) -> bool:
    """Whether the names of layers are those of the Caffe original."""
    return "rpn_conv/3x3" in layers


def milvlg_shapes(sizes: Architecture) -> dict[str, Shape]:
    """Shape of every tensor of MILVLG's file by its name there."""
    return {_milvlg_name(name): _their_shape(name, spec.shape) for name, spec in tensor_specs(sizes).items()}


def caffe_shapes(sizes: Architecture) -> dict[str, Shape]:
    """Shape of every array of the Caffe model, named as "layer[number]"."""
    ours = {name: spec.shape for name, spec in tensor_specs(sizes).items()}
    shapes: dict[str, Shape] = {}
    for conv, norm, scale, name in caffe_convolutions(sizes):
        shapes[f"{conv}[0]"] = ours[f"{name}.weight"]
        width = ours[f"{name}.norm.weight"]
        shapes |= {f"{norm}[0]": width, f"{norm}[1]": width, f"{norm}[2]": (1,)}
        shapes |= {f"{scale}[0]": width, f"{scale}[1]": width}
    for layer, name in CAFFE_HEADS.items():
        keys = [f"{name}.{part}" for part in ("weight", "bias") if f"{name}.{part}" in ours]
        shapes |= {f"{layer}[{number}]": _their_shape(key, ours[key]) for number, key in enumerate(keys)}
    return shapes


def from_milvlg(state: Mapping[str, Array]) -> dict[str, Array]:
    """Our tensors from MILVLG's, whose shapes are those of `milvlg_shapes`.

    Stored anchors say in which order the logits are; sorted by size and ratio both come out in ours.
    """
    anchors = state.get(ANCHORS_KEY)
    order = THEIR_ANCHOR if anchors is None else _by_size_and_ratio(anchors)
    ours = {name: _from_theirs(name, state[theirs], order) for theirs, name in _milvlg_names(state).items()}
    if anchors is None:
        ours[ANCHORS_KEY] = cell_anchors_of_caffe().numpy()
    else:
        ours[ANCHORS_KEY] = _anchors_from_milvlg(np.asarray(anchors, dtype=np.float32)[order])
    return ours


def split_layers(layers: Mapping[str, Sequence[Array]], sizes: Architecture) -> tuple[dict[str, Array], list[str]]:
    """The arrays of the detector as "layer[number]", and the names of layers that are none of its business.

    Old files write every array with four sides: leading ones are cut off where the network has fewer.
    """
    expected = caffe_shapes(sizes)
    ours = {name.partition("[")[0] for name in expected}
    arrays: dict[str, Array] = {}
    others = []
    for layer, blobs in layers.items():
        if layer not in ours and not layer.startswith(CAFFE_BACKBONE):
            others.append(layer)  # a head for something else changes nothing here; a longer backbone would
            continue
        for number, blob in enumerate(blobs):
            name = f"{layer}[{number}]"
            rank = len(expected.get(name, blob.shape))
            arrays[name] = blob.reshape(_without_leading_ones(blob.shape, rank))
    return arrays, others


def from_caffe(arrays: Mapping[str, Array], sizes: Architecture) -> dict[str, Array]:
    """Our tensors from the arrays of a Caffe model, whose shapes are those of `caffe_shapes`."""
    ours: dict[str, Array] = {}
    for conv, norm, scale, name in caffe_convolutions(sizes):
        ours[f"{name}.weight"] = arrays[f"{conv}[0]"]
        divisor = np.float32(float(arrays[f"{norm}[2]"][0]) or 1.0)
        ours[f"{name}.norm.running_mean"] = arrays[f"{norm}[0]"] / divisor
        ours[f"{name}.norm.running_var"] = arrays[f"{norm}[1]"] / divisor
        ours[f"{name}.norm.weight"], ours[f"{name}.norm.bias"] = arrays[f"{scale}[0]"], arrays[f"{scale}[1]"]
    for layer, name in CAFFE_HEADS.items():
        for number, part in enumerate(("weight", "bias")):
            if (value := arrays.get(f"{layer}[{number}]")) is not None:  # without attributes there are fewer
                ours[f"{name}.{part}"] = _from_theirs(f"{name}.{part}", value, THEIR_ANCHOR)
    ours[ANCHORS_KEY] = cell_anchors_of_caffe().numpy()
    return ours


_PLUS_ONE = np.array([0, 0, 1, 1], dtype=np.float32)


def _milvlg_name(name: str) -> str:
    for mine, theirs in MILVLG_NAMES.items():
        name = name.replace(f"{PREDICTOR}.{mine}.", f"{PREDICTOR}.{theirs}.")
    return name


def _milvlg_names(theirs: Mapping[str, Array]) -> dict[str, str]:
    """Our name for each of theirs."""
    names = {}
    for name in theirs:
        ours = name
        for mine, other in MILVLG_NAMES.items():
            ours = ours.replace(f"{PREDICTOR}.{other}.", f"{PREDICTOR}.{mine}.")
        names[name] = ours
    return names


def _their_shape(name: str, shape: Shape) -> Shape:
    """Shape that one of our tensors has in their files."""
    layer = _layer(name)
    if layer == "objectness_logits":
        return (2 * shape[0], *shape[1:])
    if layer == "bbox_pred":
        return (shape[0] + 4, *shape[1:])
    return shape


def _layer(name: str) -> str:
    return name.rpartition(".")[0].rpartition(".")[2]


def _from_theirs(name: str, value: Array, order: Array) -> Array:
    """One tensor in our order and units; `order` is the place of each of our anchors in theirs."""
    layer = _layer(name)
    if layer == "objectness_logits":  # of the background first: the differences order like their softmax
        logits: Array = (value[ANCHORS_PER_CELL:] - value[:ANCHORS_PER_CELL])[order]
        return logits
    if layer == "anchor_deltas":
        return value.reshape(ANCHORS_PER_CELL, 4, *value.shape[1:])[order].reshape(value.shape)
    rule = RULES.get(layer)
    return rule(value) if rule else value


def _by_size_and_ratio(anchors: Array) -> Array:
    """Place of each of our anchors among these: sizes are powers of two apart, ratios within one are sorted."""
    with np.errstate(all="ignore"):  # values that are no boxes give some order; they are refused later
        width = np.maximum(anchors[:, 2] - anchors[:, 0] + 1, 1e-3)
        height = np.maximum(anchors[:, 3] - anchors[:, 1] + 1, 1e-3)
        order: Array = np.lexsort([height / width, np.round(np.log2(width * height) / 2)])
    return order


def _anchors_from_milvlg(stored: Array) -> Array:
    """Anchors with the pixel that MILVLG's arithmetic adds to each width and height, unless they have it already."""
    for known in (cell_anchors_of_caffe().numpy(), cell_anchors().numpy()):
        if np.allclose(stored, known, atol=1e-3):  # written from ours: no file of theirs has these
            return np.asarray(known)
    widened: Array = stored + _PLUS_ONE
    return widened


def _first_to_last(value: Array) -> Array:
    return np.roll(value, -1, axis=0)


def _factors(value: Array) -> Array:
    """Their deltas are in units of the box; ours are ten and five times as large."""
    return np.tile(np.array(BOX_WEIGHTS, dtype=np.float32), len(value) // 4).reshape(-1, *[1] * (value.ndim - 1))


def _foreground_boxes(value: Array) -> Array:
    foreground = value[4:]
    scaled: Array = foreground * _factors(foreground)
    return scaled


# By layer. The background goes from the first row to the last.
RULES: dict[str, Callable[[Array], Array]] = {
    "cls_score": _first_to_last,
    "cls_embedding": _first_to_last,
    "attr_score": _first_to_last,
    "bbox_pred": _foreground_boxes,
}


def _without_leading_ones(shape: Shape, rank: int) -> Shape:
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return shape


def caffe_convolutions(sizes: Architecture) -> list[tuple[str, str, str, str]]:
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
