"""What every fusion head is: a torch module that says which features it reads, and gives logits and what explains them.

A head declares; training owns the loop. Knows nothing of files, splits or metrics.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from sentifuse.fuse.batches import Batch, BatchSource, FieldRequest

# Shapes: B pairs of a batch, K classes.


@dataclass(slots=True, kw_only=True)
class HeadOutput:
    """What a head says about a batch."""

    logits: torch.Tensor  # (B, K)
    details: dict[str, torch.Tensor] = field(default_factory=dict)  # B first; what `explain` may show


class Head(nn.Module):
    """A fusion head. Subclasses set the class attributes and write `__init__` and `forward`.

    Parameters
    ----------
    config
        An instance of `Config`.
    widths
        Width of every requested field by its key, "encoder.field".
    class_count
        K, at least 2.
    """

    description: ClassVar[str]  # one line
    needs: ClassVar[tuple[FieldRequest, ...]]
    Config: ClassVar[type[Any]]  # a frozen dataclass made of `setting`s
    PRESETS: ClassVar[dict[str, dict[str, Any]]]  # at least "default"; keys of Config and of TrainConfig
    has_closed_fit: ClassVar[bool] = False  # True: `fit` replaces the training loop

    def __init__(self, config: Any, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__()
        self.config = config
        self.widths = dict(widths)
        self.class_count = class_count

    @classmethod
    def requests(cls, config: Any) -> tuple[FieldRequest, ...]:
        """The fields to read under a config: `needs`, unless the config changes them."""
        return cls.needs

    def prepare(self, batches: Iterable[Batch]) -> None:
        """See the training part once before the first step (to learn means and scales); by default not at all."""

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits of a batch; pads, batch mates and masked modalities change none of them."""
        raise NotImplementedError

    def loss(self, output: HeadOutput, batch: Batch) -> torch.Tensor:
        """Scalar; mean cross-entropy with the config's `label_smoothing`, if it has one."""
        if batch.labels is None:
            raise ValueError("a loss needs a batch with labels")
        smoothing = getattr(self.config, "label_smoothing", 0.0)
        return F.cross_entropy(output.logits, batch.labels, label_smoothing=smoothing)

    def training_step(self, batch: Batch, optimiser: torch.optim.Optimizer, *, gradient_clip: float = 0.0) -> float:
        """One step on one batch; the loss before it. Override only if the algorithm demands another step.

        A loss that is not finite is returned without a step.
        """
        optimiser.zero_grad(set_to_none=True)
        loss = self.loss(self(batch), batch)
        value = float(loss.detach())
        if value != value or value in (float("inf"), float("-inf")):
            return value
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        if gradient_clip > 0:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip)
        optimiser.step()
        return value

    def fit(self, train: BatchSource, val: BatchSource) -> list[dict[str, Any]]:
        """Only with `has_closed_fit`: learn from `train`, choose on `val`; one row per candidate for the history."""
        raise NotImplementedError


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the real elements; zero where there are none. (B, T, D), (B, T) → (B, D)."""
    weights = mask.to(values.dtype)
    return torch.einsum("btd,bt->bd", values, weights) / weights.sum(1, keepdim=True).clamp_min(1.0)


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax over the real elements of the last axis; all zeros where there are none, never NaN."""
    # The lowest finite value, not -inf: a row without anything real would become NaN, in the gradient too.
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~mask, lowest).softmax(-1)
    return weights * mask.to(scores.dtype)


def keep_real(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Values with zeros wherever the mask says that nothing is there."""
    return values.masked_fill(~mask.unsqueeze(-1), 0.0)


def initialise(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer inside."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
