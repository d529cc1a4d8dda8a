"""Images through a `BatchedNetwork`, all at once: pixels up, one answer down, no question between.

A host that asks a device anything waits until all that was queued is done, while nothing new is. So all shapes here
are fixed beforehand, and what cannot be foreseen (a suppression that takes more rounds, a rule that has to look at
less probable classes) comes back as not proved, to be settled for that image alone.

Images of one size share the passes of the backbone, none is padded. Behind it there are boxes and crops, which have no
size of their own: there all images are treated alike, whatever their sizes. Of photographs few are of the same size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sentifuse.extract.detector.batched import BatchedNetwork
from sentifuse.extract.detector.boxes import apply_deltas
from sentifuse.extract.detector.predictions import BOX_WEIGHTS, Classes, predict_attributes, predict_classes
from sentifuse.extract.detector.preprocess import MEAN_BGR, PreparedImage
from sentifuse.extract.detector.proposals import Proposals, ProposalsTogether
from sentifuse.extract.detector.regions import Regions
from sentifuse.extract.detector.selection_together import (
    SelectedTogether,
    select_by_class_together,
    select_fixed_together,
)
from sentifuse.extract.detector.settings import SelectionSettings

__all__ = ["Unproved", "detect_together"]

# Shapes: B images, R proposals, m regions, D = 2048.
GROUP = 8  # images that go through the backbone at once: the first are computed while the next are still on their way
Arrays = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproved:
    """An image whose regions are not known for certain, with what is.

    Attributes
    ----------
    known
        Its proposals, their features and classes; None if not even the proposals are certain.
    """

    known: tuple[Proposals, Tensor, Classes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What the network says of the proposals of all images; rows of one image lie together."""

    images: Sequence[PreparedImage]
    proposals: ProposalsTogether
    features: Tensor  # (B R, D)
    classes: Classes  # of B R rows


def detect_together(
    network: BatchedNetwork, batch: Sequence[PreparedImage], settings: SelectionSettings
) -> list[Regions | Unproved]:
    """The regions of images of any sizes, in their order."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for place, prepared in enumerate(batch):
        by_size.setdefault(prepared.net_hw, []).append(place)
    seen = _look(network, [[batch[place] for place in places] for places in by_size.values()], settings)
    arrays = _down(_answers(network, seen, settings))
    found = [
        _regions(arrays, row, prepared) or _unproved(arrays, row, seen) for row, prepared in enumerate(seen.images)
    ]
    places = [place for of_size in by_size.values() for place in of_size]
    return [answer for _, answer in sorted(zip(places, found, strict=True), key=lambda pair: pair[0])]


def _look(network: BatchedNetwork, groups: Sequence[Sequence[PreparedImage]], settings: SelectionSettings) -> _Seen:
    """All stages of the network; each group is of one size."""
    maps, parts = [], []
    for group in groups:
        pieces = [group[start : start + GROUP] for start in range(0, len(group), GROUP)]
        res4 = torch.cat([network.res4(_upload(piece, network)) for piece in pieces])
        logits, deltas = network.proposal_head(res4)
        parts.append(
            ProposalsTogether.choose(logits, deltas, network.cell_anchors, group[0].net_hw, count=settings.proposals)
        )
        maps.append(res4)
    proposals = ProposalsTogether.joined(parts)
    boxes = torch.split(proposals.boxes, [len(group) for group in groups])
    features = network.features_together(maps, boxes)
    return _Seen(
        images=[prepared for group in groups for prepared in group],
        proposals=proposals,
        features=features,
        classes=predict_classes(network, features),
    )


def _answers(network: BatchedNetwork, seen: _Seen, settings: SelectionSettings) -> dict[str, Tensor]:
    """All that the host needs to know, by name; each (B, …)."""
    found, classes = seen.proposals, seen.classes
    shape = found.boxes.shape[:2]
    factors = _up([_sides(image.size) / _sides(image.net_hw[::-1]) for image in seen.images], network.device)
    in_original = found.boxes * factors[:, None]
    if settings.mode == "fixed36":
        moved = _moved(network, seen)
        selected = select_fixed_together(moved, classes.scores.view(shape), found.is_real, count=settings.count)
        boxes = moved * factors[:, None]
    else:
        probabilities = classes.probabilities.view(*shape, -1)
        selected = select_by_class_together(in_original, probabilities, found.is_real, settings)
        boxes = in_original
    return _of_selected(network, seen, selected) | {
        "boxes": _pick(boxes, selected.rows),
        "proposals": _pick(in_original, selected.rows),
    }


def _moved(network: BatchedNetwork, seen: _Seen) -> Tensor:
    """(B, R, 4) boxes as their best class would have them, clipped to the network's input."""
    deltas = network.class_deltas(seen.features, seen.classes.ids)
    moved = apply_deltas(deltas.view(seen.proposals.boxes.shape), seen.proposals.boxes, BOX_WEIGHTS)
    limits = _up([_sides(image.net_hw[::-1]) for image in seen.images], network.device)
    return torch.minimum(moved.clamp(min=0), limits[:, None])


def _of_selected(network: BatchedNetwork, seen: _Seen, selected: SelectedTogether) -> dict[str, Tensor]:
    """What is told of the selected rows, but for their boxes, and of the selection."""
    found, classes, rows = seen.proposals, seen.classes, selected.rows
    shape = found.boxes.shape[:2]
    features = _pick(seen.features.view(*shape, -1), rows)
    answers = {
        "features": features,
        "scores": selected.scores,
        "class_ids": classes.ids.view(shape).gather(1, rows),
        "class_scores": classes.scores.view(shape).gather(1, rows),
        "rows": rows,
        "anchors": found.anchors.gather(1, rows),
        "is_region": selected.is_real,
        "overlap": selected.overlap,
        "proposal_count": found.is_real.sum(dim=1),
        "are_proposals_proved": found.is_proved,
        "is_selection_proved": selected.is_proved,
    }
    if network.has_attributes:
        ids_of_all = classes.ids_of_all.view(shape).gather(1, rows)
        ids, scores = predict_attributes(network, features.flatten(0, 1), ids_of_all.flatten())
        answers |= {"attribute_ids": ids.view(rows.shape), "attribute_scores": scores.view(rows.shape)}
    return answers


def _regions(arrays: Arrays, row: int, prepared: PreparedImage) -> Regions | None:
    """The regions of one image, if they are proved."""
    if not (arrays["are_proposals_proved"][row] and arrays["is_selection_proved"][row]):
        return None
    count = int(arrays["is_region"][row].sum())

    def floats(name: str) -> npt.NDArray[np.float32]:
        return arrays[name][row, :count].copy()  # not a view, which would keep the whole batch in memory

    def ints(name: str) -> npt.NDArray[np.int64]:
        return arrays[name][row, :count].astype(np.int64)

    has_attributes = "attribute_ids" in arrays
    boxes = floats("boxes")
    return Regions(
        features=floats("features"),
        boxes=boxes,
        boxes_normalised=np.divide(boxes, _sides(prepared.size), dtype=np.float32),
        proposals=floats("proposals"),
        scores=floats("scores"),
        class_ids=ints("class_ids"),
        class_scores=floats("class_scores"),
        attribute_ids=ints("attribute_ids") if has_attributes else None,
        attribute_scores=floats("attribute_scores") if has_attributes else None,
        rows=ints("rows"),
        anchors=ints("anchors"),
        overlap=round(float(arrays["overlap"][row]), 6),  # from a float32 back to the 0.7 that it was
        size=prepared.size,
    )


def _unproved(arrays: Arrays, row: int, seen: _Seen) -> Unproved:
    if not arrays["are_proposals_proved"][row]:
        return Unproved(known=None)
    count = int(arrays["proposal_count"][row])
    start = row * seen.proposals.boxes.shape[1]
    rows, classes = slice(start, start + count), seen.classes
    of_image = Classes(
        probabilities=classes.probabilities[rows],
        background=classes.background[rows],
        ids=classes.ids[rows],
        scores=classes.scores[rows],
        ids_of_all=classes.ids_of_all[rows],
    )
    return Unproved(known=(seen.proposals.of_image(row, count), seen.features[rows], of_image))


def _sides(size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(4,) width, height, width, height."""
    return np.array([*size, *size], dtype=np.float64)


def _upload(images: Sequence[PreparedImage], network: BatchedNetwork) -> Tensor:
    """(B, 3, H, W) float32 minus the mean, channels last; sent as bytes, the mean is subtracted over there."""
    height, width = images[0].net_hw
    is_cuda = network.device.type == "cuda"
    staged = torch.empty((len(images), height, width, 3), dtype=torch.uint8, pin_memory=is_cuda)
    for slot, prepared in zip(staged.numpy(), images, strict=True):
        slot[...] = prepared.pixels
    pixels = staged.to(network.device, non_blocking=True).to(network.dtype)
    return (pixels - _up(MEAN_BGR, network.device)).permute(0, 3, 1, 2)


def _up(values: Any, device: torch.device) -> Tensor:
    """A few float32 numbers on a device, without waiting for what it has still to do."""
    host = torch.tensor(np.array(values, dtype=np.float32), pin_memory=device.type == "cuda")
    return host.to(device, non_blocking=True)


def _down(answers: Mapping[str, Tensor]) -> Arrays:
    """All answers by one copy into pinned memory, the only thing that is waited for. Whole numbers become float32."""
    flat = {name: value.float().reshape(len(value), -1) for name, value in answers.items()}
    packed = torch.cat(list(flat.values()), dim=1)
    host = torch.empty(packed.shape, pin_memory=packed.device.type == "cuda")
    host.copy_(packed, non_blocking=True)
    if packed.device.type == "cuda":
        torch.cuda.current_stream(packed.device).synchronize()
    arrays, start = {}, 0
    for name, value in flat.items():
        part = host[:, start : start + value.shape[1]]
        arrays[name] = part.reshape(answers[name].shape).numpy()
        start += value.shape[1]
    return arrays


def _pick(values: Tensor, rows: Tensor) -> Tensor:
    """(B, R, K) → (B, m, K)."""
    return values.gather(1, rows[:, :, None].expand(-1, -1, values.shape[2]))
