"""The gated multimodal unit of Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR workshop 2017,
as in the authors' program: one gate per unit decides between picture and text.

| step | formula | shape |
| --- | --- | --- |
| projections | a_v = W_v BN(v), a_t = W_t BN(x), no biases | (B, d) |
| gate | z = σ(W_z [a_v ; a_t]), from the projections before their tanh | (B, d) |
| fusion | h = z ⊙ tanh(a_v) + (1 − z) ⊙ tanh(a_t) | (B, d) |
| classifier | BN → maxout → BN → maxout → BN → linear, maxout over two pieces | (B, K) |

Dropout stands before every linear map. The original ends in a logistic unit per film genre (several may be true); here
one class is true, so softmax and cross-entropy: the only change of form. v and x are standardised first, which the
batch normalisation behind undoes; but zero then means missing. Not built: their search over a maximal norm of the
weights and over the range of the initial values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from sentifuse.fuse.config import setting
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.baseline import CONTEXT, CONTEXT_VECTOR, TOKENS_STATES, WORDS, Baseline, BaselineConfig
from sentifuse.fuse.heads.head import HeadOutput
from sentifuse.fuse.layers.batch_norm import BatchNorm
from sentifuse.fuse.layers.dropout import dropout
from sentifuse.fuse.layers.initial import initialise

# Shapes: B pairs, Dx / Dv widths of text and image vector, d units, K classes.

PIECES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GmuConfig(BaselineConfig):
    """Settings of the gated unit."""

    width: int = setting(128, "d: gated units; theirs 64 to 512 by search", low=1)
    dropout: float = setting(0.3, "before every linear map; theirs 0.3 to 0.7 by search", low=0.0, high=0.95)


class Maxout(nn.Module):
    """The larger of two linear pieces, unit by unit."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pieces = nn.Linear(width, PIECES * width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, d) → (B, d)."""
        pieces: torch.Tensor = self.pieces(values)
        return pieces.view(len(values), -1, PIECES).amax(-1)


class Gmu(Baseline):
    """Gated multimodal unit and a maxout classifier."""

    description = "gated multimodal unit (Arevalo et al. 2017): one gate per unit between picture and text"
    needs = (TOKENS_STATES, CONTEXT_VECTOR)
    pooled = (WORDS,)
    Config = GmuConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            "dropout": 0.5,
            "optimiser": "adamw",
            "learning_rate": 3e-3,
            "weight_decay": 1.0,
            "schedule": "cosine",
            "epochs": 12,
        },
        # Their values come from a random search; these are the middles of its ranges (logarithmic for the rate), not a
        # published choice. Their stopping looks at macro-F1.
        "authors": {
            "width": 256,
            "dropout": 0.5,
            "optimiser": "adam",
            "learning_rate": 1e-2,
            "weight_decay": 0.0,
            "schedule": "constant",
            "batch_size": 128,
            "epochs": 200,
            "patience": 20,
        },
    }

    config: GmuConfig

    def __init__(self, config: GmuConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        d = config.width
        self.image_norm = BatchNorm(widths[CONTEXT])
        self.text_norm = BatchNorm(widths[WORDS])
        self.image = nn.Linear(widths[CONTEXT], d, bias=False)  # W_v
        self.text = nn.Linear(widths[WORDS], d, bias=False)  # W_t
        self.gate = nn.Linear(2 * d, d, bias=False)  # W_z
        self.norms = nn.ModuleList([BatchNorm(d) for _ in range(3)])
        self.maxouts = nn.ModuleList([Maxout(d) for _ in range(2)])
        self.classifier = nn.Linear(d, class_count)
        initialise(self)

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits (B, K); `details`: gate z (B, d), its mean image_share (B,), fused h (B, d)."""
        given = self.inputs(batch)
        (x, _), (v, _) = given[WORDS], given[CONTEXT]
        a_v = self.image(self._drop(self.image_norm(v)))  # (B, d)
        a_t = self.text(self._drop(self.text_norm(x)))  # (B, d)
        z = torch.sigmoid(self.gate(self._drop(torch.cat([a_v, a_t], -1))))  # (B, d)
        h = z * torch.tanh(a_v) + (1 - z) * torch.tanh(a_t)  # (B, d)
        hidden = h
        for norm, maxout in zip(self.norms[:2], self.maxouts, strict=True):
            hidden = maxout(self._drop(norm(hidden)))
        logits = self.classifier(self._drop(self.norms[2](hidden)))  # (B, K)
        return self.output(logits, batch, {"gate": z, "image_share": z.mean(-1), "fused": h})

    def _drop(self, values: torch.Tensor) -> torch.Tensor:
        return dropout(values, self.config.dropout, training=self.training)
