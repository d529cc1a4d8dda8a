"""ITIN, the Image-Text Interaction Network of Zhu et al., IEEE TMM 25 (2023) 3375–3385: equations 1–20, top to bottom.

Regions look for their words (cross-modal alignment), a gate decides how much each region-word pair counts, and the
result joins the context of both modalities. Where the paper is silent, the setting says what was chosen. The authors'
program differs in many points (two GRUs, unit-length vectors, no masks); this file follows the paper.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sentifuse.fuse.batches import Batch, FieldRequest
from sentifuse.fuse.config import check_settings, setting
from sentifuse.fuse.heads.dropout import dropout
from sentifuse.fuse.heads.head import Head, HeadOutput, initialise, keep_real, masked_mean, masked_softmax
from sentifuse.fuse.heads.standardise import Standardise, learn_statistics

# Shapes: B batch, m regions, n words (the longest text of the batch), Df / Dx / Dv widths of region, word and context
#         features, d shared width, k alignment width, h width of the two MLPs, K classes.  Masks are bool, True = real.

REGIONS, WORDS, CONTEXT = "regions.features", "tokens.states", "context.vector"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItinConfig:
    """Settings of ITIN; the defaults are the paper's equations without anything added."""

    width: int = setting(256, "d: width of regions and words after projection and GRU [not in the paper]", low=1)
    align_width: int = setting(256, "k: width in which regions and words are compared [not in the paper]", low=1)
    mlp_width: int = setting(64, "h: width of the two MLPs, one linear layer and ReLU each [not in the paper]", low=1)
    pool_width: int | None = setting(None, "hidden width of Tran_z, eq. 12; none: d [not in the paper]", low=1)
    gru_layers: int = setting(1, "layers of the bidirectional GRU", low=1)
    gate: Literal["scalar", "vector"] = setting("scalar", "eq. 8 read as a dot product, or elementwise")
    visual_weight: float = setting(0.2, "λ of eq. 18: share of the visual context", low=0.0, high=1.0)
    region_count: int = setting(2, "m: the best m regions that are stored", low=1)
    word_dropout: float = setting(0.0, "on the words after the GRU, and between its layers", low=0.0, high=0.95)
    # Not in the paper; the preset `paper` has all of these off.
    input_dropout: float = setting(0.0, "on region and word features, one mask per pair", low=0.0, high=0.95)
    context_dropout: float = setting(0.0, "on the context vector", low=0.0, high=0.95)
    left_out_words: float = setting(0.0, "share of a text's words that a training step leaves out", low=0.0, high=0.95)
    pooled_dropout: float = setting(0.0, "on C before the two MLPs", low=0.0, high=0.95)
    output_dropout: float = setting(0.0, "on F before the classifier", low=0.0, high=0.95)
    standardise: bool = setting(False, "inputs to zero mean and unit variance by the training part's statistics")
    layer_norm: bool = setting(False, "layer norm on projected regions and on words")
    label_smoothing: float = setting(0.0, "share of the target spread over all classes", low=0.0, high=0.5)

    def __post_init__(self) -> None:
        check_settings(self)


class Itin(Head):
    """Image-Text Interaction Network, equations 1–20."""

    description = "ITIN (Zhu et al. 2023): regions aligned with words, gated, joined with both contexts"
    needs = (
        FieldRequest(encoder="regions", field="features"),
        FieldRequest(encoder="tokens", field="states"),
        FieldRequest(encoder="context", field="vector"),
    )
    Config = ItinConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        # Chosen on validation parts of MVSA-Single (seeds 10–15, offline features) before any test part was read. The
        # paper's recipe overfits within a few epochs there; what helped most was strong decoupled weight decay, then
        # standardised inputs, dropout on them, a narrow head, and the vector reading of the gate.
        "default": {
            "width": 64,
            "align_width": 64,
            "gate": "vector",
            "region_count": 2,
            "standardise": True,
            "input_dropout": 0.3,
            "left_out_words": 0.15,
            "context_dropout": 0.4,
            "word_dropout": 0.4,
            "pooled_dropout": 0.4,
            "output_dropout": 0.2,
            "optimiser": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 5.0,
            "schedule": "cosine",
            "epochs": 10,
            "average": 0.99,
            "patience": 0,
        },
        # Section IV of the paper; widths and the dropout after the GRU are in neither text nor tables.
        "paper": {
            "width": 256,
            "align_width": 256,
            "mlp_width": 64,
            "gru_layers": 1,
            "gate": "scalar",
            "visual_weight": 0.2,
            "region_count": 2,
            "word_dropout": 0.25,
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

    config: ItinConfig

    def __init__(self, config: ItinConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        d, k, h = config.width, config.align_width, config.mlp_width
        pool_width = config.pool_width or d
        self.region = nn.Linear(widths[REGIONS], d)  # W_r, b_r
        self.word_gru = nn.GRU(
            widths[WORDS],
            d,
            num_layers=config.gru_layers,
            dropout=config.word_dropout if config.gru_layers > 1 else 0.0,
            bidirectional=True,
            batch_first=True,
        )
        self.align_region = nn.Linear(d, k, bias=False)  # Ŵ_r
        self.align_text = nn.Linear(d, k, bias=False)  # Ŵ_t
        self.fuse = nn.Linear(2 * d, d)  # W_o, b_o
        self.pool = nn.Sequential(nn.Linear(d, pool_width), nn.ReLU(), nn.Linear(pool_width, 1))  # Tran_z
        self.visual_mlp = nn.Linear(widths[CONTEXT] + d, h)
        self.textual_mlp = nn.Linear(d + d, h)
        self.classifier = nn.Linear(h, class_count)  # W_f, b_f
        initialise(self)
        self.region_norm = nn.LayerNorm(d) if config.layer_norm else None
        self.word_norm = nn.LayerNorm(d) if config.layer_norm else None
        self.standardise = (
            nn.ModuleDict({_attribute(key): Standardise(widths[key]) for key in (REGIONS, WORDS, CONTEXT)})
            if config.standardise
            else None
        )

    @classmethod
    def requests(cls, config: ItinConfig) -> tuple[FieldRequest, ...]:
        """The three fields, regions cut to the first m."""
        regions, words, context = cls.needs
        return FieldRequest(encoder=regions.encoder, field=regions.field, limit=config.region_count), words, context

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Learn the inputs' statistics, if they are to be standardised."""
        if self.standardise is not None:
            learn_statistics({key: self._standardise_layer(key) for key in (REGIONS, WORDS, CONTEXT)}, batches)

    def forward(self, batch: Batch) -> HeadOutput:
        """Equations 1–19.

        Parameters
        ----------
        batch
            regions.features (B, m, Df), tokens.states (B, n, Dx), context.vector (B, Dv), each with its mask. A pair
            may lack any of them: no regions gives C = 0, no context V = 0, no words U = S = 0.

        Returns
        -------
        HeadOutput
            `details`: region (B, m, d), word (B, n, d), affinity and alignment (B, m, n), message (B, m, d), gate
            (B, m) or (B, m, d), gated (B, m, 2d), fused and interaction (B, m, d), pool_weights (B, m), pooled and
            text_context (B, d), visual_feature, textual_feature and feature (B, h).
        """
        has_region, has_word = batch.masks[REGIONS], batch.masks[WORDS]
        f, x, v = (self._input(batch, key) for key in (REGIONS, WORDS, CONTEXT))

        has_word = self._leave_out(has_word)
        x = keep_real(x, has_word)

        r = self.region(f)  # (B, m, d)  eq. 1
        w = self._encode_words(x, batch.masks[WORDS])  # (B, n, d)  eq. 2–4
        if self.region_norm is not None and self.word_norm is not None:
            r, w = self.region_norm(r), self.word_norm(w)
        r, w = keep_real(r, has_region), keep_real(w, has_word)

        # Cross-modal alignment: each region attends to the words.
        affinity = self.align_region(r) @ self.align_text(w).transpose(1, 2)  # (B, m, n)  eq. 5
        scale = self.config.align_width**0.5
        # Softmax over words, not regions: eq. 6 normalises each row of A.
        alignment = masked_softmax(affinity / scale, has_word[:, None, :])  # (B, m, n)  eq. 6
        u = alignment @ w  # (B, m, d)  eq. 7

        # Cross-modal gating: the star of eq. 8 is a dot product (one gate per region, as the paper's figure 7 prints
        # them) or elementwise (one gate per region and unit, as its bold g suggests).
        if self.config.gate == "scalar":
            gate = torch.sigmoid((r * u).sum(-1))  # (B, m)  eq. 8
            c = gate[..., None] * torch.cat([r, u], -1)  # (B, m, 2d)  eq. 9
        else:
            gate = torch.sigmoid(r * u)  # (B, m, d)  eq. 8
            c = torch.cat([gate * r, gate * u], -1)  # (B, m, 2d)  eq. 9
        o = F.relu(self.fuse(c))  # (B, m, d)  eq. 10
        z = o + r  # (B, m, d)  eq. 11

        pool_weights = masked_softmax(self.pool(z).squeeze(-1), has_region)  # (B, m)  eq. 12
        C = torch.einsum("bm,bmd->bd", pool_weights, z)  # (B, d)  eq. 13  # noqa: N806 (the paper's letters)
        C = dropout(C, self.config.pooled_dropout, training=self.training)  # noqa: N806
        V = v  # (B, Dv)  eq. 14  # noqa: N806
        S = masked_mean(w, has_word)  # (B, d)  eq. 15  # noqa: N806
        f1 = F.relu(self.visual_mlp(torch.cat([V, C], -1)))  # (B, h)  eq. 16
        f2 = F.relu(self.textual_mlp(torch.cat([S, C], -1)))  # (B, h)  eq. 17
        visual_weight = self.config.visual_weight
        feature = visual_weight * f1 + (1 - visual_weight) * f2  # (B, h)  eq. 18
        feature = dropout(feature, self.config.output_dropout, training=self.training)
        logits = self.classifier(feature)  # (B, K)  eq. 19, before its softmax
        return HeadOutput(
            logits=logits,
            details={
                "region": r,
                "word": w,
                "affinity": affinity,
                "alignment": alignment,
                "message": u,
                "gate": gate,
                "gated": c,
                "fused": o,
                "interaction": z,
                "pool_weights": pool_weights,
                "pooled": C,
                "text_context": S,
                "visual_feature": f1,
                "textual_feature": f2,
                "feature": feature,
            },
        )

    # Eq. 20 is Head.loss: cross-entropy, its mean over the batch (sum or mean is not said in the paper).

    def _encode_words(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Equations 2–4: mean of both directions, (B, n, Dx) → (B, n, d); the backward one starts at the last word."""
        # Packing runs each text over its own words only. It refuses length 0, so an empty text runs over one zero
        # vector whose result is masked afterwards.
        lengths = mask.sum(1).clamp_min(1).cpu()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.word_gru(packed)[0], batch_first=True, total_length=x.shape[1])
        forward, backward = states.chunk(2, dim=-1)
        return dropout((forward + backward) / 2, self.config.word_dropout, training=self.training)

    def _input(self, batch: Batch, key: str) -> torch.Tensor:
        values, mask = batch.values[key], batch.masks[key]
        if values.shape[-1] != self.widths[key]:
            raise ValueError(f"{key}: expected width {self.widths[key]}, found {values.shape[-1]}")
        real = keep_real(values, mask) if self.standardise is None else self._standardise_layer(key)(values, mask)
        if key == CONTEXT:
            return dropout(real, self.config.context_dropout, training=self.training)
        return dropout(real, self.config.input_dropout, training=self.training, shared_axis=1)

    def _leave_out(self, mask: torch.Tensor) -> torch.Tensor:
        """In training, the mask with some real words taken out; the first word always stays. (B, n) → (B, n)."""
        share = self.config.left_out_words
        if not self.training or share <= 0.0:
            return mask
        kept = torch.rand(mask.shape, device=mask.device) >= share
        kept[:, :1] = True  # a slice: a batch of empty texts may have no column
        return mask & kept

    def _standardise_layer(self, key: str) -> Any:
        assert self.standardise is not None  # only called where the setting is on
        return self.standardise[_attribute(key)]


def _attribute(key: str) -> str:
    return key.replace(".", "_")  # torch forbids dots in module names
