"""A trained head's answer to every pair of a source. Changes no weight and draws no random number."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sentifuse.fuse.batches import BatchSource
from sentifuse.fuse.heads.head import Head

Array = np.ndarray[Any, np.dtype[Any]]


def infer_logits(head: Head, source: BatchSource, *, device: torch.device, batch_size: int = 128) -> Array:
    """Logits (N, K) float64 in the order of the source; the head is left in the mode it was in."""
    was_training = head.training
    head.eval()
    logits = np.zeros((len(source), head.class_count))
    try:
        with torch.no_grad():  # not inference_mode: a source's reused memory must stay usable for training
            for rows, batch in source.batches(batch_size):
                logits[rows] = head(batch.to(device)).logits.double().cpu().numpy()
    finally:
        head.train(was_training)
    return logits


def softmax(logits: Array) -> Array:
    """Probabilities (N, K) of logits (N, K)."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: Array = shifted / shifted.sum(1, keepdims=True)
    return probabilities


def accuracy_and_loss(logits: Array, labels: Array) -> tuple[float, float]:
    """Accuracy and mean cross-entropy, the two numbers that selection looks at."""
    loss = float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
    return float((logits.argmax(1) == labels).mean()), loss
