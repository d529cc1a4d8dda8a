"""What a prediction is worth: scikit-learn's metrics, with the averaging said and class names beside every number.

Knows nothing of models or files. How sure the numbers are is in `statistics`, what probabilities are worth in
`calibration`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from sentifuse.fuse.measure.calibration import BINS, calibrate

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

TOLERANCE = 1e-6  # of a row's sum


def score(
    labels: IntArray,
    predicted: IntArray,
    classes: Sequence[str],
    probabilities: FloatArray | None = None,
    *,
    bins: int = BINS,
) -> dict[str, Any]:
    """All metrics of one part.

    Averages run over the classes that occur among the labels or the predictions; balanced accuracy is the mean recall
    of the classes that occur among the labels. A class that was never predicted has precision 0. `absent` names both
    kinds of class.

    Parameters
    ----------
    labels, predicted
        (n,) positions in `classes`, n ≥ 1.
    probabilities
        (n, K), rows add up to 1; None leaves out what needs them.
    bins
        Of the reliability diagram and the ECE, equally wide.

    Returns
    -------
    dict
        n, accuracy, f1_weighted, f1_macro, balanced_accuracy; per_class: class → precision, recall, f1, support;
        confusion: K rows (true) of K counts (predicted); classes; absent: labels, predictions → classes that do not
        occur there. With probabilities also auroc (see `auroc`), auroc_per_class, auroc_reason, and everything of
        `calibration.calibrate`.
    """
    if labels.shape != predicted.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"labels {labels.shape} and predictions {predicted.shape}: expected equal length of at least 1"
        )
    positions = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=positions, zero_division=0.0
    )
    confusion = confusion_matrix(labels, predicted, labels=positions)
    found: dict[str, Any] = {
        "n": len(labels),
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1_weighted": float(f1_score(labels, predicted, average="weighted", zero_division=0.0)),
        "f1_macro": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
        "classes": list(classes),
        "absent": {
            "labels": [name for name, n in zip(classes, confusion.sum(1), strict=True) if not n],
            "predictions": [name for name, n in zip(classes, confusion.sum(0), strict=True) if not n],
        },
    }
    if probabilities is None:
        return found
    _check_probabilities(probabilities, len(labels), len(classes))
    return found | auroc(labels, probabilities, classes) | calibrate(labels, probabilities, bins=bins)


def auroc(labels: IntArray, probabilities: FloatArray, classes: Sequence[str]) -> dict[str, Any]:
    """Area under the ROC curve: of each class against the rest, and their plain mean (one-vs-rest, macro).

    A class's area is the probability that a pair of this class is given a larger probability of it than a pair of
    another class. It does not exist where a part has no pair of the class or of the others; then the mean does not
    either, for a mean over other classes would not be comparable.

    Returns
    -------
    dict
        auroc (None where it does not exist), auroc_per_class: class → area or None, auroc_reason ("" where it exists).
    """
    per_class: dict[str, float | None] = {}
    for i, name in enumerate(classes):
        is_class = labels == i
        exists = bool(is_class.any()) and not bool(is_class.all())
        per_class[name] = float(roc_auc_score(is_class, probabilities[:, i])) if exists else None
    found = [area for area in per_class.values() if area is not None]
    absent = [name for i, name in enumerate(classes) if not (labels == i).any()]
    if len(found) == len(classes):
        return {"auroc": float(np.mean(found)), "auroc_per_class": per_class, "auroc_reason": ""}
    reason = f"no pair is labelled {', '.join(absent)}"
    return {"auroc": None, "auroc_per_class": per_class, "auroc_reason": reason}


def _check_probabilities(probabilities: FloatArray, n: int, k: int) -> None:
    if probabilities.shape != (n, k):
        raise ValueError(f"probabilities {probabilities.shape}: expected {(n, k)}, a row per pair, a column per class")
    sums = probabilities.sum(1)
    if not np.isfinite(probabilities).all() or probabilities.min() < 0 or np.abs(sums - 1).max() > TOLERANCE:
        raise ValueError(
            "probabilities: expected finite numbers from 0 with rows that add up to 1, found sums from "
            f"{sums.min()} to {sums.max()} and a smallest of {probabilities.min()}"
        )
