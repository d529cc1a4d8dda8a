"""What a fine-tuning learns from and is judged by: targets, weights, the loss of a batch, scores of a validation.

Follows the recipe; knows neither images nor networks.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor
from torch.nn import functional as F

from sentifuse.crowd.finetune_recipe import FinetuneRecipe

__all__ = ["CLASSES", "NEUTRAL", "POLAR", "loss_sum", "make_targets", "make_weights", "score"]

CLASSES = ("negative", "neutral", "positive")
NEUTRAL = 1
POLAR = (0, 2)

# Shapes: N rows, B batch, K = 3 classes.
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def make_targets(recipe: FinetuneRecipe, classes: IntArray, probabilities: FloatArray | None) -> FloatArray:
    """(N, K) shares that add up to 1: the class or the teacher's shares, smoothed: (1 - s) t + s / K."""
    shares = np.eye(len(CLASSES), dtype=np.float32)[classes]
    if recipe.targets == "soft":
        assert probabilities is not None  # refused before
        shares = (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)
    smoothing = np.float32(recipe.label_smoothing)
    smoothed: FloatArray = (1 - smoothing) * shares + smoothing / np.float32(len(CLASSES))
    return smoothed


def make_weights(
    recipe: FinetuneRecipe, classes: IntArray, weights: FloatArray | None, train_rows: IntArray
) -> FloatArray:
    """(N,) weights whose mean over the training rows is 1: balanced over classes by their counts there, if asked."""
    found = np.ones(len(classes), dtype=np.float64) if weights is None else weights.astype(np.float64)
    if recipe.is_balanced:
        counts = np.bincount(classes[train_rows], minlength=len(CLASSES))
        present = np.count_nonzero(counts)
        found = found * (len(train_rows) / (present * np.maximum(counts, 1)))[classes]
    normed: FloatArray = (found / found[train_rows].mean()).astype(np.float32)
    return normed


def loss_sum(logits: Tensor, targets: Tensor, weights: Tensor, *, without_neutral: bool = False) -> Tensor:
    """Weighted cross-entropy, summed over the batch; divided by B it is what Keras calls the loss with class weights.

    Parameters
    ----------
    without_neutral
        A softmax of two: the neutral logit counts as -∞, and what the targets give to it goes to the other two.
    """
    if without_neutral:
        logits, targets = logits[:, POLAR], targets[:, POLAR]
        targets = targets / targets.sum(1, keepdim=True)
    return -(weights * (targets * F.log_softmax(logits, dim=1)).sum(1)).sum()


def score(logits: FloatArray, classes: IntArray, *, without_neutral: bool = False) -> dict[str, Any]:
    """val_loss (plain cross-entropy of the classes), val_accuracy, val_macro_f1 (of the classes that occur).

    Parameters
    ----------
    without_neutral
        The binary rule: the greater of negative and positive, ties go to negative.
    """
    found = torch.from_numpy(logits)
    if without_neutral:
        found, classes = found[:, POLAR], np.searchsorted(POLAR, classes)
    predicted = found.numpy().argmax(1)  # the first maximum; torch promises none
    return {
        "val_loss": float(F.cross_entropy(found, torch.from_numpy(classes))),
        "val_accuracy": float(accuracy_score(classes, predicted)),
        "val_macro_f1": float(f1_score(classes, predicted, average="macro", zero_division=0.0)),
    }
