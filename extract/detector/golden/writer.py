"""Writes files of golden numbers: what the plain network gives in float64 for an image and the weights of a seed.

| field | meaning |
|---|---|
| `image`, `seed`, `orig_hw`, `net_hw` | file name of the image, seed of the weights, sizes |
| `at_X`, `val_X`, `stat_X` for every map X | places (c, y, x), the values there; (C, H, W, mean, std, largest) |
| `prop_anchor`, `prop_box`, `prop_logit` | the proposals in order: anchor, box in network pixels, logit |
| `roi_rows`, `at_roi`, `val_roi` | proposals whose crops are sampled; places (index into the rows, c, y, x); values |
| `top5_id`, `top5_p`, `bg_p`, `argmax_all`, `logit_max` | of each proposal: best classes, background, argmax of all |
| `delta_top1` | the raw deltas of the best class |
| `attr_id_all`, `attr_p_all` | attribute, for the embedding of `argmax_all` |
| `feat_head`, `feat_norm`, `max_conf` | first values and length of the feature; confidence of the adaptive rule |
| `f36_row`, `_cls`, `_score`, `_box_net`, `_box`, `_box_norm`, `_attr`, `_attr_p`, `_nms`, `_feat` | rule fixed36 |
| `ada_row`, `c36_row` | rows of the rules adaptive and caffe36 |
| `*_stable`, `*_robust` | decisions that survive twice float32's rounding, or that of a bfloat16 backbone |
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sentifuse.data.images import read_image
from sentifuse.extract.detector.architecture import VISUAL_GENOME, Architecture
from sentifuse.extract.detector.boxes import anchor_grid, apply_deltas, scale_boxes
from sentifuse.extract.detector.golden.file import MAPS, Array
from sentifuse.extract.detector.golden.rule import is_smooth, synthetic_weights
from sentifuse.extract.detector.network import PlainNetwork, build_network
from sentifuse.extract.detector.predictions import Classes, predict_attributes, predict_boxes, predict_classes
from sentifuse.extract.detector.preprocess import PreparedImage, prepare, to_tensor
from sentifuse.extract.detector.proposals import Proposals
from sentifuse.extract.detector.selection import confidences, select_adaptive, select_best, select_fixed
from sentifuse.extract.detector.stages import STRIDE

__all__ = ["write_golden"]

# Shapes: R proposals, m regions, D feature width.
SAMPLES, CROP_SAMPLES, CROPS = 200, 400, 5
CRITICAL_CELLS = (29, 57, 58, 62)  # sides whose fourteenths float32 and float64 round to other cells
TRIALS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noise:
    """Root mean squares of what is added before a decision is taken again."""

    logit: float
    proposal_px: float
    box_px: float
    class_logit: float
    attribute_logit: float


BFLOAT16 = _Noise(
    logit=0.07, proposal_px=1.7, box_px=1.7, class_logit=0.03, attribute_logit=0.03
)  # of a backbone in that type


def write_golden(
    file: Path,
    image: Path,
    *,
    seed: int,
    sizes: Architecture = VISUAL_GENOME,
    state: Mapping[str, Tensor] | None = None,
    head_values: int = 64,
    trials: int = TRIALS,
) -> None:
    """Compute and write the golden numbers of an image; as `read_golden` reads them.

    Takes some minutes and 4 GB for the network in its real size.

    Parameters
    ----------
    state
        The weights, if they are not those of the seed as they stand.
    head_values
        How many values of every proposal's feature are kept.
    trials
        How often every decision is taken again with noise.
    """
    if state is None:
        state = {key: torch.from_numpy(value) for key, value in synthetic_weights(seed, sizes).items()}
    with torch.inference_mode():
        prepared = prepare(read_image(image))
        true = _Pass(build_network(state, sizes, dtype=torch.float64), prepared)
        rounded = _Pass(build_network(state, sizes, dtype=torch.float32), prepared)
        values: dict[str, Array] = {
            "image": np.array(image.name),
            "seed": np.array(seed),
            "orig_hw": np.array(prepared.original_hw),
            "net_hw": np.array(prepared.net_hw),
        }
        random = np.random.default_rng(seed)
        values |= dict(_maps(true, random))
        values |= dict(_proposals(true, random, head_values))
        values |= dict(_selections(true))
        noise = _rounding(true, rounded)
        values |= dict(_decisions(true, values, noise, "stable", random, trials))
        if is_smooth(seed):
            values |= dict(_decisions(true, values, BFLOAT16, "robust", random, trials))
    np.savez_compressed(file, **values)  # type: ignore[arg-type]  # numpy's stub knows no mapping of arrays


class _Pass:
    """Everything one network computes of one image; later stages on `boxes` if given, else on its own proposals."""

    def __init__(self, net: PlainNetwork, prepared: PreparedImage, boxes: Tensor | None = None) -> None:
        self.net, self.prepared = net, prepared
        pixels = to_tensor(prepared, device="cpu", dtype=net.dtype)
        self.maps = {"input": pixels, **net.backbone(pixels)}
        self.maps["rpn_logits"], self.maps["rpn_deltas"] = net.proposal_head(self.maps["res4"])
        self.proposals = self.choose(self.maps["rpn_logits"], self.maps["rpn_deltas"])
        self.features = net.features(self.maps["res4"], self.proposals.boxes)
        self.class_logits = net.class_logits(self.features)
        self.classes: Classes = predict_classes(net, self.features)
        self.moved = predict_boxes(net, self.features, self.classes.ids, self.proposals.boxes, prepared.net_hw)
        self.in_original = scale_boxes(self.proposals.boxes, prepared.net_hw, prepared.original_hw)

    def choose(self, logits: Tensor, deltas: Tensor) -> Proposals:
        """Proposals of these outputs."""
        return Proposals.choose(logits, deltas, self.net.cell_anchors, self.prepared.net_hw)

    def every_box(self) -> Tensor:
        """All anchors, moved: (h * w * 12, 4)."""
        height, width = self.maps["rpn_deltas"].shape[2:]
        deltas = self.maps["rpn_deltas"][0].view(-1, 4, height, width).permute(2, 3, 0, 1).reshape(-1, 4)
        return apply_deltas(deltas, anchor_grid(self.net.cell_anchors.to(deltas.dtype), height, width))

    def attribute_logits(self) -> Tensor:
        """(R, attributes + 1)."""
        return self.net.attribute_logits(self.features, self.classes.ids_of_all)


def _maps(true: _Pass, random: np.random.Generator) -> Iterator[tuple[str, Array]]:
    for name in MAPS:
        values = true.maps[name][0].numpy()
        places = _places(values.shape, SAMPLES, random)
        yield f"at_{name}", places
        yield f"val_{name}", values[tuple(places.T)]
        statistics = (values.mean(), values.std(), np.abs(values).max())
        yield f"stat_{name}", np.array([*values.shape, *statistics])


def _places(shape: tuple[int, ...], count: int, random: np.random.Generator) -> Array:
    """Places in an array (…, y, x); of every eight two lie on its border, where what is padded shows first."""
    places = random.integers(0, shape, (count, len(shape)))
    last = np.array(shape) - 1
    places[0::8, -1] = last[-1]
    places[4::8, -2] = last[-2]
    return places.astype(np.int32)


def _proposals(true: _Pass, random: np.random.Generator, head_values: int) -> Iterator[tuple[str, Array]]:
    found, net = true.proposals, true.net
    yield "prop_anchor", found.anchors.numpy().astype(np.int32)
    yield "prop_box", found.boxes.numpy()
    yield "prop_logit", found.logits.numpy()
    rows = _rows_to_sample(found.boxes.numpy())
    crops = net.pooled(true.maps["res4"], found.boxes[torch.from_numpy(rows)]).numpy()
    places = random.integers(0, crops.shape, (CROP_SAMPLES if len(rows) else 0, 4)).astype(np.int32)
    yield "roi_rows", rows
    yield "at_roi", places
    yield "val_roi", crops[tuple(places.T)]
    best = torch.topk(true.classes.probabilities, 5, dim=1)
    yield "top5_id", best.indices.numpy().astype(np.int16)
    yield "top5_p", best.values.numpy()
    yield "bg_p", true.classes.background.numpy()
    yield "argmax_all", true.classes.ids_of_all.numpy().astype(np.int16)
    yield "logit_max", true.class_logits.amax(dim=1).numpy()
    yield "delta_top1", net.class_deltas(true.features, best.indices[:, 0]).numpy()
    yield "feat_head", true.features[:, :head_values].numpy().astype(np.float32)
    yield "feat_norm", true.features.norm(dim=1).numpy()
    yield "max_conf", confidences(true.in_original, true.classes.probabilities, 0.0).numpy()
    if net.has_attributes:
        ids, scores = predict_attributes(net, true.features, true.classes.ids_of_all)
        yield "attr_id_all", ids.numpy().astype(np.int16)
        yield "attr_p_all", scores.numpy()


def _rows_to_sample(boxes: Array) -> Array:
    """A few proposals from the first to the last, and one whose bins depend on the arithmetic, if there is one."""
    rows = np.linspace(0, len(boxes) - 1, CROPS).astype(np.int64) if len(boxes) else np.zeros(0, dtype=np.int64)
    corners = np.floor(boxes / STRIDE + 0.5)
    cells = corners[:, 2:] - corners[:, :2] + 1
    critical = np.flatnonzero(np.isin(cells, CRITICAL_CELLS).any(axis=1))[:1]
    return np.unique(np.concatenate([rows, critical]))


def _selections(true: _Pass) -> Iterator[tuple[str, Array]]:
    net, classes, prepared = true.net, true.classes, true.prepared
    chosen = select_fixed(true.moved, classes.scores)
    rows = chosen.rows
    boxes = scale_boxes(true.moved[rows], prepared.net_hw, prepared.original_hw)
    width, height = prepared.size
    yield "f36_row", rows.numpy().astype(np.int16)
    yield "f36_cls", classes.ids[rows].numpy().astype(np.int16)
    yield "f36_score", classes.scores[rows].numpy()
    yield "f36_box_net", true.moved[rows].numpy()
    yield "f36_box", boxes.numpy()
    yield "f36_box_norm", (boxes / torch.tensor([width, height, width, height])).numpy()
    yield "f36_nms", np.array(chosen.overlap)
    yield "f36_feat", true.features[rows].numpy().astype(np.float32)
    if net.has_attributes:
        ids, scores = predict_attributes(net, true.features[rows], classes.ids_of_all[rows])
        yield "f36_attr", ids.numpy().astype(np.int16)
        yield "f36_attr_p", scores.numpy()
    yield "ada_row", select_adaptive(true.in_original, classes.probabilities).rows.numpy().astype(np.int16)
    yield "c36_row", select_best(true.in_original, classes.probabilities).rows.numpy().astype(np.int16)


def _rounding(true: _Pass, rounded: _Pass) -> _Noise:
    """Twice what float32 was off by."""
    boxes = true.proposals.boxes.float()  # of both, or other proposals would be compared
    features = rounded.net.features(rounded.maps["res4"], boxes)
    ids = true.classes.ids
    moved = predict_boxes(rounded.net, features, ids, boxes, rounded.prepared.net_hw)
    pairs = [
        (rounded.maps["rpn_logits"], true.maps["rpn_logits"]),
        (rounded.every_box(), true.every_box()),
        (moved, true.moved),
        (rounded.net.class_logits(features), true.class_logits),
    ]
    if true.net.has_attributes:
        pairs.append((rounded.net.attribute_logits(features, true.classes.ids_of_all), true.attribute_logits()))
    rms = [float((ours.double() - theirs).square().mean().sqrt()) if theirs.numel() else 0.0 for ours, theirs in pairs]
    return _Noise(
        logit=2 * rms[0],
        proposal_px=2 * rms[1],
        box_px=2 * rms[2],
        class_logit=2 * rms[3],
        attribute_logit=2 * rms[4] if rms[4:] else 0.0,
    )


def _decisions(
    true: _Pass, values: dict[str, Array], noise: _Noise, flag: str, random: np.random.Generator, trials: int
) -> Iterator[tuple[str, Array]]:
    """Which decisions come out the same in every trial with noise."""
    proposals = np.ones((2, len(values["prop_anchor"])), dtype=bool)  # found again; in the same place
    kept = {name: np.ones(len(values[f"{name}_row"]), dtype=bool) for name in ("f36", "c36", "ada")}
    ranks, attributes = np.ones(len(values["f36_row"]), dtype=bool), np.ones(proposals.shape[1], dtype=bool)
    for _ in range(trials):
        proposals &= _propose_again(true, values["prop_anchor"], noise, random)
        logits = true.class_logits + _draw(true.class_logits, noise.class_logit, random)
        classes = torch.softmax(logits, dim=1)[:, :-1]
        scores, ids = classes.max(dim=1)
        moved = true.moved + _draw(true.moved, noise.box_px, random)
        rows = select_fixed(moved, scores).rows.numpy()
        again = {
            "f36": rows,
            "c36": select_best(true.in_original, classes).rows.numpy(),
            "ada": select_adaptive(true.in_original, classes).rows.numpy(),
        }
        for name, found in again.items():
            kept[name] &= np.isin(values[f"{name}_row"], found)
        kept["f36"] &= ids.numpy()[values["f36_row"]] == values["f36_cls"]
        same = np.zeros_like(ranks)
        length = min(len(rows), len(same))
        same[:length] = rows[:length] == values["f36_row"][:length]
        ranks &= same
        attributes &= logits.argmax(dim=1).numpy() == values["argmax_all"]
        if true.net.has_attributes:
            every = true.attribute_logits()
            noisy = (every + _draw(every, noise.attribute_logit, random))[:, :-1]
            attributes &= noisy.argmax(dim=1).numpy() == values["attr_id_all"]
    # A region is found again only if its proposal is, and pools the same cells.
    kept["f36"] &= proposals[0][values["f36_row"]]
    if flag == "stable":
        kept["f36"] &= ~_is_at_edge(values["prop_box"], 4 * noise.proposal_px, values["net_hw"])[values["f36_row"]]
    yield ("prop_in_stable" if flag == "stable" else "prop_robust"), proposals[0]
    if flag == "stable":
        yield "prop_stable", proposals[0] & proposals[1]
        yield "f36_rank_stable", kept["f36"] & ranks
    if true.net.has_attributes:
        yield f"attr_{flag}", attributes
    for name, is_kept in kept.items():
        yield f"{name}_{flag}", is_kept


def _propose_again(true: _Pass, anchors: Array, noise: _Noise, random: np.random.Generator) -> Array:
    """(2, R) whether proposals are found again, and found in their place, with noise on logits and boxes."""
    logits, deltas = true.maps["rpn_logits"], true.maps["rpn_deltas"]
    cells = true.net.cell_anchors
    sides = torch.stack([cells[:, 2] - cells[:, 0], cells[:, 3] - cells[:, 1]], dim=1).double()  # (12, 2)
    # A delta is in units of the anchor's sides, as is (nearly) one of a logarithm.
    by_channel = (noise.proposal_px / torch.cat([sides, sides], dim=1)).reshape(1, -1, 1, 1)
    found = true.choose(
        logits + _draw(logits, noise.logit, random), deltas + _draw(deltas, 1.0, random) * by_channel
    ).anchors.numpy()
    same = np.zeros(len(anchors), dtype=bool)
    length = min(len(found), len(anchors))
    same[:length] = found[:length] == anchors[:length]
    return np.stack([np.isin(anchors, found), same])


def _is_at_edge(boxes: Array, margin_px: float, net_hw: Array) -> Array:
    """(R,) whether a corner is so near to where rounding to cells turns that the crop may become another."""
    distance = np.abs((boxes / STRIDE) % 1.0 - 0.5) * STRIDE
    is_clipped = (boxes == 0) | (boxes == np.tile(net_hw[::-1], 2))  # exact whatever the arithmetic
    at_edge: Array = ((distance < margin_px) & ~is_clipped).any(axis=1)
    return at_edge


def _draw(like: Tensor, scale: float, random: np.random.Generator) -> Tensor:
    return torch.from_numpy(random.standard_normal(tuple(like.shape)) * scale)
