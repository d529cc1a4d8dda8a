"""tokens: the hidden state of every word piece of a text. Padding is never stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sentifuse.cache.spec import Field
from sentifuse.data.text import CLEANERS
from sentifuse.extract.encoder import Backbone, BackboneSpec, Encoder, Outputs, RowValues, check_values
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.settings import check_choice, check_range

if TYPE_CHECKING:
    from sentifuse.extract.backbones.text import PreparedText

__all__ = ["Tokens", "TokensSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensSettings:
    """Settings of `tokens`.

    Attributes
    ----------
    clean
        Text cleaning: "raw", "tweet" or "teacher".
    max_length
        Pieces at most, special ones included; the rest of the text is cut off.
    last_layers
        The states are the mean of this many last layers.
    keep_special
        Whether the states of [CLS] and [SEP] are stored. Without them an empty text has no piece at all.
    """

    clean: str = "raw"
    max_length: int = 128
    last_layers: int = 1
    keep_special: bool = True

    def __post_init__(self) -> None:
        check_choice("clean", self.clean, CLEANERS)
        check_range("max_length", self.max_length, 3, 8192)
        check_range("last_layers", self.last_layers, 1, 64)


class Tokens(Encoder):
    """text → states float16 (n, D), piece_ids int32 (n,), spans int32 (n, 2), all ragged; D is the model's own width.

    Spans are character positions in the cleaned text; special pieces have (0, 0).
    """

    name: ClassVar[str] = "tokens"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    dtypes: ClassVar[Mapping[str, str]] = {"states": "float16", "piece_ids": "int32", "spans": "int32"}
    Settings: ClassVar[type] = TokensSettings
    keeps_float16: ClassVar[bool] = True  # see precision.py

    def __init__(self, settings: TokensSettings, backbone: Backbone, model: LocatedModel) -> None:
        super().__init__(settings, backbone, model)
        width: int = backbone.width  # type: ignore[attr-defined]  # TextStates; this file has no torch
        self.fields = (
            Field(name="states", dtype="float16", shape=(width,), is_ragged=True),
            Field(name="piece_ids", dtype="int32", shape=(), is_ragged=True),
            Field(name="spans", dtype="int32", shape=(2,), is_ragged=True),
        )

    @classmethod
    def backbone_spec(cls, settings: Any, model: LocatedModel, precision: str) -> BackboneSpec:
        """The text network with its tokenizer."""
        layers = model.config.get("num_hidden_layers")
        if not model.config:
            raise ModelMismatch(f"{model.source}: a weights file, expected a transformers folder with a tokenizer")
        if layers is not None and settings.last_layers > layers:
            raise ModelMismatch(f"{model.source} has {layers} layers, last_layers asks for {settings.last_layers}")
        options = {name: getattr(settings, name) for name in ("clean", "max_length", "last_layers")}
        return BackboneSpec(
            factory="sentifuse.extract.backbones.text:TextStates", model=model, precision=precision, options=options
        )

    def read(self, outputs: Outputs, batch: "Sequence[PreparedText]") -> list[RowValues]:
        """One dict per text."""
        rows: list[RowValues] = []
        for states, prepared in zip(outputs["states"], batch, strict=True):
            keep = slice(None) if self.settings.keep_special else ~prepared.is_special
            with np.errstate(over="ignore"):  # beyond 65504 becomes inf, which check_values refuses
                half = states[: len(prepared.ids)][keep].astype(np.float16)
            rows.append(check_values({"states": half, "piece_ids": prepared.ids[keep], "spans": prepared.spans[keep]}))
        return rows
