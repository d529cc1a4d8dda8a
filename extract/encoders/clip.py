"""clip: an image and its text as two vectors of one space. The vectors are not normalised; their users do that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sentifuse.cache.spec import Field
from sentifuse.data.text import CLEANERS
from sentifuse.extract.encoder import Backbone, BackboneSpec, Encoder, Outputs, RowValues, check_values
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.settings import check_choice, check_range

__all__ = ["Clip", "ClipSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSettings:
    """Settings of `clip`: text cleaning, and pieces at most (77 is all that CLIP has positions for)."""

    clean: str = "raw"
    max_length: int = 77

    def __post_init__(self) -> None:
        check_choice("clean", self.clean, CLEANERS)
        check_range("max_length", self.max_length, 3, 512)


class Clip(Encoder):
    """image and text → image float32 (P,) · text float32 (P,), projected, not normalised."""

    name: ClassVar[str] = "clip"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("image", "text")
    dtypes: ClassVar[Mapping[str, str]] = {"image": "float32", "text": "float32"}
    Settings: ClassVar[type] = ClipSettings

    def __init__(self, settings: ClipSettings, backbone: Backbone, model: LocatedModel) -> None:
        super().__init__(settings, backbone, model)
        width: int = backbone.width  # type: ignore[attr-defined]  # ImageAndText; this file has no torch
        self.fields = tuple(Field(name=name, dtype="float32", shape=(width,)) for name in ("image", "text"))

    @classmethod
    def backbone_spec(cls, settings: Any, model: LocatedModel, precision: str) -> BackboneSpec:
        """Both towers with their preprocessing."""
        if model.architecture != "clip":
            raise ModelMismatch(f"{model.source}: a {model.architecture} model, expected clip")
        options = {"clean": settings.clean, "max_length": settings.max_length}
        return BackboneSpec(
            factory="sentifuse.extract.backbones.clip:ImageAndText", model=model, precision=precision, options=options
        )

    def read(self, outputs: Outputs, batch: Sequence[Any]) -> list[RowValues]:
        """One dict per pair."""
        return [
            check_values({name: np.asarray(outputs[name][i], dtype=np.float32) for name in ("image", "text")})
            for i in range(len(batch))
        ]
