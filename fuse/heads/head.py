"""What every fusion head is: a torch module that says which features it reads, and gives logits and what explains them.

A head declares; training owns the loop. Knows nothing of files, splits or metrics.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sentifuse.fuse.features.batches import Batch, BatchSource, FieldRequest, Rows
from sentifuse.fuse.precision import full_precision, widen

# Shapes: B pairs of a batch, K classes.


@dataclass(slots=True, kw_only=True)
class HeadOutput:
    """What a head says about a batch."""

    logits: torch.Tensor  # (B, K)
    details: dict[str, torch.Tensor] = field(default_factory=dict)  # B first; what `explain` may show

    def widened(self) -> "HeadOutput":
        """The same with what a rounded product left in bfloat16 as float32, so that a loss adds up in it."""
        details = {name: widen(values) for name, values in self.details.items()}
        return replace(self, logits=widen(self.logits), details=details)


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

    def hold_out(self, train: BatchSource, seed: int) -> Rows:
        """Positions of training pairs that no training batch shall hold, since the head wants them for itself; none.

        Called first of all, with a training part that has `text_labels` and `image_labels` where the dataset does.
        Draws from `seed` alone, not from torch's generator.
        """
        return np.zeros(0, dtype=np.int64)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """See the training part once before the first step (to learn means and scales); by default not at all."""

    def notes(self) -> dict[str, Any]:
        """What run.json shall remember of this training beside its settings, known before the first step; nothing."""
        return {}

    def recipe_parameters(self) -> list[nn.Parameter]:
        """The parameters that the recipe's optimiser steps: all, unless `training_step` steps some of them itself."""
        return list(self.parameters())

    def start_epoch(self, epoch: int, held_out: BatchSource | None) -> None:
        """Called before the first step of each epoch, from 1; `held_out` has the pairs of `hold_out`, if any."""

    def epoch_figures(self) -> dict[str, float]:
        """Numbers about the epoch just trained, by their column in the history; the same names each time."""
        return {}

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits of a batch; pads, batch mates and masked modalities change none of them."""
        raise NotImplementedError

    def check_widths(self, batch: Batch) -> None:
        """Refuse a batch whose fields have other widths than the head was built for.

        Raises
        ------
        ValueError
            Which field, what was expected and found.
        """
        for request in self.requests(self.config):
            found = batch.values[request.key].shape[-1]
            if found != self.widths[request.key]:
                raise ValueError(f"{request.key}: expected width {self.widths[request.key]}, found {found}")

    def statistics(self, output: HeadOutput, batch: Batch) -> dict[str, torch.Tensor]:
        """(B,) numbers per pair, by name, whose mean is worth following (a gate, a weight); NaN where a pair has none.

        Their means over the validation part are columns of the history, those over a measured part stand in its
        metrics. By default there are none.
        """
        return {}

    def loss(self, output: HeadOutput, batch: Batch) -> torch.Tensor:
        """Scalar; mean cross-entropy with the config's `label_smoothing`, if it has one."""
        if batch.labels is None:
            raise ValueError("a loss needs a batch with labels")
        smoothing = getattr(self.config, "label_smoothing", 0.0)
        return F.cross_entropy(output.logits, batch.labels, label_smoothing=smoothing)

    def training_step(self, batch: Batch, optimiser: torch.optim.Optimizer, *, gradient_clip: float = 0.0) -> float:
        """One step on one batch; the loss before it. Override only if the algorithm demands another step.

        A loss that is not finite is returned without a step. Under the recipe's precision=bfloat16 the caller has
        torch's autocast on: it is for the forward pass alone, so a step of a head's own has to leave it for the rest.
        """
        optimiser.zero_grad(set_to_none=True)
        output = self(batch)
        with full_precision(output.logits.device):
            loss = self.loss(output.widened(), batch)
            value = float(loss.detach())
            if not math.isfinite(value):
                return value
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
            if gradient_clip > 0:
                nn.utils.clip_grad_norm_(self.parameters(), gradient_clip)
            optimiser.step()
        return value

    def fit(self, train: BatchSource, val: BatchSource) -> list[dict[str, Any]]:
        """Only with `has_closed_fit`: learn from `train`, choose on `val`; one row per candidate for the history."""
        raise NotImplementedError
