"""RNN-CA Embedding: joint visual-textual sentiment with cross-modality attention (Zhu et al., MMM 2019, LNCS 11295).

The picture is one more item of the sentence: a bidirectional RNN reads the words, one softmax weighs the picture and
every word, and a ranking loss draws pictures near to their own sentences. Known are the task, the concatenated states,
the attention over visual and textual information, the variants, and the works cited; the text of the paper and its code
were not to be had. What is certain is marked so below, [supported] has a strong hint, [reconstruction] is our choice.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from sentifuse import ConfigError
from sentifuse.fuse.features.batches import Batch, FieldRequest
from sentifuse.fuse.heads.head import Head, HeadOutput
from sentifuse.fuse.heads.rnn_ca_settings import PRESETS, RNN_CA, RNN_EMBEDDING, RnnCaConfig
from sentifuse.fuse.layers.dropout import dropout, leave_out
from sentifuse.fuse.layers.initial import initialise
from sentifuse.fuse.layers.masked import keep_real, masked_mean, masked_softmax
from sentifuse.fuse.layers.recurrent import turn_round
from sentifuse.fuse.layers.standardise import Standardise, layer_name, learn_statistics

__all__ = ["RnnCa", "RnnCaConfig", "RnnCaEmbedding", "RnnEmbedding", "ranking_loss"]

# Shapes: B batch, T words of the longest text, Dx / Dv widths of word and image features, u units per direction,
#         H = 2u, a attention width, K classes.  Masks are bool, True = real.

STATES, PIECES, IMAGE = "tokens.states", "tokens.piece_ids", "context.vector"
UNKNOWN = 0  # row of the embedding table for every piece that no training text has


class RnnCaEmbedding(Head):
    """Bidirectional RNN, cross-modality attention and semantic embedding, all trained together [certain]."""

    description = "RNN-CA Embedding (Zhu et al. 2019): one attention over the image and the words of a BiRNN"
    needs = (FieldRequest(encoder="tokens", field="states"), FieldRequest(encoder="context", field="vector"))
    Config = RnnCaConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    config: RnnCaConfig
    is_known: torch.Tensor

    def __init__(self, config: RnnCaConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        has_states = config.words == "states"
        word_width = widths[STATES] if has_states else config.word_width
        state_width = 2 * config.hidden
        self.embedding = None if has_states else nn.Embedding(config.vocabulary, word_width)
        self.rnn = BiRnn(config.cell, word_width, config.hidden)
        # Attending to both needs one width; as the RNN's input the picture needs a word's. [reconstruction]
        self.image = nn.Linear(widths[IMAGE], word_width if config.image_in_rnn else state_width)  # W_v, b_v
        if config.attention:
            self.attention = nn.Linear(state_width, config.attention_width)  # W_a, b_a
            self.score = nn.Linear(config.attention_width, 1, bias=False)  # w_a
        self.classifier = nn.Linear(state_width if config.attention else 2 * state_width, class_count)  # W_c, b_c
        initialise(self)
        standardised = {"none": (), "image": (IMAGE,), "all": (IMAGE, STATES) if has_states else (IMAGE,)}
        self.standardise = nn.ModuleDict(
            {layer_name(key): Standardise(widths[key]) for key in standardised[config.standardise]}
        )
        if not has_states:
            self.register_buffer("is_known", torch.ones(config.vocabulary, dtype=torch.bool))

    @classmethod
    def requests(cls, config: RnnCaConfig) -> tuple[FieldRequest, ...]:
        """States or, for trainable word vectors, the numbers of the word pieces; and the image vector."""
        words, image = cls.needs
        return (words if config.words == "states" else replace(words, field="piece_ids")), image

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Learn the inputs' statistics and which word pieces the training texts have, as far as the settings ask."""
        layers: dict[str, Any] = {
            key: self.standardise[layer_name(key)] for key in (STATES, IMAGE) if layer_name(key) in self.standardise
        }
        learn_statistics(layers, batches if self.embedding is None else self._note_pieces(batches))

    def forward(self, batch: Batch) -> HeadOutput:
        """The formulas, top to bottom.

        Parameters
        ----------
        batch
            tokens.states (B, T, Dx), or tokens.piece_ids (B, T), and context.vector (B, Dv), each with its mask. A pair
            without an image attends to words only, one without words to the image only.

        Returns
        -------
        HeadOutput
            `details`: word (B, T, H) h_1…h_T, image (B, H) h_0 = e, sentence (B, H) s. With attention also attention
            (B, T+1), the image first, attended (B, H) c, image_share (B,) α_0 and image_dominates (B,).
        """
        config = self.config
        words_key = self.requests(config)[0].key
        has_word, has_image = batch.masks[words_key], batch.masks[IMAGE]
        x = dropout(self._words(batch), config.input_dropout, training=self.training, shared_axis=1)  # (B, T, Dx)
        v = dropout(self._standardised(batch, IMAGE), config.input_dropout, training=self.training)  # (B, Dv)
        counted = leave_out(has_word, config.left_out_words, training=self.training)
        x = keep_real(x, counted)

        e = self.image(v)  # (B, H)  e = W_v v + b_v
        if config.image_in_rnn:
            e, h = self._read_with_image(e, has_image, x, has_word)
        else:
            h = self.rnn(x, has_word)  # (B, T, H)  h_j = [→h_j ; ←h_j], pads skipped in both directions [certain]
        e, h = keep_real(e, has_image), keep_real(h, counted)
        e = dropout(e, config.hidden_dropout, training=self.training)
        h = dropout(h, config.hidden_dropout, training=self.training)
        s = masked_mean(h, counted)  # (B, H)  [reconstruction]
        details = {"word": h, "image": e, "sentence": s}
        if not config.attention:
            c = torch.cat([s, e], -1)  # (B, 2H)  RNN Embedding [reconstruction]
        else:
            sequence = torch.cat([e[:, None], h], 1)  # (B, T+1, H)  h_0 = e, h_1…h_T [supported]
            is_real = torch.cat([has_image[:, None], counted], 1)
            q = self.score(torch.tanh(self.attention(sequence))).squeeze(-1)  # (B, T+1)  w_a · tanh(W_a h_j + b_a)
            alpha = masked_softmax(q, is_real)  # (B, T+1)  one softmax over picture and words [supported]
            c = torch.einsum("bj,bjh->bh", alpha, sequence)  # (B, H)  Σ_j α_j h_j [supported]
            details |= {
                "attention": alpha,
                "attended": c,
                "image_share": alpha[:, 0],
                "image_dominates": alpha[:, 0] > alpha[:, 1:].amax(1),  # [reconstruction of the slides' word]
            }
        c = dropout(c, config.output_dropout, training=self.training)
        return HeadOutput(logits=self.classifier(c), details=details)  # y = softmax(W_c c + b_c)

    def loss(self, output: HeadOutput, batch: Batch) -> torch.Tensor:
        """L = L_c + η L_r: mean cross-entropy and the ranking loss over the pairs that have both sides."""
        total = super().loss(output, batch)
        if self.config.rank_weight > 0:
            total = total + self.config.rank_weight * self.rank(output, batch)
        return total

    def rank(self, output: HeadOutput, batch: Batch) -> torch.Tensor:
        """L_r of a batch; 0 when no two pairs can be compared."""
        has_both = self._has_both(batch)
        ids = [id_ for id_, both in zip(batch.ids, has_both.tolist(), strict=True) if both]
        image, sentence = (output.details[name][has_both] for name in ("image", "sentence"))
        return ranking_loss(image, sentence, ids, margin=self.config.rank_margin)

    def statistics(self, output: HeadOutput, batch: Batch) -> dict[str, torch.Tensor]:
        """α_0 and how often the image dominates, over the pairs that have both sides."""
        if not self.config.attention:
            return {}
        has_both = self._has_both(batch)
        found = {name: output.details[name].double() for name in ("image_share", "image_dominates")}
        return {name: values.masked_fill(~has_both, float("nan")) for name, values in found.items()}

    def _has_both(self, batch: Batch) -> torch.Tensor:
        return batch.masks[IMAGE] & batch.masks[self.requests(self.config)[0].key].any(1)

    def _read_with_image(
        self, image: torch.Tensor, has_image: torch.Tensor, words: torch.Tensor, has_word: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The RNN over picture and words together: states (B, H) and (B, T, H). [reconstruction]

        A pair without an image begins with its first word: its sequence moves up by one place, and its states back.
        """
        joined = torch.cat([image[:, None], words], 1)  # (B, T+1, Dx)
        places = torch.arange(joined.shape[1], device=joined.device)
        moved = (~has_image).long()[:, None]
        length = has_image.long()[:, None] + has_word.sum(1, keepdim=True)
        states = self.rnn(_take(joined, (places + moved).clamp_max(len(places) - 1)), places < length)
        states = _take(states, (places - moved).clamp_min(0))
        return states[:, 0], states[:, 1:]

    def _words(self, batch: Batch) -> torch.Tensor:
        """Word features, zero where there is none: (B, T, Dx)."""
        if self.embedding is None:
            return self._standardised(batch, STATES)
        pieces = _pieces(batch).clamp(max=self.config.vocabulary - 1)
        rows = torch.where(self.is_known[pieces], pieces, UNKNOWN)
        vectors: torch.Tensor = self.embedding(rows)
        return keep_real(vectors, batch.masks[PIECES])

    def _note_pieces(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        self.is_known.zero_()
        for batch in batches:
            pieces = _pieces(batch)
            largest = int(pieces.max())
            if largest >= self.config.vocabulary:
                raise ConfigError(
                    f"vocabulary: a text has word piece {largest}, expected numbers below {self.config.vocabulary}. "
                    f"Type the size of the text encoder's vocabulary: --set vocabulary=N"
                )
            self.is_known[pieces[batch.masks[PIECES]]] = True
            yield batch

    def _standardised(self, batch: Batch, key: str) -> torch.Tensor:
        values, mask = batch.values[key], batch.masks[key]
        if values.shape[-1] != self.widths[key]:
            raise ValueError(f"{key}: expected width {self.widths[key]}, found {values.shape[-1]}")
        name = layer_name(key)
        layer = self.standardise[name] if name in self.standardise else keep_real  # noqa: SIM401 (no ModuleDict.get)
        found: torch.Tensor = layer(values, mask)
        return found


class RnnCa(RnnCaEmbedding):
    """The ablation without semantic embedding (η = 0) [certain that it is one]."""

    description = "RNN-CA (Zhu et al. 2019): RNN-CA Embedding without the ranking loss"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        name: {**PRESETS[name], **RNN_CA} for name in ("default", "reconstruction")
    }


class RnnEmbedding(RnnCaEmbedding):
    """The ablation without attention [certain]; how its two vectors are joined is a [reconstruction]."""

    description = "RNN Embedding (Zhu et al. 2019): RNN-CA Embedding without the attention"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        name: {**PRESETS[name], **RNN_EMBEDDING} for name in ("default", "reconstruction")
    }


class BiRnn(nn.Module):
    """An RNN in each direction over the real words, states side by side: (B, T, D) → (B, T, 2u), zero at pads."""

    def __init__(self, cell: Literal["lstm", "gru"], input_width: int, hidden: int) -> None:
        super().__init__()
        kind: type[nn.LSTM] | type[nn.GRU] = nn.LSTM if cell == "lstm" else nn.GRU
        self.ahead = kind(input_width, hidden, batch_first=True)
        self.back = kind(input_width, hidden, batch_first=True)

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The backward direction begins at the last real word."""
        # Pads stand behind the words: reading forward, no state has seen one. See layers/recurrent.py for the trick.
        backward = turn_round(self.back(turn_round(words, mask))[0], mask)
        return keep_real(torch.cat([self.ahead(words)[0], backward], -1), mask)


def ranking_loss(
    image: torch.Tensor, sentence: torch.Tensor, ids: Sequence[str], *, margin: float = 0.2
) -> torch.Tensor:
    """L_r = (1/B) Σ_i Σ_k≠i [max(0, μ − S_ii + S_ik) + max(0, μ − S_ii + S_ki)], S_ik = cos(e_i, s_k); (B, H) twice.

    The bidirectional ranking is [supported] by the works cited; cosine, the sum over all negatives and μ are a
    [reconstruction]. A pair of the same id is no negative. 0 for less than two pairs.
    """
    if len(ids) < 2:
        return (image.sum() + sentence.sum()) * 0.0
    similarity = F.normalize(image, dim=-1) @ F.normalize(sentence, dim=-1).T  # (B, B)  S
    own = similarity.diagonal()
    missed = F.relu(margin - own[:, None] + similarity) + F.relu(margin - own[:, None] + similarity.T)
    return (missed * _is_negative(ids, missed)).sum() / len(ids)


def _is_negative(ids: Sequence[str], like: torch.Tensor) -> torch.Tensor:
    numbers: dict[str, int] = {}
    own = torch.tensor([numbers.setdefault(id_, len(numbers)) for id_ in ids], device=like.device)
    return (own[:, None] != own[None, :]).to(like.dtype)


def _take(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """values[b, places[b, t]]: (B, T, D), (B, T) → (B, T, D)."""
    return values.gather(1, places.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def _pieces(batch: Batch) -> torch.Tensor:
    """Numbers of word pieces, (B, T) int64, 0 at pads; batches carry them as reals."""
    values = batch.values[PIECES]
    if torch.finfo(values.dtype).bits < 32:
        raise ValueError(f"{PIECES}: expected reals of 32 bits, found {values.dtype}, which rounds the numbers")
    return values.masked_fill(~batch.masks[PIECES], 0.0).long()
