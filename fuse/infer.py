"""A trained head's answer to every pair of a source. Changes no weight and draws no random number."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sentifuse.fuse.features.batches import BatchSource
from sentifuse.fuse.heads.head import Head

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What a head says about all pairs of a source, in its order."""

    logits: Array  # (N, K) float64
    statistics: Mapping[str, Array]  # name -> (N,) float64, NaN where a pair has none; see `Head.statistics`

    def means(self) -> dict[str, float]:
        """Each statistic's mean over the pairs that have it; NaN when none has."""
        return {name: _mean(values[~np.isnan(values)]) for name, values in self.statistics.items()}

    def to_metrics(self) -> dict[str, Any]:
        """{"statistics": means}, null for NaN; nothing for a head without statistics."""
        means = {name: None if np.isnan(mean) else mean for name, mean in self.means().items()}
        return {"statistics": means} if means else {}


def infer(head: Head, source: BatchSource, *, device: torch.device, batch_size: int = 128) -> Inference:
    """Logits and statistics of every pair; the head is left in the mode it was in."""
    was_training = head.training
    head.eval()
    logits = np.zeros((len(source), head.class_count))
    statistics: dict[str, Array] = {}
    try:
        with torch.no_grad():  # not inference_mode: a source's reused memory must stay usable for training
            for rows, batch in source.batches(batch_size):
                given = batch.to(device)
                output = head(given)
                logits[rows] = output.logits.double().cpu().numpy()
                for name, values in head.statistics(output, given).items():
                    statistics.setdefault(name, np.full(len(source), np.nan))[rows] = values.double().cpu().numpy()
    finally:
        head.train(was_training)
    return Inference(logits=logits, statistics=statistics)


def infer_logits(head: Head, source: BatchSource, *, device: torch.device, batch_size: int = 128) -> Array:
    """`infer` for who wants the logits alone: (N, K) float64."""
    return infer(head, source, device=device, batch_size=batch_size).logits


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")


def softmax(logits: Array) -> Array:
    """Probabilities (N, K) of logits (N, K)."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: Array = shifted / shifted.sum(1, keepdims=True)
    return probabilities


def accuracy_and_loss(logits: Array, labels: Array) -> tuple[float, float]:
    """Accuracy and mean cross-entropy, the two numbers that selection looks at."""
    loss = float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
    return float((logits.argmax(1) == labels).mean()), loss
