"""What a student learns from: hard classes with smoothing, the teacher's softened shares, weights of classes and rows.

The loss over them is alpha · CE(hard) + (1 − alpha) · T² · KL(teacher_T ‖ student_T) (Hinton, Vinyals, Dean 2015). With
alpha 1 it is the paper's. Knows neither images nor networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from sentifuse import ConfigError, DataError, TrainingError
from sentifuse.extract.encoders.sentiment_classes import CLASSES

__all__ = [
    "CLASSES",
    "NEUTRAL",
    "POLAR",
    "Targets",
    "balanced_weights",
    "class_counts",
    "refuse_absent",
    "row_losses",
    "row_weights",
    "smooth_targets",
    "soften",
    "to_tensor",
]

# Shapes: N images, B batch, K = 3 classes in the order negative, neutral, positive.
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

NEUTRAL = CLASSES.index("neutral")
POLAR = (CLASSES.index("negative"), CLASSES.index("positive"))
TINY = 1e-12  # a teacher's share of 0 has no logarithm
SUM_TOLERANCE = 1e-2
SHOWN_NAMES = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """What is known of N images.

    Attributes
    ----------
    classes
        int64 (N,): 0 negative, 1 neutral, 2 positive.
    probabilities
        float32 (N, K) of the teacher; None for labels that people gave.
    weights
        float32 (N,) of each image on top of its class's weight, such as the teacher's confidence; None: 1 everywhere.
    """

    classes: IntArray
    probabilities: FloatArray | None = None
    weights: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.classes)

    def check(self, *, alpha: float, names: Sequence[str] = ()) -> None:
        """Shapes and values, for a loss with this share of hard targets; `names` of the N images are for messages.

        Raises
        ------
        DataError
            Classes, probabilities or weights that cannot be.
        ConfigError
            Soft targets are asked for where there is no teacher.
        """
        n = len(names) or self.classes.size
        if self.classes.shape != (n,) or not np.isin(self.classes, range(len(CLASSES))).all():
            found = f"{self.classes.shape} with {np.unique(self.classes)[:5].tolist()}"
            raise DataError(f"targets: expected one class (0, 1 or 2) for each of {n} images, found {found}")
        if self.weights is not None:
            is_usable = self.weights.shape == (n,) and np.isfinite(self.weights).all() and (self.weights >= 0).all()
            if not is_usable:
                raise DataError(f"targets: expected {n} finite weights of at least 0, found {self.weights.shape}")
        if self.probabilities is None:
            if alpha < 1:
                raise ConfigError(
                    f"alpha = {alpha}: soft targets need a teacher's probabilities, found labels that people gave. "
                    "Type: --set alpha=1"
                )
            return
        shares = self.probabilities
        if shares.shape != (n, len(CLASSES)):
            raise DataError(f"targets: expected probabilities ({n}, {len(CLASSES)}), found {shares.shape}")
        is_odd = ~np.isfinite(shares).all(1) | (shares < 0).any(1) | (np.abs(shares.sum(1) - 1) > SUM_TOLERANCE)
        if is_odd.any():
            odd = [names[row] if names else f"row {row}" for row in np.flatnonzero(is_odd)[:SHOWN_NAMES].tolist()]
            raise DataError(
                f"targets: expected three probabilities that add up to 1, found others for {int(is_odd.sum())} images: "
                f"{', '.join(odd)}"
            )


def smooth_targets(classes: IntArray, smoothing: float) -> FloatArray:
    """(N, K) shares of hard classes: (1 − s) · one-hot + s / K.

    >>> smooth_targets(np.array([2]), 0.3).round(2).tolist()
    [[0.10000000149011612, 0.10000000149011612, 0.800000011920929]]
    """
    shares = np.full((len(classes), len(CLASSES)), smoothing / len(CLASSES), dtype=np.float32)
    shares[np.arange(len(classes)), classes] += np.float32(1.0 - smoothing)
    return shares


def soften(probabilities: FloatArray, temperature: float) -> FloatArray:
    """(N, K): p^(1/T), made to add up to 1; what a teacher of these probabilities says at temperature T.

    A teacher's logits are not kept, and need not be: softmax(z / T) hangs on softmax(z) alone.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), TINY)) / temperature
    shares = np.exp(logits - logits.max(1, keepdims=True))
    softened: FloatArray = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return softened


def class_counts(classes: IntArray) -> dict[str, int]:
    """How many images each class has, by name."""
    return dict(zip(CLASSES, np.bincount(classes, minlength=len(CLASSES)).tolist(), strict=True))


def refuse_absent(classes: IntArray, *, where: str) -> None:
    """A student cannot learn a class that it never sees.

    Parameters
    ----------
    classes
        Of the training part alone.

    Raises
    ------
    TrainingError
        A class without an image.
    """
    counts = class_counts(classes)
    absent = [name for name, n in counts.items() if not n]
    if absent:
        found = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise TrainingError(
            f"{where}: expected training images of every class, found none of {', '.join(absent)} ({found}). "
            "Lower that class's threshold in `sentifuse distil filter`, or take fewer --folds"
        )


def balanced_weights(classes: IntArray) -> npt.NDArray[np.float64]:
    """(K,) n / (K · n_k) of the images given, which are those of the training part and of no other.

    >>> balanced_weights(np.array([0, 0, 1, 2])).round(3).tolist()
    [0.667, 1.333, 1.333]
    """
    counts = np.bincount(classes, minlength=len(CLASSES))
    return len(classes) / (np.count_nonzero(counts) * np.maximum(counts, 1.0))


def row_weights(targets: Targets, train_rows: IntArray, *, is_balanced: bool) -> FloatArray:
    """(N,) weights whose mean over the training rows is 1; what lies outside of them counts for nothing.

    Raises
    ------
    DataError
        All training rows weigh 0.
    """
    found = np.ones(len(targets)) if targets.weights is None else targets.weights.astype(np.float64)
    if is_balanced:
        found = found * balanced_weights(targets.classes[train_rows])[targets.classes]
    mean = found[train_rows].mean()
    if not mean > 0:
        raise DataError("targets: every training image has weight 0, expected some above. Type: --weights none")
    normed: FloatArray = (found / mean).astype(np.float32)
    return normed


def row_losses(
    logits: Tensor,
    hard: Tensor,
    soft: Tensor | None = None,
    *,
    alpha: float = 1.0,
    temperature: float = 1.0,
    without_neutral: bool = False,
) -> Tensor:
    """(B,) what each image loses, before its weight; Σ w · loss / B is what Keras calls a loss with class weights.

    Parameters
    ----------
    logits
        (B, K) of the student.
    hard
        (B, K) smoothed shares of the classes.
    soft
        (B, K) the teacher at this temperature; None only with alpha 1.
    without_neutral
        A softmax of two: the neutral logit counts as -∞, and what the targets give to it goes to the other two.
    """
    if without_neutral:
        logits, hard = logits[:, POLAR], _normed(hard[:, POLAR])
        soft = None if soft is None else _normed(soft[:, POLAR])
    loss = -(hard * F.log_softmax(logits, dim=1)).sum(1)
    if alpha < 1 and soft is not None:
        student = F.log_softmax(logits / temperature, dim=1)
        divergence = F.kl_div(student, soft, reduction="none").sum(1)
        loss = alpha * loss + (1.0 - alpha) * temperature**2 * divergence
    return loss


def _normed(shares: Tensor) -> Tensor:
    return shares / shares.sum(1, keepdim=True)


def to_tensor(array: npt.NDArray[np.float32]) -> Tensor:
    """On the CPU, without a copy."""
    return torch.from_numpy(np.ascontiguousarray(array))
