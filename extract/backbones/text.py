"""Text networks of transformers: cleaned text → the states of its word pieces, or class logits. Stores nothing.

Texts are padded to a multiple of 8 pieces, so that a row's result hardly depends on its batch mates; pads are masked.
"""

import contextlib
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from sentifuse import DataError
from sentifuse.data.text import clean
from sentifuse.extract.backbones.arithmetic import half_precision
from sentifuse.extract.backbones.loading import load_model, load_tokenizer
from sentifuse.extract.encoder import Array, BackboneSpec, Outputs
from sentifuse.extract.errors import ModelMismatch

__all__ = ["PreparedText", "TextClassifier", "TextStates", "Tokenizer", "fit_length", "pad"]

# Shapes: B batch, T word pieces of the longest text rounded up, D width of the model, K classes.
PIECES_STEP = 8
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "mpnet")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedText:
    """A text as word pieces.

    Attributes
    ----------
    ids
        int32 (n,), special pieces included.
    spans
        int32 (n, 2): first and last character (exclusive) of each piece in the cleaned text; (0, 0) for special ones.
    is_special
        bool (n,): pieces the tokenizer added.
    padded_length
        n rounded up to a multiple of 8, at most the model's limit.
    """

    ids: Array
    spans: Array
    is_special: Array
    padded_length: int


class Tokenizer:
    """Cleans a text and cuts it into word pieces; safe to call from several threads."""

    def __init__(self, tokenizer: Any, *, cleaning: str, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.cleaning = cleaning
        self.max_length = max_length
        # A fast tokenizer keeps truncation as state and panics ("Already borrowed") when two threads set it.
        self._lock = threading.Lock()

    def __call__(self, text: str | None) -> PreparedText:
        """Pieces of one text; "[SEP]" written by its author stays plain letters.

        Raises
        ------
        DataError
            No text, or one that no encoder can represent.
        """
        if text is None:
            raise DataError("no text")
        cleaned = clean(text, self.cleaning)
        try:
            with self._lock:
                found = self.tokenizer(
                    cleaned,
                    truncation=True,
                    max_length=self.max_length,  # model_max_length is 1e30 where a folder does not say it
                    split_special_tokens=True,
                    return_offsets_mapping=True,
                    return_special_tokens_mask=True,
                )
        except (UnicodeEncodeError, TypeError) as error:  # a lone surrogate
            raise DataError(f"the text cannot be tokenised: {error}") from error
        ids = np.array(found["input_ids"], dtype=np.int32)
        spans = np.array(found["offset_mapping"], dtype=np.int32).reshape(-1, 2)
        if not len(ids):
            raise DataError("the tokenizer gives no piece for this text, not even special ones")
        is_special = np.array(found["special_tokens_mask"], dtype=bool)
        padded = min(-(-len(ids) // PIECES_STEP) * PIECES_STEP, self.max_length)
        return PreparedText(ids=ids, spans=spans, is_special=is_special, padded_length=padded)


class TextStates:
    """Texts → {"states": (B, T, D)} float32, the mean of the last k layers; beyond a text's pieces: noise."""

    inputs = ("text",)

    def __init__(self, spec: BackboneSpec, device: str) -> None:
        from transformers import AutoModel

        self.device = torch.device(device)
        self.precision = spec.precision
        self.last_layers: int = spec.options["last_layers"]
        # transformers 5.0 collects hidden states by patching the layers, which two threads must not do at once.
        self._one_at_a_time = threading.Lock() if self.last_layers > 1 else contextlib.nullcontext()
        with spec.model.opened() as folder:
            self.net = load_model(AutoModel, folder, self.device, without_pooler=True)
            tokenizer = load_tokenizer(folder, self.net.config.vocab_size)
        self.pad_id = tokenizer.pad_token_id or 0
        self.width: int = self.net.config.hidden_size
        length = fit_length(spec.options["max_length"], self.net.config, str(spec.model.source))
        self.tokenizer = Tokenizer(tokenizer, cleaning=spec.options["clean"], max_length=length)

    def prepare(self, image: Image | None, text: str | None) -> PreparedText:
        """Clean and tokenise."""
        return self.tokenizer(text)

    def batch_key(self, prepared: PreparedText) -> Hashable:
        """Pieces, rounded up."""
        return prepared.padded_length

    def forward(self, batch: Sequence[PreparedText]) -> Outputs:
        """One pass over a batch; see the class for the shapes."""
        ids, mask = pad(batch, self.pad_id, self.device)
        deep = self.last_layers > 1
        with self._one_at_a_time, torch.inference_mode(), half_precision(self.device, self.precision):
            found = self.net(input_ids=ids, attention_mask=mask, output_hidden_states=deep)
        layers = found.hidden_states[-self.last_layers :] if deep else (found.last_hidden_state,)
        states = torch.stack([layer.float() for layer in layers]).mean(dim=0) if deep else layers[0].float()
        return {"states": states.cpu().numpy()}


class TextClassifier:
    """Texts → {"logits": (B, K)} float32."""

    inputs = ("text",)

    def __init__(self, spec: BackboneSpec, device: str) -> None:
        from transformers import AutoModelForSequenceClassification

        self.device = torch.device(device)
        self.precision = spec.precision
        with spec.model.opened() as folder:
            self.net = load_model(AutoModelForSequenceClassification, folder, self.device)
            tokenizer = load_tokenizer(folder, self.net.config.vocab_size)
        if tokenizer.pad_token_id is None:
            raise ModelMismatch(f"{spec.model.source}: its tokenizer has no padding piece")
        self.pad_id: int = tokenizer.pad_token_id
        length = fit_length(spec.options["max_length"], self.net.config, str(spec.model.source))
        self.tokenizer = Tokenizer(tokenizer, cleaning=spec.options["clean"], max_length=length)

    def prepare(self, image: Image | None, text: str | None) -> PreparedText:
        """Clean and tokenise."""
        return self.tokenizer(text)

    def batch_key(self, prepared: PreparedText) -> Hashable:
        """Pieces, rounded up."""
        return prepared.padded_length

    def forward(self, batch: Sequence[PreparedText]) -> Outputs:
        """One pass over a batch; see the class for the shapes."""
        ids, mask = pad(batch, self.pad_id, self.device)
        with torch.inference_mode(), half_precision(self.device, self.precision):
            logits: Tensor = self.net(input_ids=ids, attention_mask=mask).logits
        return {"logits": logits.float().cpu().numpy()}


def pad(batch: Sequence[PreparedText], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """ids and mask, int64 (B, T); mask is 1 for real pieces."""
    length = max(row.padded_length for row in batch)
    ids = np.full((len(batch), length), pad_id, dtype=np.int64)
    mask = np.zeros((len(batch), length), dtype=np.int64)
    for i, row in enumerate(batch):
        ids[i, : len(row.ids)] = row.ids
        mask[i, : len(row.ids)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def fit_length(asked: int, config: Any, what: str) -> int:
    """The asked length if the model has positions for it.

    RoBERTa keeps two of its position embeddings for itself: 514 of them mean 512 pieces.

    Raises
    ------
    ModelMismatch
        It has fewer.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return asked
    limit = positions - config.pad_token_id - 1 if config.model_type in OFFSET_POSITIONS else positions
    if asked > limit:
        raise ModelMismatch(f"{what} has positions for {limit} pieces, max_length asks for {asked}: lower it")
    return asked
