"""What a prediction is worth: scikit-learn's metrics, with the averaging said and class names beside every number.

Knows nothing of models or files.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

IntArray = np.ndarray[Any, np.dtype[np.int64]]


def score(labels: IntArray, predicted: IntArray, classes: Sequence[str]) -> dict[str, Any]:
    """All metrics of one part.

    Averages run over the classes that occur among the labels or the predictions; balanced accuracy is the mean recall
    of the classes that occur among the labels. A class that was never predicted has precision 0.

    Parameters
    ----------
    labels, predicted
        (n,) positions in `classes`, n ≥ 1.

    Returns
    -------
    dict
        n, accuracy, f1_weighted, f1_macro, balanced_accuracy; per_class: class → precision, recall, f1, support;
        confusion: K rows (true) of K counts (predicted); classes.
    """
    if labels.shape != predicted.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"labels {labels.shape} and predictions {predicted.shape}: expected equal length of at least 1"
        )
    positions = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=positions, zero_division=0.0
    )
    return {
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
        "confusion": confusion_matrix(labels, predicted, labels=positions).tolist(),
        "classes": list(classes),
    }
