"""Cross-attention between words and regions: a plain modern reference of our own, from no paper.

| step | formula | shape |
| --- | --- | --- |
| words | T = [n_t ; W_t X] | (B, 1 + T, d) |
| image | V = [n_v ; W_v v ; W_r R + W_b box], box = (x1, y1, x2, y2, area) in [0, 1] | (B, 2 + m, d) |
| layer, twice | T' = T + MHA(LN T, LN V), T' += FFN(LN T'); V' likewise from the old T | (B, ·, d) |
| output | y = softmax(W_c [mean LN T ; mean LN V] + b) | (B, K) |

n_t and n_v are learned and always there, so no row of an attention is ever empty. Words carry their place already. What
this head reaches is the bar for the question whether an alignment designed by hand buys anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from sentifuse import ConfigError
from sentifuse.fuse.config import setting
from sentifuse.fuse.features.batches import Batch, FieldRequest
from sentifuse.fuse.heads.baseline import (
    CONTEXT,
    CONTEXT_VECTOR,
    REGIONS,
    REGIONS_FEATURES,
    TOKENS_STATES,
    WORDS,
    Baseline,
    RegionConfig,
)
from sentifuse.fuse.heads.head import HeadOutput
from sentifuse.fuse.layers.attention import MultiHeadAttention
from sentifuse.fuse.layers.dropout import dropout
from sentifuse.fuse.layers.initial import initialise
from sentifuse.fuse.layers.masked import masked_mean

# Shapes: B pairs, T words, m regions, d width, K classes.  I = 1 + T and J = 2 + m positions with the learned ones.

BOXES = "regions.boxes_normalised"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossAttentionConfig(RegionConfig):
    """Settings of the cross-attention."""

    width: int = setting(128, "d: width of both sequences", low=1)
    heads: int = setting(4, "parallel heads of every attention", low=1)
    layers: int = setting(2, "layers of both sequences", low=1)
    dropout: float = setting(
        0.3, "on the result of every attention and inner map, before the classifier", low=0, high=0.95
    )

    def __post_init__(self) -> None:
        super(CrossAttentionConfig, self).__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"width: expected a multiple of heads ({self.heads}), found {self.width}")


class CrossLayer(nn.Module):
    """One sequence reads the other: attention and an inner map, each with a normalisation before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.own_norm = nn.LayerNorm(width)
        self.other_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads)
        self.inner_norm = nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(
        self, own: torch.Tensor, other: torch.Tensor, other_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, I, d), (B, J, d), (B, J) → (B, I, d) and the mean of the heads' weights (B, I, J)."""
        read, weights = self.attention(self.own_norm(own), self.other_norm(other), other_mask)
        own = own + dropout(read, self.dropout, training=self.training)
        return own + dropout(self.inner(self.inner_norm(own)), self.dropout, training=self.training), weights


class CrossAttention(Baseline):
    """Words read regions, regions read words."""

    description = "plain cross-attention between words and regions with their boxes: a modern reference, from no paper"
    needs = (
        TOKENS_STATES,
        REGIONS_FEATURES,
        FieldRequest(encoder="regions", field="boxes_normalised"),
        CONTEXT_VECTOR,
    )
    measures = (BOXES,)
    Config = CrossAttentionConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            "width": 64,
            "region_count": 9,
            "input_dropout": 0.3,
            "optimiser": "adamw",
            "learning_rate": 5e-4,
            "weight_decay": 1.0,
            "schedule": "cosine",
            "gradient_clip": 5.0,
            "epochs": 6,
        },
    }

    config: CrossAttentionConfig

    def __init__(self, config: CrossAttentionConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        d = config.width
        self.text = nn.Linear(widths[WORDS], d)  # W_t
        self.context = nn.Linear(widths[CONTEXT], d)  # W_v
        self.regions = nn.Linear(widths[REGIONS], d)  # W_r
        self.boxes = nn.Linear(widths[BOXES] + 1, d)  # W_b
        self.text_null = nn.Parameter(0.02 * torch.randn(d))  # n_t
        self.image_null = nn.Parameter(0.02 * torch.randn(d))  # n_v
        self.text_layers = self._new_layers()
        self.image_layers = self._new_layers()
        self.text_norm = nn.LayerNorm(d)
        self.image_norm = nn.LayerNorm(d)
        self.classifier = nn.Linear(2 * d, class_count)  # W_c
        initialise(self)

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits (B, K).

        Returns
        -------
        HeadOutput
            `details` of the last layer: what each word gives to every region, region_attention (B, T, m), and each
            region to every word, word_attention (B, m, T); a row's rest went to the learned position and the context.
            text_feature and image_feature (B, d).
        """
        given = self.inputs(batch)
        (x, has_word), (r, has_region), (v, has_context) = given[WORDS], given[REGIONS], given[CONTEXT]
        boxes, always = given[BOXES][0], torch.ones_like(has_context)
        first, last = boxes[..., :2], boxes[..., 2:4]
        area = (last - first).prod(-1, keepdim=True)  # (B, m, 1)
        cells = self.regions(r) + self.boxes(torch.cat([boxes, area], -1))  # (B, m, d)
        T = self._sequence(self.text_null, self.text(x))  # (B, I, d)  # noqa: N806
        V = self._sequence(self.image_null, self.context(v).unsqueeze(1), cells)  # (B, J, d)  # noqa: N806
        text_mask = torch.cat([always[:, None], has_word], 1)  # (B, I)
        image_mask = torch.cat([always[:, None], has_context[:, None], has_region], 1)  # (B, J)
        for text_layer, image_layer in zip(self.text_layers, self.image_layers, strict=True):
            (T, to_image), (V, to_text) = (  # noqa: N806
                text_layer(T, V, image_mask),
                image_layer(V, T, text_mask),  # from the old T
            )
        text, image = masked_mean(self.text_norm(T), text_mask), masked_mean(self.image_norm(V), image_mask)  # (B, d)
        both = dropout(torch.cat([text, image], -1), self.config.dropout, training=self.training)
        details = {
            "region_attention": to_image[:, 1:, 2:],
            "word_attention": to_text[:, 2:, 1:],
            "text_feature": text,
            "image_feature": image,
        }
        return self.output(self.classifier(both), batch, details)  # (B, K)

    def _new_layers(self) -> nn.ModuleList:
        c = self.config
        return nn.ModuleList([CrossLayer(c.width, c.heads, c.dropout) for _ in range(c.layers)])

    @staticmethod
    def _sequence(null: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        """The learned position, then the parts, (B, ·, d)."""
        return torch.cat([null.expand(len(parts[0]), 1, -1), *parts], 1)
