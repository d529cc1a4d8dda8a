"""teacher: what a text sentiment classifier says about a text, as probabilities of the three classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sentifuse.cache.spec import Field
from sentifuse.data.text import CLEANERS
from sentifuse.extract.encoder import Backbone, BackboneSpec, Encoder, Outputs, RowValues, check_values
from sentifuse.extract.encoders.sentiment_classes import CLASSES, class_columns, probabilities
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.settings import check_choice, check_range

__all__ = ["Teacher", "TeacherSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSettings:
    """Settings of `teacher`.

    Attributes
    ----------
    clean
        Text cleaning; "teacher" is what the usual model was trained on.
    max_length
        Pieces at most, special ones included; 512 is all that RoBERTa has positions for.
    labels
        The classes in the order of the model's outputs, for a model whose config does not name them.
    """

    clean: str = "teacher"
    max_length: int = 512
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("clean", self.clean, CLEANERS)
        check_range("max_length", self.max_length, 3, 8192)


class Teacher(Encoder):
    """text → probabilities float32 (3,): negative, neutral, positive."""

    name: ClassVar[str] = "teacher"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    dtypes: ClassVar[Mapping[str, str]] = {"probabilities": "float32"}
    Settings: ClassVar[type] = TeacherSettings

    def __init__(self, settings: TeacherSettings, backbone: Backbone, model: LocatedModel) -> None:
        super().__init__(settings, backbone, model)
        self.columns = class_columns(model, settings.labels)
        self.fields = (Field(name="probabilities", dtype="float32", shape=(len(CLASSES),)),)

    @classmethod
    def backbone_spec(cls, settings: Any, model: LocatedModel, precision: str) -> BackboneSpec:
        """The classifier with its tokenizer; a model whose classes cannot be told is refused here."""
        class_columns(model, settings.labels)
        options = {"clean": settings.clean, "max_length": settings.max_length}
        return BackboneSpec(
            factory="sentifuse.extract.backbones.text:TextClassifier", model=model, precision=precision, options=options
        )

    def read(self, outputs: Outputs, batch: Sequence[Any]) -> list[RowValues]:
        """One dict per text."""
        return [check_values({"probabilities": row}) for row in probabilities(outputs["logits"], self.columns)]
