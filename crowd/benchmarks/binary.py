"""The binary rule: two classes out of three by dropping neutral, and what such answers are worth.

The greater of negative and positive decides, ties go to negative. Knows neither images nor files.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import DataError
from sentifuse.data.source import SENTIMENT
from sentifuse.fuse.measure.metrics import score

__all__ = [
    "BINARY",
    "NEGATIVE",
    "NEUTRAL",
    "POSITIVE",
    "accuracy_of",
    "binary_shares",
    "decide",
    "majority_of",
    "score_binary",
]

NEGATIVE, NEUTRAL, POSITIVE = range(len(SENTIMENT))
BINARY = (SENTIMENT[NEGATIVE], SENTIMENT[POSITIVE])

# Shapes: N images; columns of three are negative, neutral, positive.
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


def decide(probabilities: FloatArray) -> BoolArray:
    """(N, 3) → (N,): positive is strictly greater than negative; neutral is not looked at.

    >>> decide(np.array([[0.1, 0.8, 0.1], [0.2, 0.5, 0.3]], dtype=np.float32)).tolist()
    [False, True]
    """
    _check(probabilities)
    is_positive: BoolArray = probabilities[:, POSITIVE] > probabilities[:, NEGATIVE]
    return is_positive


def binary_shares(probabilities: FloatArray) -> npt.NDArray[np.float64]:
    """(N, 3) → (N, 2): p_neg and p_pos over their sum; one half each where both are 0.

    >>> binary_shares(np.array([[0.125, 0.5, 0.375], [0, 1, 0]], dtype=np.float32)).tolist()
    [[0.25, 0.75], [0.5, 0.5]]
    """
    _check(probabilities)
    pair = probabilities[:, [NEGATIVE, POSITIVE]].astype(np.float64)
    both = pair.sum(1, keepdims=True)
    shares: npt.NDArray[np.float64] = np.divide(pair, both, out=np.full_like(pair, 0.5), where=both > 0)
    return shares


def accuracy_of(is_positive: BoolArray, probabilities: FloatArray) -> float:
    """Share of N ≥ 1 images that the binary rule gets right."""
    return float((decide(probabilities) == is_positive).mean())


def majority_of(is_positive: BoolArray) -> dict[str, Any]:
    """What answering always the same gives on N ≥ 1 images: the larger class (of equal ones negative) and its share.

    >>> majority_of(np.array([True, True, False, True]))
    {'class': 'positive', 'share': 0.75}
    """
    n, n_positive = len(is_positive), int(is_positive.sum())
    return {"class": BINARY[int(2 * n_positive > n)], "share": max(n_positive, n - n_positive) / n}


def score_binary(is_positive: BoolArray, probabilities: FloatArray) -> dict[str, Any]:
    """Everything that is told of the answers to one benchmark.

    Parameters
    ----------
    is_positive
        (N,) what people said, N ≥ 1.
    probabilities
        (N, 3).

    Returns
    -------
    dict
        n, majority (class, share: what answering always the same gives on these images), accuracy, f1_macro,
        recall: class → share (None where no image has the class), auroc of p_pos / (p_pos + p_neg) (None where a class
        has no image), ece and ece_if_calibrated of these two shares, neutral_share: of images whose greatest of three
        is neutral; of equal ones the first counts, as in `distil filter`.

    Raises
    ------
    DataError
        No image to score.
    """
    if is_positive.shape != (len(probabilities),):
        raise ValueError(f"labels {is_positive.shape}: expected one for each of {len(probabilities)} answers")
    if not len(is_positive):
        raise DataError("no image of the benchmark has an answer, so nothing can be scored. See the statuses")
    found = score(
        is_positive.astype(np.int64), decide(probabilities).astype(np.int64), BINARY, binary_shares(probabilities)
    )
    n_positive = int(is_positive.sum())
    per_class = found["per_class"]
    return {
        "n": len(is_positive),
        "n_positive": n_positive,
        "majority": majority_of(is_positive),
        "accuracy": found["accuracy"],
        "f1_macro": found["f1_macro"],
        "recall": {name: per_class[name]["recall"] if per_class[name]["support"] else None for name in BINARY},
        "auroc": found["auroc"],
        "ece": found["ece"],
        "ece_if_calibrated": found["ece_if_calibrated"],
        "neutral_share": float((probabilities.argmax(1) == NEUTRAL).mean()),
    }


def _check(probabilities: FloatArray) -> None:
    if probabilities.ndim != 2 or probabilities.shape[1] != 3:
        raise ValueError(f"probabilities: expected (N, 3), found {probabilities.shape}")
