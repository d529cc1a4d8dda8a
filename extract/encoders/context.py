"""context: one vector for the whole image, the mean over the last feature map of an image classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from sentifuse import ConfigError
from sentifuse.cache.spec import Field
from sentifuse.extract.encoder import Backbone, BackboneSpec, Encoder, Outputs, RowValues, check_values
from sentifuse.extract.imaging import ImageSettings, PreparedImage
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.settings import all_settings

__all__ = ["Context", "ContextSettings", "image_backbone", "published_preprocessing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSettings(ImageSettings):
    """Settings of `context`: the preprocessing, and whether the map itself is stored as well."""

    grid: bool = False


class Context(Encoder):
    """image → vector float32 (C,); with grid = true also grid float16 (C, h, w). C is the model's own width."""

    name: ClassVar[str] = "context"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    dtypes: ClassVar[Mapping[str, str]] = {"vector": "float32", "grid": "float16"}
    Settings: ClassVar[type] = ContextSettings

    def __init__(self, settings: ContextSettings, backbone: Backbone, model: LocatedModel) -> None:
        super().__init__(settings, backbone, model)
        shape: tuple[int, int, int] = backbone.map_shape  # type: ignore[attr-defined]  # ImageBackbone; torch-free here
        vector = Field(name="vector", dtype="float32", shape=shape[:1])
        self.fields = (vector, Field(name="grid", dtype="float16", shape=shape)) if settings.grid else (vector,)

    @classmethod
    def resolve(cls, settings: Any, model: LocatedModel, given: frozenset[str]) -> Any:
        """Published preprocessing of torchvision's weights, where the profile does not say otherwise."""
        return published_preprocessing(settings, model, given)

    @classmethod
    def stored_dtypes(cls, settings: Any) -> Mapping[str, str]:
        """The grid's only if it is stored."""
        return cls.dtypes if settings.grid else {"vector": cls.dtypes["vector"]}

    @classmethod
    def backbone_spec(cls, settings: Any, model: LocatedModel, precision: str) -> BackboneSpec:
        """The image network up to its last map; shared with `regions` on the same model and preprocessing."""
        return image_backbone(settings, model, precision)

    def read(self, outputs: Outputs, batch: Sequence[PreparedImage]) -> list[RowValues]:
        """One dict per image."""
        rows = []
        for i in range(len(batch)):
            values = {"vector": np.asarray(outputs["pooled"][i], dtype=np.float32)}
            if self.settings.grid:
                with np.errstate(over="ignore"):  # becomes inf, which check_values refuses
                    values["grid"] = outputs["map"][i].astype(np.float16)
            rows.append(check_values(values))
        return rows


def published_preprocessing(settings: Any, model: LocatedModel, given: frozenset[str]) -> Any:
    """Fill settings the profile does not give from the transforms torchvision publishes with its weights.

    Raises
    ------
    ConfigError
        They are a detector's.
    """
    if model.source.kind != "torchvision":
        return settings
    from sentifuse.extract.models.torchvision_weights import known_weights

    known = known_weights(model.source.architecture, model.source.weights)
    if known.is_detector:
        raise ConfigError(f'{model.source}: a detector, expected an image classifier; regions take it as "torchvision"')
    return replace(settings, **{name: value for name, value in known.settings.items() if name not in given})


def image_backbone(settings: ImageSettings, model: LocatedModel, precision: str) -> BackboneSpec:
    """Spec of the shared image network: of the settings, only the preprocessing decides it.

    Raises
    ------
    ConfigError
        The model is a transformers folder.
    """
    if model.config:
        raise ConfigError(f"{model.source}: a transformers folder, expected a weights file with architecture = …")
    if settings.padding == "tensorflow" and model.architecture != "mobilenet_v2":
        raise ConfigError(f'padding = "tensorflow" is for mobilenet_v2, not for {model.architecture}')
    preprocessing = ImageSettings.__dataclass_fields__
    options = {name: value for name, value in all_settings(settings).items() if name in preprocessing}
    options["architecture"] = model.architecture  # the digest alone does not say which network the file is put into
    return BackboneSpec(
        factory="sentifuse.extract.backbones.image:ImageBackbone", model=model, precision=precision, options=options
    )
