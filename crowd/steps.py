"""What all of the crowd's trainings share about a step: the optimiser, which weights decay, how the step size changes.

Knows neither networks nor data.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["KERAS_EPSILON", "decay_apart", "make_optimiser", "rate_factor"]

KERAS_EPSILON = 1e-7  # of the RAdam that the paper used; torch's own is 1e-8


def make_optimiser(
    name: str, groups: list[dict[str, Any]], learning_rate: float, *, fused: bool = False
) -> torch.optim.Optimizer:
    """ "radam", the paper's, or "adamw"; weight decay is uncoupled in both. `fused` is for AdamW on a GPU."""
    if name == "radam":
        return torch.optim.RAdam(groups, lr=learning_rate, eps=KERAS_EPSILON, decoupled_weight_decay=True)
    return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)


def decay_apart(weights: Iterable[torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices, which decay, and all others, which do not."""
    found = list(weights)
    return [
        {"params": [value for value in found if value.ndim > 1], "weight_decay": weight_decay},
        {"params": [value for value in found if value.ndim <= 1], "weight_decay": 0.0},
    ]


def rate_factor(step: int, steps: int, *, schedule: str, warmup: float) -> float:
    """What the step size is multiplied by in a step, from 0, of so many: a rise over the warm-up, then the schedule.

    >>> [rate_factor(step, 4, schedule="cosine", warmup=0.5) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
