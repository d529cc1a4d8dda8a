"""What a student is chosen by: loss, accuracy and macro-F1 on a validation part, and which of two is better."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch.nn import functional as F

from sentifuse.crowd.targets import POLAR

__all__ = ["is_better", "score"]


def score(
    logits: npt.NDArray[np.float32], classes: npt.NDArray[np.int64], *, without_neutral: bool = False
) -> dict[str, Any]:
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


def is_better(found: Mapping[str, Any], best: Mapping[str, Any], select: str) -> bool:
    """Whether new scores take the place of the best so far (empty: there are none), by the recipe's `select`.

    By accuracy, the rule of the published protocols, the first of equally good ones stays, as in the original. Of equal
    macro-F1 the lower loss counts, of equal loss the higher macro-F1; "last" always takes the new one.
    """
    if not best or select == "last":
        return True
    return _rank(found, select) > _rank(best, select)


def _rank(scores: Mapping[str, Any], select: str) -> tuple[float, ...]:
    if select == "accuracy":
        return (scores["val_accuracy"],)
    if select == "loss":
        return (-scores["val_loss"], scores["val_macro_f1"])
    return (scores["val_macro_f1"], -scores["val_loss"])
