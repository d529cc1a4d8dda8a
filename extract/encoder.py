"""What an encoder is: a model, settings and a way to read named fields off one forward pass. Imports no torch.

Two halves, so that a run with nothing to do loads nothing: `describe_encoder` gives the recipe from files and settings
alone; `EncoderPlan.build` makes the backbone. Encoders whose backbones have equal keys share one.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from sentifuse import DataError
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.spec import Field
from sentifuse.extract.encoders import encoder_class
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.plan import SHARD_ROWS
from sentifuse.extract.precision import Precision, choose_precision
from sentifuse.extract.profile import EncoderEntry
from sentifuse.extract.settings import all_settings, changed_settings, read_settings

__all__ = [
    "Array",
    "Backbone",
    "BackboneSpec",
    "Encoder",
    "EncoderPlan",
    "Outputs",
    "RowValues",
    "batch_limit",
    "check_values",
    "describe_encoder",
]

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]  # what a forward pass gives, as arrays on the CPU, float32; first axis: rows of the batch
RowValues = dict[str, Array] | DataError  # the fields of one row, or why this row has none


class Backbone(Protocol):
    """One forward pass. Encoders that name the same model, preprocessing and precision share one.

    A backbone may have an attribute `batch_limit`; see the function of that name.
    """

    inputs: tuple[str, ...]  # ("image",), ("text",) or ("image", "text")

    def prepare(self, image: Image | None, text: str | None) -> Any:
        """Make one row ready (runs in loader threads): decoded RGB image, text as read. The result is small.

        Raises
        ------
        DataError
            This row cannot be used.
        """

    def batch_key(self, prepared: Any) -> Hashable:
        """Only rows with equal keys are batched together."""

    def forward(self, batch: Sequence[Any]) -> Outputs:
        """Run the network on prepared rows of one batch key."""


def batch_limit(backbone: Backbone) -> int | None:
    """Rows a forward pass may get at most, whatever --batch says; None, where the backbone does not say: any number.

    For one that gains nothing by larger batches and takes seconds for each row: its rows are spread over the cores, and
    progress is seen, one by one.
    """
    limit: int | None = getattr(backbone, "batch_limit", None)
    return limit


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """Everything that decides a forward pass, before it is built."""

    factory: str  # "module:Class"; called as Class(spec, device)
    model: LocatedModel
    precision: str
    options: Mapping[str, Any] = field(default_factory=dict)  # plain JSON values

    @property
    def key(self) -> str:
        """Equal for equal forward passes: canonical JSON of factory, model digest, options, precision."""
        plain = {
            "factory": self.factory,
            "model": self.model.digest,
            "options": dict(self.options),
            "precision": self.precision,
        }
        return canonical_json(plain).decode()

    def build(self, device: str) -> Backbone:
        """Load the network onto a device (imports torch)."""
        module, _, name = self.factory.partition(":")
        made: Backbone = getattr(import_module(module), name)(self, device)
        return made


class Encoder:
    """Parent of all encoders. A child says what it needs and reads its fields; it owns no network itself.

    Class attributes
    ----------------
    name, version
        Both are hashed. Raise `version` when the same recipe would give other numbers.
    inputs
        ("image",), ("text",) or both.
    dtypes
        dtype of each field.
    Settings
        Frozen dataclass; every setting has a default, and only what differs from it is hashed.
    keeps_float16
        Set it only after measuring on real weights that every feature keeps cosine 0.9999 to float32.
    shard_rows
        Rows of a shard. Fewer where a row costs seconds: an interruption loses what a shard costs. Not hashed.
    model_advice
        How to come by the model where its file is not there, if there is more to say than where to put it.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    inputs: ClassVar[tuple[str, ...]]
    dtypes: ClassVar[Mapping[str, str]]
    Settings: ClassVar[type]
    keeps_float16: ClassVar[bool] = False
    shard_rows: ClassVar[int] = SHARD_ROWS
    model_advice: ClassVar[str] = ""

    fields: tuple[Field, ...]  # set by the child's __init__: widths come from the model

    def __init__(self, settings: Any, backbone: Backbone, model: LocatedModel) -> None:
        self.settings = settings
        self.backbone = backbone
        self.recipe: dict[str, Any] = {}

    @classmethod
    def choose(cls, settings: Mapping[str, Any], *, where: str) -> "type[Encoder]":
        """The class to use for these raw settings: itself, unless it is a table of backends."""
        return cls

    @classmethod
    def check_available(cls, settings: Mapping[str, Any]) -> None:
        """Raise ResourceError if this encoder cannot run here whatever its model, e.g. a package is missing."""

    @classmethod
    def choose_arithmetic(cls, asked: str, *, device: str) -> Precision:
        """What `--precision asked` means for this encoder on a device ("cpu", "cuda:1").

        Raises
        ------
        ConfigError
            Unknown precision.
        """
        return choose_precision(asked, device=device, keeps_float16=cls.keeps_float16)

    @classmethod
    def resolve(cls, settings: Any, model: LocatedModel, given: frozenset[str]) -> Any:
        """Complete the settings from the model (published preprocessing); `given` were set by the profile and stay."""
        return settings

    @classmethod
    def stored_dtypes(cls, settings: Any) -> Mapping[str, str]:
        """dtype of each field these settings store; an optional field that is off must not change the fingerprint."""
        return cls.dtypes

    @classmethod
    def backbone_spec(cls, settings: Any, model: LocatedModel, precision: str) -> BackboneSpec:
        """The forward pass this encoder needs; refuses a model that cannot be meant (ResourceError, ConfigError)."""
        raise NotImplementedError

    def read(self, outputs: Outputs, batch: Sequence[Any]) -> list[RowValues]:
        """One entry per row of the batch: its fields, or the DataError that makes the row `failed`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderPlan:
    """An encoder ready to be built: picklable, and made without torch."""

    name: str
    inputs: tuple[str, ...]
    recipe: Mapping[str, Any]  # what is hashed
    details: Mapping[str, Any]  # for people: all settings, paths, versions
    note: str  # about the precision; "" if there is nothing to say
    backbone: BackboneSpec
    encoder: type[Encoder]
    settings: Any

    @property
    def backbone_key(self) -> str:
        """Plans with equal keys share one forward pass."""
        return self.backbone.key

    @property
    def shard_rows(self) -> int:
        """Rows of a shard, where nobody asks for another number."""
        return self.encoder.shard_rows

    def build(self, *, device: str, share: dict[str, Backbone]) -> Encoder:
        """Load the network (or take it from `share`, where it is left for the next encoder)."""
        key = self.backbone_key
        if key not in share:
            share[key] = self.backbone.build(device)
        made = self.encoder(self.settings, share[key], self.backbone.model)
        made.recipe = dict(self.recipe)
        return made


def describe_encoder(entry: EncoderEntry, model: LocatedModel, *, precision: str, device: str) -> EncoderPlan:
    """Recipe and plan of an encoder, from files and settings alone; no weights are loaded and torch is not imported.

    Raises
    ------
    ConfigError
        A setting that does not fit.
    ResourceError
        The model cannot be meant: no tokenizer, class names that nobody can read, another kind of network.
    """
    chosen = encoder_class(entry.name, entry.settings, where=entry.where)
    given: Any = read_settings(chosen.Settings, entry.settings, where=entry.where)
    settings = chosen.resolve(given, model, frozenset(entry.settings))
    arithmetic = chosen.choose_arithmetic(precision, device=device)
    recipe = {
        "encoder": chosen.name,
        "version": chosen.version,
        "model": {"architecture": model.architecture, "digest": model.digest},
        "settings": changed_settings(settings),
        "precision": arithmetic.dtype,
        "dtypes": dict(chosen.stored_dtypes(settings)),
    }
    details = {"model": model.details, "settings": all_settings(settings), "precision_asked": precision}
    return EncoderPlan(
        name=chosen.name,
        inputs=chosen.inputs,
        recipe=recipe,
        details=details,
        note=arithmetic.note,
        backbone=chosen.backbone_spec(settings, model, arithmetic.dtype),
        encoder=chosen,
        settings=settings,
    )


def check_values(values: Mapping[str, Array]) -> RowValues:
    """The values as they are, or the reason why they cannot be stored: something in them is not finite."""
    for name, value in values.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            limit = f" (or beyond {np.finfo(value.dtype).max:g}, the largest {value.dtype})"
            return DataError(f"{name} is not finite{limit if value.dtype == np.float16 else ''}")
    return dict(values)
