"""What the baselines of the literature share: how they read cached features. Each head's own file has its equations.

The forms are those of the papers or of the authors' programs on features from a cache: what the original learned
end to end (word vectors, convolutional nets, BERT) is an encoder here, and its tuning is lost in all of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from sentifuse.fuse.config import check_settings, setting
from sentifuse.fuse.features.batches import Batch, FieldRequest
from sentifuse.fuse.heads.head import Head, HeadOutput
from sentifuse.fuse.heads.pooled import pool
from sentifuse.fuse.layers.dropout import dropout
from sentifuse.fuse.layers.masked import keep_real
from sentifuse.fuse.layers.standardise import Standardise, layer_name, learn_statistics

# Shapes: B pairs, T elements of a sequence, D width of a field.

WORDS, REGIONS, CONTEXT = "tokens.states", "regions.features", "context.vector"
TOKENS_STATES = FieldRequest(encoder="tokens", field="states")
REGIONS_FEATURES = FieldRequest(encoder="regions", field="features")
CONTEXT_VECTOR = FieldRequest(encoder="context", field="vector")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineConfig:
    """Settings of the inputs."""

    standardise: Literal["none", "vectors", "all"] = setting(
        "vectors", "which inputs get zero mean and unit variance of the training part; vectors: not the sequences"
    )
    input_dropout: float = setting(0.0, "on every input, one mask for all words or regions of a pair", low=0, high=0.95)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionConfig(BaselineConfig):
    """Settings of the inputs of a head that reads regions."""

    region_count: int | None = setting(None, "m: the best regions that are stored; none: all", low=1)


class Baseline(Head):
    """A head whose inputs are checked, pooled if it wants vectors, standardised, and zero where nothing is real."""

    pooled: ClassVar[tuple[str, ...]] = ()  # sequences of which the head reads only the mean
    measures: ClassVar[tuple[str, ...]] = ()  # fields whose numbers mean something as they are: boxes

    config: Any

    def __init__(self, config: Any, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        self.standardise = nn.ModuleDict(
            {layer_name(key): Standardise(widths[key]) for key in self._standardised_keys()}
        )

    @classmethod
    def requests(cls, config: Any) -> tuple[FieldRequest, ...]:
        """The needed fields, regions cut to the first m."""
        limit = getattr(config, "region_count", None)
        return tuple(
            replace(request, limit=limit) if request.encoder == "regions" else request for request in cls.needs
        )

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Learn mean and scale of the inputs that are standardised."""
        layers: dict[str, Any] = {key: self.standardise[layer_name(key)] for key in self._standardised_keys()}
        if layers:
            learn_statistics(layers, batches, self._real_rows)

    def inputs(self, batch: Batch) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Every field by its key: values, zero where nothing is real, and mask; (B, D) and (B,) for a pooled one.

        Raises
        ------
        ValueError
            A field has another width than the head was built for.
        """
        self.check_widths(batch)
        read = {}
        for request in self.requests(self.config):
            key = request.key
            values, mask = self._raw(batch, key)
            if layer_name(key) in self.standardise:
                values = self.standardise[layer_name(key)](values, mask)
            if key not in self.measures:
                p, axis = self.config.input_dropout, 1 if mask.dim() == 2 else None
                values = dropout(values, p, training=self.training, shared_axis=axis)
            read[key] = values, mask
        return read

    def output(self, logits: torch.Tensor, batch: Batch, details: dict[str, torch.Tensor]) -> HeadOutput:
        """Logits and details, and `absent` (B, F): which of the fields, in the order of `requests`, a pair lacks."""
        masks = [batch.masks[request.key] for request in self.requests(self.config)]
        absent = torch.stack([~(mask if mask.dim() == 1 else mask.any(1)) for mask in masks], 1)
        return HeadOutput(logits=logits, details={**details, "absent": absent})

    def _raw(self, batch: Batch, key: str) -> tuple[torch.Tensor, torch.Tensor]:
        if key in self.pooled:
            return pool(batch, key)
        return keep_real(batch.values[key], batch.masks[key]), batch.masks[key]

    def _real_rows(self, batch: Batch) -> dict[str, torch.Tensor]:
        raw = {key: self._raw(batch, key) for key in self._standardised_keys()}
        return {key: values[mask] for key, (values, mask) in raw.items()}

    def _standardised_keys(self) -> list[str]:
        keys = [request.key for request in self.requests(self.config) if request.key not in self.measures]
        if self.config.standardise == "all":
            return keys
        is_sequence = {request.key for request in (TOKENS_STATES, REGIONS_FEATURES)} - set(self.pooled)
        return [key for key in keys if key not in is_sequence] if self.config.standardise == "vectors" else []
