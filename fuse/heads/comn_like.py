"""A co-memory network after Xu, Mao and Chen, SIGIR 2018: text and image query each other's memory, hop by hop.

Certain (abstract): words and image influence each other, iteratively; quoted results are of six hops. Supported by the
first author's later program (MIMN, 2019): additive attention; the text state moves first, then the image state reads
with the *new* text state; update by attention result + linear map of the old state; the same weights in every hop.
Reconstruction: start queries, regions as image memory, weights of their own per modality, sizes. Hence `_like`.

| step | formula | shape |
| --- | --- | --- |
| memories | H = BiLSTM(words), G = tanh(W_r R + b) | (B, T, d), (B, m, d) |
| start | q_t = mean H, q_v = mean G | (B, d) |
| hop, 6 times | q_t ← Att_t(q_v; H) + L_t q_t + b, then q_v ← Att_v(q_t; G) + L_v q_v + b | (B, d) |
| output | y = softmax(W_c [q_t ; q_v] + b) | (B, K) |

Lost: word vectors and a convolutional map tuned end to end; the `grid` backend of the regions comes nearest to the map.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from sentifuse.fuse.config import setting
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.baseline import REGIONS, REGIONS_FEATURES, TOKENS_STATES, WORDS, Baseline, RegionConfig
from sentifuse.fuse.heads.head import HeadOutput
from sentifuse.fuse.layers.attention import AdditiveAttention
from sentifuse.fuse.layers.dropout import dropout
from sentifuse.fuse.layers.initial import initialise
from sentifuse.fuse.layers.masked import keep_real, masked_mean
from sentifuse.fuse.layers.recurrent import BiLstm, check_even

# Shapes: B pairs, T words, m regions, d width, H hops, K classes.


@dataclass(frozen=True, slots=True, kw_only=True)
class ComnConfig(RegionConfig):
    """Settings of the co-memory network."""

    width: int = setting(128, "d: width of memories and states, even [reconstruction]", low=2)
    hops: int = setting(6, "how often the two states read", low=1)
    update: Literal["sum", "gru"] = setting("sum", "attention result + linear map, or a GRU cell as in MIMN")
    share: bool = setting(False, "one attention and one update for both modalities, as in MIMN's program")
    simultaneous: bool = setting(False, "both states read with the other's old state, instead of text first")
    dropout: float = setting(0.3, "before the classifier", low=0.0, high=0.95)

    def __post_init__(self) -> None:
        super(ComnConfig, self).__post_init__()
        check_even(self.width)


class ComnLike(Baseline):
    """Two memories that query each other."""

    description = "after the co-memory network (Xu et al. 2018): text and image read each other's memory, six hops"
    needs = (TOKENS_STATES, REGIONS_FEATURES)
    Config = ComnConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            "region_count": 9,
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
        # CoMN's own recipe is not public: that of the same authors' MIMN, whose program has the co-memory as baseline.
        "authors": {
            "width": 100,
            "hops": 3,
            "share": True,
            "optimiser": "adam",
            "learning_rate": 1e-3,
            "weight_decay": 0.0,
            "schedule": "constant",
            "batch_size": 128,
            "epochs": 100,
            "patience": 10,
        },
    }

    config: ComnConfig

    def __init__(self, config: ComnConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        d = config.width
        self.words = BiLstm(widths[WORDS], d)
        self.regions = nn.Linear(widths[REGIONS], d)  # W_r
        self.text_attention = AdditiveAttention(d)  # Att_t
        self.image_attention = self.text_attention if config.share else AdditiveAttention(d)  # Att_v
        self.text_update = self._new_update()  # L_t
        self.image_update = self.text_update if config.share else self._new_update()  # L_v
        self.classifier = nn.Linear(2 * d, class_count)  # W_c
        initialise(self)

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits (B, K); without regions Att_v gives 0 and q_v lives on its linear map alone.

        Returns
        -------
        HeadOutput
            `details`: word_weights (B, T) and region_weights (B, m) of the last hop, word_weights_per_hop (B, H, T),
            region_weights_per_hop (B, H, m), text_state and image_state (B, d).
        """
        given = self.inputs(batch)
        (x, has_word), (r, has_region) = given[WORDS], given[REGIONS]
        H = self.words(x, has_word)  # (B, T, d)  # noqa: N806 (the papers' letters)
        G = keep_real(torch.tanh(self.regions(r)), has_region)  # (B, m, d)  # noqa: N806
        text, image = self.text_attention.read(H, has_word), self.image_attention.read(G, has_region)
        q_t, q_v = masked_mean(H, has_word), masked_mean(G, has_region)  # (B, d)
        word_weights, region_weights = [], []
        for _ in range(self.config.hops):
            old = q_t
            read_text, weights = text.ask(q_v)
            word_weights.append(weights)
            q_t = self._move(self.text_update, read_text, q_t)
            read_image, weights = image.ask(old if self.config.simultaneous else q_t)
            region_weights.append(weights)
            q_v = self._move(self.image_update, read_image, q_v)
        state = torch.cat([q_t, q_v], -1)  # (B, 2d)
        logits = self.classifier(dropout(state, self.config.dropout, training=self.training))  # (B, K)
        details = {
            "word_weights": word_weights[-1],
            "region_weights": region_weights[-1],
            "word_weights_per_hop": torch.stack(word_weights, 1),
            "region_weights_per_hop": torch.stack(region_weights, 1),
            "text_state": q_t,
            "image_state": q_v,
        }
        return self.output(logits, batch, details)

    def _new_update(self) -> nn.Module:
        d = self.config.width
        return nn.Linear(d, d) if self.config.update == "sum" else nn.GRUCell(d, d)

    def _move(self, update: nn.Module, read: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The new state (B, d)."""
        moved: torch.Tensor = update(read, state) if isinstance(update, nn.GRUCell) else read + update(state)
        return moved
