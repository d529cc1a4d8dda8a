"""Concatenation and a small MLP: the classifier of Cheema et al., "A Fair and Comprehensive Comparison of Multimodal
Tweet Sentiment Analysis Methods", MMPT workshop at ICMR 2021. The network is that of the authors' program.

| step | formula | shape |
| --- | --- | --- |
| inputs | x = mean word state, v = image vector, each of unit length | (B, Dx), (B, Dv) |
| voices | x' = Dropout(ReLU(BN(W_x x + b))), v' likewise | (B, d) |
| output | y = softmax(W_c [x' ; v'] + b) | (B, K) |

Lost here: their text vector is the mean over the sum of the last four layers (a setting of the encoder, `last_layers`),
their image vectors come from several networks, joined in a larger model that is not in their program. The cache decides
what x and v are; `fields=clip` takes CLIP's two vectors, as one of their rows does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from sentifuse.fuse.config import setting
from sentifuse.fuse.features.batches import Batch, FieldRequest
from sentifuse.fuse.heads.baseline import CONTEXT_VECTOR, TOKENS_STATES, WORDS, Baseline, BaselineConfig
from sentifuse.fuse.heads.head import HeadOutput
from sentifuse.fuse.layers.batch_norm import BatchNorm
from sentifuse.fuse.layers.dropout import dropout
from sentifuse.fuse.layers.initial import initialise

# Shapes: B pairs, Dx / Dv widths of text and image vector, d units, K classes.

CLIP = (FieldRequest(encoder="clip", field="text"), FieldRequest(encoder="clip", field="image"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatMlpConfig(BaselineConfig):
    """Settings; the defaults are the authors' network."""

    standardise: Literal["none", "vectors", "all"] = setting("none", "inputs to zero mean and unit variance before it")
    fields: Literal["tokens", "clip"] = setting("tokens", "mean word state and context vector, or CLIP's two vectors")
    width: int = setting(128, "d: units per modality", low=1)
    dropout: float = setting(0.5, "on both modalities' units", low=0.0, high=0.95)
    # The authors' option 0.1 gives the other classes 0.1 together: 0.1 · K / (K − 1) here, 0.15 for three classes.
    label_smoothing: float = setting(0.0, "share of the target spread over all classes", low=0.0, high=0.5)


class ConcatMlp(Baseline):
    """One layer per modality, side by side, and a linear classifier."""

    description = "Cheema et al. 2021: one layer per modality on unit-length vectors, concatenated"
    needs = (TOKENS_STATES, CONTEXT_VECTOR)
    pooled = (WORDS,)
    Config = ConcatMlpConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            "standardise": "vectors",
            "input_dropout": 0.3,
            "optimiser": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 1.0,
            "schedule": "cosine",
            "epochs": 12,
        },
        # Of their grids (rates 2e-5 to 1e-4, batches 32 to 128, 50 to 100 epochs) the values their program starts with.
        "paper": {
            "width": 128,
            "dropout": 0.5,
            "optimiser": "adam",
            "learning_rate": 2e-5,
            "weight_decay": 0.0,
            "schedule": "plateau",
            "step_epochs": 5,
            "step_factor": 0.1,
            "batch_size": 32,
            "epochs": 100,
            "select": "loss",
            "patience": 0,
        },
    }

    config: ConcatMlpConfig

    def __init__(self, config: ConcatMlpConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        text, image = (request.key for request in self.requests(config))
        self.text = nn.Linear(widths[text], config.width)  # W_x
        self.text_norm = BatchNorm(config.width)
        self.image = nn.Linear(widths[image], config.width)  # W_v
        self.image_norm = BatchNorm(config.width)
        self.classifier = nn.Linear(2 * config.width, class_count)  # W_c
        initialise(self)

    @classmethod
    def requests(cls, config: ConcatMlpConfig) -> tuple[FieldRequest, ...]:
        """A text and an image field."""
        return CLIP if config.fields == "clip" else cls.needs

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits (B, K); `details`: text_feature and image_feature (B, d). A missing modality is a vector of zeros."""
        (x, _), (v, _) = self.inputs(batch).values()
        x, v = F.normalize(x, dim=-1), F.normalize(v, dim=-1)
        p = self.config.dropout
        x = dropout(F.relu(self.text_norm(self.text(x))), p, training=self.training)  # (B, d)
        v = dropout(F.relu(self.image_norm(self.image(v))), p, training=self.training)  # (B, d)
        logits = self.classifier(torch.cat([x, v], -1))  # (B, K)
        return self.output(logits, batch, {"text_feature": x, "image_feature": v})
