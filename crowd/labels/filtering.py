"""The confidence filter: which pseudo-labels are sure enough to teach an image. Arrays in, arrays out; no file."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError
from sentifuse.crowd.labels.pseudo_labels import check_probabilities
from sentifuse.data.source import SENTIMENT

__all__ = ["Filtered", "Thresholds", "filter_labels"]

# Shapes: N pairs, 3 classes in the order negative, neutral, positive.


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """How sure the teacher must be of each class: a pair is kept when its probability is strictly greater.

    The defaults are those of the published models 3.4 to 3.8; the lower one keeps the rare class alive.
    """

    negative: float = 0.70
    neutral: float = 0.90
    positive: float = 0.90

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
                found = "no number" if isinstance(value, float) and math.isnan(value) else repr(value)
                raise ConfigError(
                    f"--{name}: expected a threshold from 0 to 1, found {found}. Type: --{name} {field.default:.2f}"
                )

    @classmethod
    def of(cls, by_class: Mapping[str, float]) -> "Thresholds":
        """Thresholds by class name; a class that is not named keeps its default.

        Raises
        ------
        ConfigError
            No such class, or a value outside 0..1.

        >>> Thresholds.of({"negative": 0.5, "neutral": 0.6, "positive": 0.7}).neutral
        0.6
        """
        for name in by_class:
            if name not in SENTIMENT:
                raise ConfigError.unknown("class", name, SENTIMENT, where="thresholds")
        return cls(**by_class)

    def to_json(self) -> dict[str, float]:
        """Class → threshold."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filtered:
    """What the filter says of N pairs.

    `classes`: int64 (N,), the most probable class, the first of equal ones. `confidence`: float32 (N,), its
    probability. `is_kept`: bool (N,).
    """

    classes: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    is_kept: npt.NDArray[np.bool_]


def filter_labels(probabilities: npt.NDArray[np.float32], thresholds: Thresholds) -> Filtered:
    """Keep a pair when its largest probability is strictly greater than the threshold of that class.

    Parameters
    ----------
    probabilities
        float32 (N, 3), rows add up to 1.

    Raises
    ------
    DataError
        Numbers that are no probabilities.

    >>> found = filter_labels(np.array([[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]], np.float32), Thresholds(negative=0.75))
    >>> found.classes.tolist(), found.is_kept.tolist()
    ([0, 0], [False, False])
    """
    check_probabilities(probabilities, "filter")
    probabilities = probabilities.astype(np.float32, copy=False)
    classes = probabilities.argmax(1).astype(np.int64)  # argmax takes the first of equal ones
    confidence = probabilities.max(1)
    # Both sides in float32: 0.6 stored so is 0.60000002, which is greater than the double 0.6 and would be kept.
    limits = np.array([thresholds.to_json()[name] for name in SENTIMENT], dtype=np.float32)
    return Filtered(classes=classes, confidence=confidence, is_kept=confidence > limits[classes])
