"""CLMLF, Li, Xu, Zhu and Zhao, Findings of NAACL 2022: one encoder over words and image cells, and two contrasts.

The form is that of the authors' program; `_like` because BERT is not tuned here and there are no augmented views.

| step | formula | shape |
| --- | --- | --- |
| inputs | T = GELU(W_t X), V = Enc_img([GELU(W_v v) ; GELU(W_r R)]) | (B, T, d), (B, 1 + m, d) |
| fusion | Z = Enc_fuse([T ; V]), no position or type signal | (B, T + 1 + m, d) |
| pooling | α = msoftmax(Linear(GELU(Linear Z))), d → d/2 → 1; f = Σ α Z | (B, d) |
| output | dropout, linear d → d/2, GELU, linear → K | (B, K) |
| data contrast | q = P_o(f), q' = P_a(f'), P: d → d, GELU, d → d; L_d = CE(rows of q q'ᵀ/τ, diagonal) | (B, B) |
| label contrast | `authors`: ℓ = log softmax(q qᵀ), L_l = −mean of ℓ / τ over all pairs of equal label | (B, B) |

Enc is BERT's layer: normalisation after each part, inner width 4d. `contrast=authors` divides CE + L_d + L_l by the
batch's size, as they do; a pair counts as its own partner there, and τ, outside the softmax, only weighs L_l.
Reconstruction: f' comes from the same features with left-out words and dropout masks of its own, where they translate
the text back and augment the picture. `contrast=usual` takes L_l in its usual form: q of unit length, τ inside the
softmax, a pair is not its own partner, mean over pairs that have one. Different on purpose: the cells are places of the
picture; their program cuts the map without transposing, so theirs are slices of channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from sentifuse import ConfigError
from sentifuse.fuse.config import setting
from sentifuse.fuse.features.batches import Batch
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
from sentifuse.fuse.layers.dropout import dropout, leave_out
from sentifuse.fuse.layers.initial import initialise
from sentifuse.fuse.layers.masked import masked_softmax

# Shapes: B pairs, T words, m image cells, J = T + 1 + m, d width, K classes.


@dataclass(frozen=True, slots=True, kw_only=True)
class ClmlfConfig(RegionConfig):
    """Settings of CLMLF."""

    width: int = setting(128, "d; theirs 768", low=2)
    heads: int = setting(2, "parallel heads of every attention, d / 64 as in BERT", low=1)
    image_layers: int = setting(2, "layers of the image encoder", low=1)
    fusion_layers: int = setting(3, "layers of the joint encoder; theirs 3 on MVSA-Single, 4 on MVSA-Multiple", low=1)
    dropout: float = setting(0.1, "in every layer and before the classifier", low=0.0, high=0.95)
    contrast: Literal["usual", "authors", "none"] = setting("usual", "the two contrastive losses, or none")
    temperature: float = setting(0.07, "τ", low=1e-3)
    data_weight: float = setting(1.0, "of the data contrast; theirs 1", low=0.0)
    label_weight: float = setting(1.0, "of the label contrast; theirs 1", low=0.0)
    left_out_words: float = setting(0.15, "share of words the second view lacks [reconstruction]", low=0.0, high=0.95)

    def __post_init__(self) -> None:
        super(ClmlfConfig, self).__post_init__()
        if self.width % self.heads or self.width % 2:
            raise ConfigError(f"width: expected a multiple of 2 and of heads ({self.heads}), found {self.width}")


class EncoderLayer(nn.Module):
    """BERT's layer: attention, then two linear maps, each with a residual and a normalisation after it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention = MultiHeadAttention(width, heads, weight_dropout=dropout)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.inner = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.inner_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, J, d), (B, J) → (B, J, d)."""
        attended, _ = self.attention(values, values, mask)
        values = self.attention_norm(values + dropout(attended, self.dropout, training=self.training))
        inner = dropout(self.inner(values), self.dropout, training=self.training)
        normalised: torch.Tensor = self.inner_norm(values + inner)
        return normalised


class ClmlfLike(Baseline):
    """Joint encoder over words and cells with contrastive losses."""

    description = "after CLMLF (Li et al. 2022): one encoder over words and image cells, two contrastive losses"
    needs = (TOKENS_STATES, REGIONS_FEATURES, CONTEXT_VECTOR)
    Config = ClmlfConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        # Contrasts at their authors' weight of 1 cost six points of validation accuracy in this short training.
        "default": {
            "width": 64,
            "heads": 1,
            "image_layers": 1,
            "fusion_layers": 2,
            "region_count": 9,
            "input_dropout": 0.3,
            "data_weight": 0.03,
            "label_weight": 0.1,
            "optimiser": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 1.0,
            "schedule": "cosine",
            "average": 0.99,
            "gradient_clip": 5.0,
            "epochs": 6,
        },
        # Their sizes and recipe (42 million parameters: for a GPU); 20 epochs are theirs with BERT held still, 30 not.
        "authors": {
            "width": 768,
            "heads": 12,
            "image_layers": 2,
            "fusion_layers": 3,
            "dropout": 0.1,
            "contrast": "authors",
            "optimiser": "adamw",
            "learning_rate": 2e-5,
            "weight_decay": 1e-2,
            "schedule": "constant",
            "batch_size": 32,
            "epochs": 50,
            "patience": 0,
        },
        "authors@mvsa_multiple": {"fusion_layers": 4, "batch_size": 64},
    }

    config: ClmlfConfig

    def __init__(self, config: ClmlfConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        d = config.width
        self.text = nn.Linear(widths[WORDS], d)  # W_t
        self.context = nn.Linear(widths[CONTEXT], d)  # W_v
        self.regions = nn.Linear(widths[REGIONS], d)  # W_r
        self.image_encoder = self._new_encoder(config.image_layers)
        self.fusion_encoder = self._new_encoder(config.fusion_layers)
        self.pool = nn.Sequential(nn.Linear(d, d // 2), nn.GELU(), nn.Linear(d // 2, 1))
        self.classifier = nn.Sequential(nn.Linear(d, d // 2), nn.GELU(), nn.Linear(d // 2, class_count))
        if config.contrast != "none":
            self.first_view = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))  # P_o
            self.second_view = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))  # P_a
        initialise(self)

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits (B, K).

        Returns
        -------
        HeadOutput
            `details`: α in its three parts, word_weights (B, T), context_weight (B,), region_weights (B, m); pooled f
            (B, d); in training also the two views q and q', first_view and second_view (B, d).
        """
        given = self.inputs(batch)
        (x, has_word), (r, has_region), (v, has_context) = given[WORDS], given[REGIONS], given[CONTEXT]
        text = F.gelu(self.text(x))  # (B, T, d)
        image = F.gelu(torch.cat([self.context(v).unsqueeze(1), self.regions(r)], 1))  # (B, 1 + m, d)
        # The context's place is always read, as theirs: what is missing stands there as W_v · 0.
        has_cell = torch.cat([torch.ones_like(has_context).unsqueeze(1), has_region], 1)
        f, weights = self._encode(text, has_word, image, has_cell)  # (B, d), (B, J)
        logits = self.classifier(dropout(f, self.config.dropout, training=self.training))  # (B, K)
        t = has_word.shape[1]
        details = {
            "word_weights": weights[:, :t],
            "context_weight": weights[:, t],
            "region_weights": weights[:, t + 1 :],
            "pooled": f,
        }
        if self.training and self.config.contrast != "none":
            fewer_words = leave_out(has_word, self.config.left_out_words, training=True)
            other, _ = self._encode(text, fewer_words, image, has_cell)
            details |= {"first_view": self.first_view(f), "second_view": self.second_view(other)}
        return self.output(logits, batch, details)

    def loss(self, output: HeadOutput, batch: Batch) -> torch.Tensor:
        """Cross-entropy, and in training both contrasts."""
        entropy = super().loss(output, batch)
        if "first_view" not in output.details or batch.labels is None:
            return entropy
        q, other = output.details["first_view"], output.details["second_view"]
        tau = self.config.temperature
        data = self.config.data_weight * data_contrast(q, other, tau)
        if self.config.contrast == "authors":
            return (entropy + data + self.config.label_weight * authors_contrast(q, batch.labels, tau)) / len(batch)
        return entropy + data + self.config.label_weight * label_contrast(q, batch.labels, tau)

    def _new_encoder(self, layers: int) -> nn.ModuleList:
        c = self.config
        return nn.ModuleList([EncoderLayer(c.width, c.heads, c.dropout) for _ in range(layers)])

    def _encode(
        self, text: torch.Tensor, has_word: torch.Tensor, image: torch.Tensor, has_cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """f (B, d) and its weights α (B, J)."""
        for layer in self.image_encoder:
            image = layer(image, has_cell)
        joint, mask = torch.cat([text, image], 1), torch.cat([has_word, has_cell], 1)  # (B, J, d), (B, J)
        for layer in self.fusion_encoder:
            joint = layer(joint, mask)
        weights = masked_softmax(self.pool(joint).squeeze(-1), mask)  # (B, J)
        return torch.einsum("bj,bjd->bd", weights, joint), weights


def data_contrast(q: torch.Tensor, other: torch.Tensor, temperature: float) -> torch.Tensor:
    """Each first view finds its own second view among the batch's; no normalisation. (B, d), (B, d) → scalar."""
    return F.cross_entropy(q @ other.T / temperature, torch.arange(len(q), device=q.device))


def authors_contrast(q: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """−(1/|P|) Σ ℓ_ij / τ over the pairs P of equal label, i = j included; ℓ = log softmax of the rows of q qᵀ."""
    equal = labels[:, None] == labels[None]
    return -((q @ q.T).log_softmax(-1)[equal] / temperature).mean()


def label_contrast(q: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean, over pairs i with a partner, of the mean of −log softmax_{j ≠ i}(q_i·q_j/τ) over its partners j."""
    q = F.normalize(q, dim=-1)
    itself = torch.eye(len(q), dtype=torch.bool, device=q.device)
    partner = (labels[:, None] == labels[None]) & ~itself
    scores = (q @ q.T / temperature).masked_fill(itself, torch.finfo(q.dtype).min)
    found = (scores.log_softmax(-1).masked_fill(~partner, 0.0)).sum(-1) / partner.sum(-1).clamp_min(1)
    has_partner = partner.any(-1)
    return -found.sum() / has_partner.sum().clamp_min(1)  # 0 when nobody has a partner
