"""ITIN, the Image-Text Interaction Network of Zhu et al., IEEE TMM 25 (2023) 3375–3385: equations 1–20, top to bottom.

Regions look for their words (cross-modal alignment), a gate decides how much each region-word pair counts, and the
result joins the context of both modalities. Where the paper is silent, the setting says what was chosen. The authors'
program differs in many points (two GRUs, unit-length vectors, no masks); each is a setting, all are off by default.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sentifuse.fuse.features.batches import Batch, FieldRequest
from sentifuse.fuse.heads.head import Head, HeadOutput
from sentifuse.fuse.heads.itin_authors import Regroup, fill_up, unit_length
from sentifuse.fuse.heads.itin_settings import PRESETS, ItinConfig
from sentifuse.fuse.layers.dropout import dropout, leave_out
from sentifuse.fuse.layers.initial import initialise
from sentifuse.fuse.layers.masked import keep_real, masked_mean, masked_softmax
from sentifuse.fuse.layers.standardise import Standardise, layer_name, learn_statistics

__all__ = ["Itin", "ItinConfig"]

# Shapes: B batch, m regions, n words (the longest text of the batch), Df / Dx / Dv widths of region, word and context
#         features, d shared width, k alignment width, h width of the two MLPs, K classes.  Masks are bool, True = real.

REGIONS, WORDS, CONTEXT = "regions.features", "tokens.states", "context.vector"
CROWD = FieldRequest(encoder="crowd", field="embedding")
SATURATED = 0.01  # a gate this near to 0 or 1 hardly learns any more


class Itin(Head):
    """Image-Text Interaction Network, equations 1–20."""

    description = "ITIN (Zhu et al. 2023): regions aligned with words, gated, joined with both contexts"
    needs = (
        FieldRequest(encoder="regions", field="features"),
        FieldRequest(encoder="tokens", field="states"),
        FieldRequest(encoder="context", field="vector"),
    )
    Config = ItinConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    config: ItinConfig

    def __init__(self, config: ItinConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        d, k, h = config.width, config.align_width, config.mlp_width
        if config.sources != "context":
            self.region = nn.Linear(widths[REGIONS], d)  # W_r, b_r
        self.word_gru = self._gru(widths[WORDS])
        if config.sources != "context":
            if config.alignment:
                self.align_region = nn.Linear(d, k, bias=False)  # Ŵ_r
                self.align_text = nn.Linear(d, k, bias=False)  # Ŵ_t
            self.fuse = nn.Linear(2 * d, d, bias=config.fuse_bias)  # W_o, b_o
            hidden = config.pool_width or d
            self.pool = nn.Sequential(nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, config.pool_heads))  # Tran_z
        if config.sources == "interaction":
            self.interaction_mlp = nn.Linear(d, h)
        else:
            interaction = d if config.sources == "all" else 0
            self.visual_mlp = nn.Linear(sum(widths[key] for key in self._context_keys) + interaction, h)
            self.textual_mlp = nn.Linear(d + interaction, h)
        self.classifier = nn.Linear(h, class_count)  # W_f, b_f
        self.regroup = Regroup(d) if config.regroup and config.sources != "context" else None
        self.context_gru = self._gru(widths[WORDS]) if self._has_context_gru else None
        initialise(self)
        self.region_norm = nn.LayerNorm(d) if config.layer_norm and config.sources != "context" else None
        self.word_norm = nn.LayerNorm(d) if config.layer_norm else None
        self.standardise = (
            nn.ModuleDict({layer_name(key): Standardise(widths[key]) for key in self._keys})
            if config.standardise
            else None
        )

    @classmethod
    def requests(cls, config: ItinConfig) -> tuple[FieldRequest, ...]:
        """The fields that the sources need, regions cut to the first m."""
        regions, words, context = cls.needs
        regions = FieldRequest(encoder=regions.encoder, field=regions.field, limit=config.region_count)
        contexts = {"scene": (context,), "crowd": (CROWD,), "both": (context, CROWD)}[config.context]
        return {
            "all": (regions, words, *contexts),
            "interaction": (regions, words),
            "context": (words, *contexts),
        }[config.sources]

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Learn the inputs' statistics, if they are to be standardised."""
        if self.standardise is not None:
            learn_statistics({key: self._standardise_layer(key) for key in self._keys}, batches)

    def forward(self, batch: Batch) -> HeadOutput:
        """Equations 1–19.

        Parameters
        ----------
        batch
            regions.features (B, m, Df), tokens.states (B, n, Dx), context.vector (B, Dv), each with its mask;
            crowd.embedding (B, De) in its place or beside it, as `context` says. A pair may lack any of them: no
            regions gives C = 0, no context V = 0, no words U = S = 0.

        Returns
        -------
        HeadOutput
            `details`: region (B, m, d), word (B, n, d), affinity and alignment (B, m, n), message (B, m, d), gate
            (B, m) or (B, m, d), gated (B, m, 2d), fused and interaction (B, m, d), pool_weights (B, m), pooled and
            text_context (B, d), visual_feature, textual_feature and feature (B, h). With `regroup` also regrouped
            (B, m, d), with several pooling heads also head_weights (B, heads, m). An ablation lacks what it leaves out.
        """
        self.check_widths(batch)
        details: dict[str, torch.Tensor] = {}
        inputs = {key: self._input(batch, key) for key in self._keys}

        has_word = leave_out(batch.masks[WORDS], self.config.left_out_words, training=self.training)
        x, has_state = keep_real(inputs[WORDS], has_word), batch.masks[WORDS]
        if self.config.unmasked_length is not None:
            x, has_word = fill_up(x, self.config.unmasked_length)
            has_state = has_word
        w = self._encode_words(self.word_gru, x, has_state)  # (B, n, d)  eq. 2–4
        if self.word_norm is not None:
            w = self.word_norm(w)
        w = details["word"] = keep_real(w, has_word)

        C = None  # noqa: N806 (the paper's letters)
        if self.config.sources != "context":
            r = self.region(inputs[REGIONS])  # (B, m, d)  eq. 1
            C = self._interact(r, batch.masks[REGIONS], w, has_word, details)  # (B, d)  eq. 5–13  # noqa: N806
        if self.context_gru is not None:
            w = self._encode_words(self.context_gru, x, has_state)
        S = masked_mean(w, has_word)  # (B, d)  eq. 15  # noqa: N806
        contexts = [inputs[key] for key in self._context_keys]
        V = torch.cat(contexts, -1) if contexts else None  # (B, Dv)  eq. 14  # noqa: N806
        feature = self._join(C, V, S, details)  # (B, h)  eq. 16–18
        feature = dropout(feature, self.config.output_dropout, training=self.training)
        logits = self.classifier(feature)  # (B, K)  eq. 19, before its softmax
        details |= {"text_context": S, "feature": feature}
        return HeadOutput(logits=logits, details=details)

    # Eq. 20 is Head.loss: cross-entropy, its mean over the batch (sum or mean is not said in the paper).

    def statistics(self, output: HeadOutput, batch: Batch) -> dict[str, torch.Tensor]:
        """Per pair, over its regions: mean gate, share of saturated gates, largest alignment weight; NaN without any.

        Unnormalised vectors of a large width drive the scalar gate to 0 or 1: these numbers show it.
        """
        if self.config.sources == "context":
            return {}
        has_region = batch.masks[REGIONS]
        weights = has_region.to(output.logits.dtype) / has_region.sum(1, keepdim=True)  # 0 / 0 = NaN, on purpose
        found = {}
        if self.config.gate != "none":
            gate = output.details["gate"]
            gate = gate[..., None] if gate.dim() == 2 else gate
            is_saturated = ((gate < SATURATED) | (gate > 1 - SATURATED)).to(gate.dtype)
            found = {"gate": gate.mean(-1), "gate_saturated": is_saturated.mean(-1)}
        if self.config.alignment:
            found["alignment_peak"] = output.details["alignment"].amax(-1)
        return {name: (value * weights).sum(1) for name, value in found.items()}

    def _interact(
        self,
        r: torch.Tensor,
        has_region: torch.Tensor,
        w: torch.Tensor,
        has_word: torch.Tensor,
        details: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        """Equations 5–13: from regions and words to the interaction C, (B, d)."""
        config = self.config
        r = r if self.region_norm is None else self.region_norm(r)
        r = keep_real(unit_length(r) if config.unit_length else r, has_region)

        # Cross-modal alignment: each region attends to the words.
        if config.alignment:
            affinity = self.align_region(r) @ self.align_text(w).transpose(1, 2)  # (B, m, n)  eq. 5
            scale = config.align_width**0.5
            # Softmax over words, not regions: eq. 6 normalises each row of A.
            alignment = masked_softmax(affinity / scale, has_word[:, None, :])  # (B, m, n)  eq. 6
            u = alignment @ w  # (B, m, d)  eq. 7
            details |= {"affinity": affinity, "alignment": alignment}
        else:
            u = masked_mean(w, has_word)[:, None].expand_as(r)
        details |= {"region": r, "message": u}
        if self.regroup is not None:
            u = self.regroup(u, has_region)
        if config.unit_length:
            u = unit_length(u)
        if self.regroup is not None:
            details["regrouped"] = u

        # Cross-modal gating: the star of eq. 8 is a dot product (one gate per region, as the paper's figure 7 prints
        # them) or elementwise (one gate per region and unit, as its bold g suggests).
        if config.gate == "scalar":
            gate = torch.sigmoid((r * u).sum(-1))  # (B, m)  eq. 8
            c = gate[..., None] * torch.cat([r, u], -1)  # (B, m, 2d)  eq. 9
        elif config.gate == "vector":
            gate = torch.sigmoid(r * u)  # (B, m, d)  eq. 8
            c = torch.cat([gate * r, gate * u], -1)  # (B, m, 2d)  eq. 9
        else:
            gate = torch.ones_like(r[..., 0])
            c = torch.cat([r, u], -1)
        o = F.relu(self.fuse(c))  # (B, m, d)  eq. 10
        z = o + r  # (B, m, d)  eq. 11

        scores = self.pool(z).transpose(1, 2)  # (B, heads, m)
        head_weights = masked_softmax(scores, has_region[:, None, :])
        pool_weights = head_weights.mean(1)  # (B, m)  eq. 12; the mean of several pooled vectors has the mean weights
        C = torch.einsum("bm,bmd->bd", pool_weights, z)  # (B, d)  eq. 13  # noqa: N806
        C = unit_length(C) if config.unit_length else C  # noqa: N806
        C = dropout(C, config.pooled_dropout, training=self.training)  # noqa: N806
        details |= {"gate": gate, "gated": c, "fused": o, "interaction": z, "pool_weights": pool_weights, "pooled": C}
        if config.pool_heads > 1:
            details["head_weights"] = head_weights
        return C

    def _join(
        self,
        C: torch.Tensor | None,  # noqa: N803
        V: torch.Tensor | None,  # (B, Dv)  eq. 14  # noqa: N803
        S: torch.Tensor,  # noqa: N803
        details: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        """Equations 16–18: F from the interaction and both contexts, (B, h)."""
        if V is None:
            assert C is not None  # the sources are never nothing
            return F.relu(self.interaction_mlp(C))
        f1 = F.relu(self.visual_mlp(self._beside(V, C)))  # (B, h)  eq. 16
        f2 = F.relu(self.textual_mlp(self._beside(S, C)))  # (B, h)  eq. 17
        details |= {"visual_feature": f1, "textual_feature": f2}
        visual_weight = self.config.visual_weight
        return visual_weight * f1 + (1 - visual_weight) * f2  # (B, h)  eq. 18

    def _beside(self, context: torch.Tensor, C: torch.Tensor | None) -> torch.Tensor:  # noqa: N803
        if C is None:
            return context
        return torch.cat([C, context] if self.config.interaction_first else [context, C], -1)

    def _gru(self, width: int) -> nn.GRU:
        layers = self.config.gru_layers
        between = self.config.word_dropout if self.config.layer_dropout is None else self.config.layer_dropout
        return nn.GRU(
            width,
            self.config.width,
            num_layers=layers,
            dropout=between if layers > 1 else 0.0,
            bidirectional=True,
            batch_first=True,
        )

    def _encode_words(self, gru: nn.GRU, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Equations 2–4: mean of both directions, (B, n, Dx) → (B, n, d); the backward one starts at the last word."""
        # Packing runs each text over its own words only. It refuses length 0, so an empty text runs over one zero
        # vector whose result is masked afterwards.
        lengths = mask.sum(1).clamp_min(1).cpu()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=x.shape[1])
        forward, backward = states.chunk(2, dim=-1)
        return dropout((forward + backward) / 2, self.config.word_dropout, training=self.training)

    @property
    def _keys(self) -> tuple[str, ...]:
        return tuple(request.key for request in self.requests(self.config))

    @property
    def _context_keys(self) -> tuple[str, ...]:
        return tuple(key for key in self._keys if key in (CONTEXT, CROWD.key))

    @property
    def _has_context_gru(self) -> bool:
        return self.config.separate_gru and self.config.sources == "all"

    def _input(self, batch: Batch, key: str) -> torch.Tensor:
        values, mask = batch.values[key], batch.masks[key]
        real = keep_real(values, mask) if self.standardise is None else self._standardise_layer(key)(values, mask)
        if key in self._context_keys:
            return dropout(real, self.config.context_dropout, training=self.training)
        return dropout(real, self.config.input_dropout, training=self.training, shared_axis=1)

    def _standardise_layer(self, key: str) -> Any:
        assert self.standardise is not None  # only called where the setting is on
        return self.standardise[layer_name(key)]
