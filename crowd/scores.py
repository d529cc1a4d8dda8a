"""What a student is chosen by: loss, accuracy and macro-F1 of its logits on a validation part."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch.nn import functional as F

from sentifuse.crowd.targets import POLAR

__all__ = ["score"]


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
