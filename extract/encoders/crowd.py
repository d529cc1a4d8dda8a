"""crowd: what a network trained on the crowd's sentiment says about an image, and its embedding.

A vision transformer with a classification head, or a student folder (`extract.students`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sentifuse import ConfigError
from sentifuse.cache.spec import Field
from sentifuse.extract.encoder import Backbone, BackboneSpec, Encoder, Outputs, RowValues, check_values
from sentifuse.extract.encoders.sentiment_classes import CLASSES, class_columns, probabilities
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.students import MODEL_TYPE

__all__ = ["Crowd", "CrowdSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdSettings:
    """Settings of `crowd`.

    Attributes
    ----------
    labels
        The classes in the order of the model's outputs, for a model whose config does not name them.
    interpolate_positions
        Stretch the position embeddings where the preprocessing gives larger images than the model was trained on.
    """

    labels: tuple[str, ...] = ()
    interpolate_positions: bool = False


class Crowd(Encoder):
    """image → probabilities float32 (3,): negative, neutral, positive · embedding float32 (D,).

    The embedding is the class token after the final norm; of a probe, the hidden layer of its head. Never a pooler: a
    classification checkpoint has none, and transformers would make one up.
    """

    name: ClassVar[str] = "crowd"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    dtypes: ClassVar[Mapping[str, str]] = {"probabilities": "float32", "embedding": "float32"}
    Settings: ClassVar[type] = CrowdSettings

    def __init__(self, settings: CrowdSettings, backbone: Backbone, model: LocatedModel) -> None:
        super().__init__(settings, backbone, model)
        self.columns = class_columns(model, settings.labels)
        width: int = backbone.width  # type: ignore[attr-defined]  # ImageClassifier or Student; this file has no torch
        self.fields = (
            Field(name="probabilities", dtype="float32", shape=(len(CLASSES),)),
            Field(name="embedding", dtype="float32", shape=(width,)),
        )

    @classmethod
    def backbone_spec(cls, settings: Any, model: LocatedModel, precision: str) -> BackboneSpec:
        """The classifier with its image processor; a model whose classes cannot be told is refused here."""
        class_columns(model, settings.labels)
        is_student = model.architecture == MODEL_TYPE
        if is_student and settings.interpolate_positions:
            raise ConfigError(f"{model.source}: a student says itself how its images are prepared, and at which size")
        made = "student:Student" if is_student else "vision:ImageClassifier"
        return BackboneSpec(
            factory=f"sentifuse.extract.backbones.{made}",
            model=model,
            precision=precision,
            options={} if is_student else {"interpolate_positions": settings.interpolate_positions},
        )

    def read(self, outputs: Outputs, batch: Sequence[Any]) -> list[RowValues]:
        """One dict per image."""
        shares = probabilities(outputs["logits"], self.columns)
        return [
            check_values({"probabilities": share, "embedding": np.asarray(embedding, dtype=np.float32)})
            for share, embedding in zip(shares, outputs["embedding"], strict=True)
        ]
