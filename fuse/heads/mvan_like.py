"""A multi-view attentional network after Yang, Feng, Wang and Zhang, IEEE TMM 2021.

Certain (abstract): a memory network that is updated continually; feature mapping, interactive learning, feature fusion;
by other papers' words: object and scene views of the image interact with the text, iteratively. Reconstruction: all
formulas and sizes below (the authors published no program), hence `_like`.

| step | formula | shape |
| --- | --- | --- |
| views | H = BiLSTM(words), G = tanh(W_r R + b), S = tanh(W_s v + b) | (B, T, d), (B, m, d), (B, d) |
| start | q_t = mean H, q_o = mean G, q_s = S | (B, d) |
| hop, 3 times, | a_o = Att_o(q_t; G), t_o = Att_1(q_o; H), t_s = Att_2(q_s; H) | (B, d) |
| old states read | q_t ← GRU_t([t_o ; t_s], q_t), q_o ← GRU_o(a_o, q_o), q_s ← GRU_s(S, q_s) | (B, d) |
| fusion | Z = stack(q_t, q_o, q_s), f = ReLU(W_f [q_t ; q_o ; q_s ; max Z ; mean Z] + b) | (B, d) |
| output | y = softmax(W_c f + b) | (B, K) |

The scene is one vector here, so attention over it is the identity and S stands in its place. Lost: GloVe, the two VGG
networks (ImageNet and Places) and whatever the original's fusion really is.
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
from sentifuse.fuse.layers.masked import keep_real, masked_mean
from sentifuse.fuse.layers.recurrent import BiLstm, check_even

# Shapes: B pairs, T words, m regions, d width, H hops, K classes.


@dataclass(frozen=True, slots=True, kw_only=True)
class MvanConfig(RegionConfig):
    """Settings of the multi-view network."""

    width: int = setting(128, "d: width of views and states, even [reconstruction]", low=2)
    hops: int = setting(3, "how often the views read each other [reconstruction]", low=1)
    dropout: float = setting(0.3, "before the classifier", low=0.0, high=0.95)

    def __post_init__(self) -> None:
        super(MvanConfig, self).__post_init__()
        check_even(self.width)


class MvanLike(Baseline):
    """Text, objects and scene as three states that read and are updated together."""

    description = "after the multi-view attentional network (Yang et al. 2021): text, objects, scene read each other"
    needs = (TOKENS_STATES, REGIONS_FEATURES, CONTEXT_VECTOR)
    Config = MvanConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            "width": 64,
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
    }

    config: MvanConfig

    def __init__(self, config: MvanConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        d = config.width
        self.words = BiLstm(widths[WORDS], d)
        self.regions = nn.Linear(widths[REGIONS], d)  # W_r
        self.scene = nn.Linear(widths[CONTEXT], d)  # W_s
        self.object_attention = AdditiveAttention(d)  # Att_o
        self.by_object = AdditiveAttention(d)  # Att_1
        self.by_scene = AdditiveAttention(d)  # Att_2
        self.text_update = nn.GRUCell(2 * d, d)
        self.object_update = nn.GRUCell(d, d)
        self.scene_update = nn.GRUCell(d, d)
        self.fuse = nn.Linear(5 * d, d)  # W_f
        self.classifier = nn.Linear(d, class_count)  # W_c
        initialise(self)

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits (B, K).

        Returns
        -------
        HeadOutput
            `details`: of the last hop region_weights (B, m), word_weights_by_object and word_weights_by_scene (B, T),
            word_weights, their mean; text_state, object_state, scene_state and fused (B, d).
        """
        given = self.inputs(batch)
        (x, has_word), (r, has_region), (v, _) = given[WORDS], given[REGIONS], given[CONTEXT]
        H = self.words(x, has_word)  # (B, T, d)  # noqa: N806 (the papers' letters)
        G = keep_real(torch.tanh(self.regions(r)), has_region)  # (B, m, d)  # noqa: N806
        S = torch.tanh(self.scene(v))  # (B, d)  # noqa: N806
        q_t, q_o, q_s = masked_mean(H, has_word), masked_mean(G, has_region), S  # (B, d)
        objects = self.object_attention.read(G, has_region)
        by_object, by_scene = self.by_object.read(H, has_word), self.by_scene.read(H, has_word)
        for _ in range(self.config.hops):
            a_o, region_weights = objects.ask(q_t)
            t_o, object_words = by_object.ask(q_o)
            t_s, scene_words = by_scene.ask(q_s)
            q_t = self.text_update(torch.cat([t_o, t_s], -1), q_t)
            q_o = self.object_update(a_o, q_o)
            q_s = self.scene_update(S, q_s)
        states = torch.stack([q_t, q_o, q_s], 1)  # (B, 3, d)
        f = F.relu(self.fuse(torch.cat([states.flatten(1), states.amax(1), states.mean(1)], -1)))  # (B, d)
        logits = self.classifier(dropout(f, self.config.dropout, training=self.training))  # (B, K)
        details = {
            "region_weights": region_weights,
            "word_weights": (object_words + scene_words) / 2,
            "word_weights_by_object": object_words,
            "word_weights_by_scene": scene_words,
            "text_state": q_t,
            "object_state": q_o,
            "scene_state": q_s,
            "fused": f,
        }
        return self.output(logits, batch, details)
