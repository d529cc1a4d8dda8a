"""Whether a head's probabilities mean what they say: reliability diagram, ECE, negative log-likelihood, Brier score.

Works on labels and probabilities alone. The confidence of a prediction is its probability, the largest of the row.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import log_loss

# Shapes: n pairs, K classes, B bins.

BINS = 15
SIMULATIONS = 1000

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """The pairs whose confidence lies in (low, high]; the first bin holds 0 too."""

    low: float
    high: float
    n: int
    confidence: float | None  # mean; None in an empty bin
    accuracy: float | None


def calibrate(labels: IntArray, probabilities: FloatArray, *, bins: int = BINS, seed: int = 0) -> dict[str, Any]:
    """All numbers about probabilities.

    With n_b pairs, mean confidence c_b and accuracy a_b in bin b of B equal ones between 0 and 1:
    ECE = Σ_b n_b / n · |a_b − c_b| (Guo, Pleiss, Sun, Weinberger, ICML 2017). It is never negative, so a perfectly
    calibrated head has a positive one too, the larger the fewer pairs: `ece_if_calibrated` is what such a head with
    these very confidences would show (mean and 95 % quantile of simulated outcomes; Bröcker and Smith, Weather and
    Forecasting 22, 2007). An ECE below that quantile is no sign of bad calibration.

    Negative log-likelihood: mean of −ln p(true class), where a p of 0 counts as the smallest step from 1 (2.2e-16).
    Brier score: mean over pairs of Σ_k (p_k − [true class is k])², from 0 to 2 (Brier, Monthly Weather Review
    78, 1950).

    Parameters
    ----------
    labels
        (n,) positions in the list of classes, n ≥ 1.
    probabilities
        (n, K), rows add up to 1.

    Returns
    -------
    dict
        ece, ece_if_calibrated (mean, q95), nll, brier, bins (number), reliability (a list of `Bin` as dicts).
    """
    diagram = reliability(labels, probabilities, bins=bins)
    k = probabilities.shape[1]
    true = np.eye(k)[labels]
    return {
        "ece": expected_calibration_error(diagram),
        "ece_if_calibrated": _ece_if_calibrated(probabilities.max(1), bins, seed),
        "nll": float(log_loss(labels, probabilities / probabilities.sum(1, keepdims=True), labels=np.arange(k))),
        "brier": float(((probabilities - true) ** 2).sum(1).mean()),
        "bins": bins,
        "reliability": [asdict(one) for one in diagram],
    }


def reliability(labels: IntArray, probabilities: FloatArray, *, bins: int = BINS) -> list[Bin]:
    """The bars of a reliability diagram, empty ones too; parameters are those of `calibrate`."""
    if bins < 1:
        raise ValueError(f"expected at least one bin, found {bins}")
    confidence = probabilities.max(1)
    is_right = probabilities.argmax(1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = _bin_of(confidence, bins)
    diagram = []
    for b in range(bins):
        inside = place == b
        n = int(inside.sum())
        diagram.append(
            Bin(
                low=float(edges[b]),
                high=float(edges[b + 1]),
                n=n,
                confidence=float(confidence[inside].mean()) if n else None,
                accuracy=float(is_right[inside].mean()) if n else None,
            )
        )
    return diagram


def expected_calibration_error(diagram: list[Bin]) -> float:
    """Σ_b n_b / n · |accuracy − confidence| of a reliability diagram."""
    n = sum(one.n for one in diagram)
    gaps = [
        one.n * abs(one.accuracy - one.confidence) for one in diagram if one.accuracy is not None is not one.confidence
    ]
    return sum(gaps) / n


def _ece_if_calibrated(confidence: FloatArray, bins: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    order = np.argsort(_bin_of(confidence, bins), kind="stable")
    place, sorted_confidence = _bin_of(confidence, bins)[order], confidence[order]
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    found = []
    for _ in range(SIMULATIONS):
        surplus = (rng.random(len(place)) < sorted_confidence) - sorted_confidence
        found.append(np.abs(np.add.reduceat(surplus, starts)).sum() / len(place))
    return {"mean": float(np.mean(found)), "q95": float(np.quantile(found, 0.95))}


def _bin_of(confidence: FloatArray, bins: int) -> IntArray:
    """(n,) the bin of each confidence; an edge belongs to the bin below it."""
    place: IntArray = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], confidence, side="left")
    return place
