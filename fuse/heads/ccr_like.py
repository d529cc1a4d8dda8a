"""Cross-modality consistent regression after You et al., WSDM 2016: picture, text and both are pulled to one answer.

Certain (abstract): regressions on fine-tuned picture features, on paragraph vectors, and on both; consistency across
modalities. Reconstruction: the two-sided divergence, the weights β = λ = 1, and everything below, hence `_like`.

| step | formula | shape |
| --- | --- | --- |
| three voices | p_t = softmax(W_t x + b), p_v = softmax(W_v v + b), p_c = softmax(W_c [x ; v] + b) | (B, K) |
| divergence | J(p, q) = Σ (p − q)(ln p − ln q) | (B,) |
| loss | CE(p_c, y) + β (CE(p_t, y) + CE(p_v, y)) + λ (J(p_c, p_t) + J(p_c, p_v)) | |

The answer is p_c; where a modality is missing, the voice of the other one. Lost: tuned picture features, paragraph
vectors, half a million weakly labelled pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from sentifuse.fuse.config import setting
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.baseline import CONTEXT, CONTEXT_VECTOR, TOKENS_STATES, WORDS, Baseline, BaselineConfig
from sentifuse.fuse.heads.head import HeadOutput
from sentifuse.fuse.layers.initial import initialise

# Shapes: B pairs, Dx / Dv widths of text and image vector, K classes.


@dataclass(frozen=True, slots=True, kw_only=True)
class CcrConfig(BaselineConfig):
    """Settings of the consistent regression."""

    voice_weight: float = setting(1.0, "β: weight of the single voices' cross-entropy [reconstruction]", low=0.0)
    consistency_weight: float = setting(1.0, "λ: weight of the divergences [reconstruction]", low=0.0)


class CcrLike(Baseline):
    """Three linear voices and a loss that makes them agree."""

    description = "after cross-modality consistent regression (You et al. 2016): three linear voices that shall agree"
    needs = (TOKENS_STATES, CONTEXT_VECTOR)
    pooled = (WORDS,)
    Config = CcrConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            "input_dropout": 0.5,
            "optimiser": "adamw",
            "learning_rate": 3e-3,
            "weight_decay": 1.0,
            "schedule": "cosine",
            "epochs": 15,
        },
    }

    config: CcrConfig

    def __init__(self, config: CcrConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        self.text = nn.Linear(widths[WORDS], class_count)  # W_t
        self.image = nn.Linear(widths[CONTEXT], class_count)  # W_v
        self.joint = nn.Linear(widths[WORDS] + widths[CONTEXT], class_count)  # W_c
        initialise(self)

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits (B, K) of the answer; `details`: joint_logits, text_logits, image_logits (B, K)."""
        given = self.inputs(batch)
        (x, has_text), (v, has_image) = given[WORDS], given[CONTEXT]
        text, image, joint = self.text(x), self.image(v), self.joint(torch.cat([x, v], -1))  # (B, K)
        logits = torch.where((has_text & ~has_image)[:, None], text, joint)
        logits = torch.where((has_image & ~has_text)[:, None], image, logits)
        return self.output(logits, batch, {"joint_logits": joint, "text_logits": text, "image_logits": image})

    def loss(self, output: HeadOutput, batch: Batch) -> torch.Tensor:
        """Mean over the pairs of the three cross-entropies and the two divergences."""
        if batch.labels is None:
            raise ValueError("a loss needs a batch with labels")
        joint, text, image = (output.details[f"{name}_logits"] for name in ("joint", "text", "image"))
        entropies = [F.cross_entropy(logits, batch.labels) for logits in (joint, text, image)]
        divergence = mean_divergence(joint, text) + mean_divergence(joint, image)
        voices = entropies[1] + entropies[2]
        return entropies[0] + self.config.voice_weight * voices + self.config.consistency_weight * divergence


def mean_divergence(logits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Mean over the pairs of J(p, q), both given as logits (B, K): never the logarithm of a rounded probability."""
    p, q = logits.log_softmax(-1), others.log_softmax(-1)
    return ((p.exp() - q.exp()) * (p - q)).sum(-1).mean()
