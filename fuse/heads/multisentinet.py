"""MultiSentiNet, Xu and Mao, CIKM 2017: what the picture shows picks the words that matter. After the authors' program.

| step | formula | shape |
| --- | --- | --- |
| object, scene | o = ReLU(W_1 x_obj + b), s = ReLU(W_2 x_scn + b) | (B, d) |
| words | H = LSTM(words), one direction | (B, T, d) |
| attention | u_i = tanh(W h_i + W_o o + W_s s + b), α = softmax(w·u_i), z = Σ α_i h_i | (B, T), (B, d) |
| fusion | f = ReLU(W_f [s ; o ; z] + b), y = softmax(W_c f + b) | (B, d), (B, K) |

Other inputs than theirs: the words are the encoder's states (theirs: GloVe, trained on), x_obj is the mean of the
regions and x_scn the context vector (theirs, by a later readme: scores of 1,000 objects and 365 scenes). Other in form:
pads are masked; their program attends to pads that stand before the words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

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
from sentifuse.fuse.layers.attention import AdditiveAttention
from sentifuse.fuse.layers.dropout import dropout
from sentifuse.fuse.layers.initial import initialise
from sentifuse.fuse.layers.recurrent import ForwardLstm

# Shapes: B pairs, T words, d width, K classes.


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiSentiNetConfig(RegionConfig):
    """Settings of MultiSentiNet."""

    width: int = setting(128, "d: width of everything inside", low=1)
    dropout: float = setting(0.3, "before the classifier; theirs 0", low=0.0, high=0.95)


class MultiSentiNet(Baseline):
    """Object and scene as query of an attention over LSTM states."""

    description = "MultiSentiNet (Xu and Mao 2017): object and scene guide an attention over the words"
    needs = (TOKENS_STATES, REGIONS_FEATURES, CONTEXT_VECTOR)
    pooled = (REGIONS,)
    Config = MultiSentiNetConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            "standardise": "all",
            "input_dropout": 0.3,
            "optimiser": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 5.0,
            "schedule": "cosine",
            "average": 0.99,
            "gradient_clip": 5.0,
            "epochs": 8,
        },
        "authors": {
            "width": 128,
            "dropout": 0.0,
            "optimiser": "rmsprop",
            "learning_rate": 1e-3,
            "weight_decay": 0.0,
            "schedule": "constant",
            "batch_size": 32,
            "epochs": 100,
            "select": "loss",
            "patience": 5,
        },
        "authors@mvsa_multiple": {"batch_size": 128},
    }

    config: MultiSentiNetConfig

    def __init__(self, config: MultiSentiNetConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        d = config.width
        self.object = nn.Linear(widths[REGIONS], d)  # W_1
        self.scene = nn.Linear(widths[CONTEXT], d)  # W_2
        self.words = ForwardLstm(widths[WORDS], d)
        self.attention = AdditiveAttention(d, queries=2)  # W, W_o, W_s, w
        self.fuse = nn.Linear(3 * d, d)  # W_f
        self.classifier = nn.Linear(d, class_count)  # W_c
        initialise(self)

    def notes(self) -> dict[str, Any]:
        """What stands for the original's object and scene detectors."""
        return {"object": f"mean of {REGIONS}", "scene": CONTEXT}

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits (B, K); `details`: word_weights α (B, T), object, scene, read (z) and fused (B, d)."""
        given = self.inputs(batch)
        (x, has_word), (x_obj, _), (x_scn, _) = given[WORDS], given[REGIONS], given[CONTEXT]
        o, s = F.relu(self.object(x_obj)), F.relu(self.scene(x_scn))  # (B, d)
        h = self.words(x, has_word)  # (B, T, d)
        z, weights = self.attention(h, has_word, o, s)  # (B, d), (B, T)
        f = F.relu(self.fuse(torch.cat([s, o, z], -1)))  # (B, d)
        logits = self.classifier(dropout(f, self.config.dropout, training=self.training))  # (B, K)
        return self.output(logits, batch, {"word_weights": weights, "object": o, "scene": s, "read": z, "fused": f})
