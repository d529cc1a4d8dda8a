"""A small MLP over one pooled vector per field: the form that the single-modality heads share. Fuses nothing itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from sentifuse.fuse.config import check_settings, setting
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.head import Head, HeadOutput
from sentifuse.fuse.layers.dropout import dropout
from sentifuse.fuse.layers.initial import initialise
from sentifuse.fuse.layers.masked import keep_real, masked_mean
from sentifuse.fuse.layers.standardise import Standardise, learn_statistics

# Shapes: B pairs, T elements of a sequence, D width of a field, H hidden units, K classes.


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpConfig:
    """Settings of a small MLP on pooled features."""

    hidden: int = setting(128, "units of the hidden layer", low=1)
    input_dropout: float = setting(0.0, "on the pooled, standardised features", low=0.0, high=0.95)
    output_dropout: float = setting(0.0, "on the hidden layer", low=0.0, high=0.95)
    label_smoothing: float = setting(0.0, "share of the target spread over all classes", low=0.0, high=0.5)

    def __post_init__(self) -> None:
        check_settings(self)


MLP_PRESETS: dict[str, dict[str, Any]] = {
    "default": {
        "hidden": 128,
        "input_dropout": 0.3,
        "output_dropout": 0.5,
        "optimiser": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 1.0,
        "schedule": "cosine",
        "epochs": 30,
        "patience": 8,
    },
    # The training recipe of the ITIN paper on this head.
    "paper": {
        "optimiser": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 1e-5,
        "schedule": "step",
        "step_epochs": 10,
        "step_factor": 0.1,
        "batch_size": 64,
        "epochs": 40,
        "patience": 0,
    },
    "paper@mvsa_multiple": {"batch_size": 128},
}


class PooledMlp(Head):
    """Every needed field as one standardised vector, concatenated, one hidden layer."""

    Config: ClassVar[type[Any]] = MlpConfig
    PRESETS = MLP_PRESETS

    config: MlpConfig

    def __init__(self, config: MlpConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        keys = [request.key for request in self.needs]
        self.standardise = nn.ModuleList([Standardise(widths[key]) for key in keys])
        self.hidden = nn.Linear(sum(widths[key] for key in keys), config.hidden)
        self.classifier = nn.Linear(config.hidden, class_count)
        initialise(self)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Learn mean and scale of every pooled vector over the pairs that have it."""
        layers: dict[str, Any] = {r.key: layer for r, layer in zip(self.needs, self.standardise, strict=True)}
        learn_statistics(layers, batches, self._real_rows)

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits (B, K) from the pooled vectors; a pair without any of them gets the bias's answer."""
        self.check_widths(batch)
        vectors = []
        for request, layer in zip(self.needs, self.standardise, strict=True):
            vectors.append(layer(*pool(batch, request.key)))
        x = dropout(torch.cat(vectors, -1), self.config.input_dropout, training=self.training)
        hidden = dropout(F.relu(self.hidden(x)), self.config.output_dropout, training=self.training)
        return HeadOutput(logits=self.classifier(hidden), details={"hidden": hidden})

    def _real_rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        rows = {}
        for request in self.needs:
            vector, has_value = pool(batch, request.key)
            rows[request.key] = vector[has_value]
        return rows


def pool(batch: Batch, key: str) -> tuple[torch.Tensor, torch.Tensor]:
    """One vector per pair, (B, D), and whether the pair has it, (B,): a sequence's mean over its real elements."""
    values, mask = batch.values[key], batch.masks[key]
    values = keep_real(values, mask)
    if mask.dim() == 1:
        return values, mask
    return masked_mean(values, mask), mask.any(1)
