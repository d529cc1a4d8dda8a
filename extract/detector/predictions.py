"""What is predicted of each proposal: class, box and attribute. Pure arithmetic on a `Stages`' outputs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sentifuse.extract.detector.boxes import apply_deltas, clip_boxes
from sentifuse.extract.detector.stages import Stages

__all__ = ["BOX_WEIGHTS", "Classes", "predict_attributes", "predict_boxes", "predict_classes"]

# Shapes: R rows, C = 1600 classes without background.
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Probabilities of every row; background takes part in the softmax and in nothing else."""

    probabilities: Tensor  # (R, C)
    background: Tensor  # (R,)
    ids: Tensor  # (R,) best class without background
    scores: Tensor  # (R,) its probability
    ids_of_all: Tensor  # (R,) argmax with background, which is C: chooses the embedding for the attributes


def predict_classes(stages: Stages, features: Tensor) -> Classes:
    """Classes of rows with features (R, 2048)."""
    logits = stages.class_logits(features)
    every = torch.softmax(logits, dim=1)
    probabilities = every[:, :-1]
    scores, ids = probabilities.max(dim=1)
    return Classes(
        probabilities=probabilities,
        background=every[:, -1],
        ids=ids,
        scores=scores,
        ids_of_all=logits.argmax(dim=1),
    )


def predict_boxes(
    stages: Stages, features: Tensor, class_ids: Tensor, proposals: Tensor, net_hw: tuple[int, int]
) -> Tensor:
    """(R, 4) the proposals as one class each would have them, clipped to the network's input."""
    deltas = stages.class_deltas(features, class_ids)
    return clip_boxes(apply_deltas(deltas, proposals, BOX_WEIGHTS), *net_hw)


def predict_attributes(stages: Stages, features: Tensor, ids_of_all: Tensor) -> tuple[Tensor, Tensor]:
    """Best attribute of each row and its probability; "no attribute", the last logit, is left out of the softmax."""
    logits = stages.attribute_logits(features, ids_of_all)[:, :-1]
    scores, ids = torch.softmax(logits, dim=1).max(dim=1)
    return ids, scores
