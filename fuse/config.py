"""Settings of a head and of its training: where each value comes from, and refusal of what cannot be meant.

Order of truth: `--set key=value` > preset > dataclass default. Keys of the head and of the training share one flat
namespace. A preset named `name@dataset` is laid over `name` when that dataset is trained on. Knows nothing of models.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Protocol, Union, cast, get_args, get_origin, get_type_hints

from sentifuse import ConfigError


def setting(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field with its meaning and its inclusive range; choices are a `Literal` annotation.

    Parameters
    ----------
    help
        One line for a person, with the unit.
    """
    return field(default=default, metadata={"help": help, "low": low, "high": high})


class Settings(Protocol):
    """A frozen dataclass whose fields are made by `setting`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The recipe of a training; the defaults are those of the ITIN paper, section IV."""

    epochs: int = setting(40, "passes over the training part at most", low=1)
    batch_size: int = setting(64, "pairs per step", low=1)
    optimiser: Literal["adam", "adamw", "sgd", "momentum", "rmsprop"] = setting(
        "adam", "adam couples weight decay to the gradient, adamw not; sgd: Nesterov's, momentum: the plain one"
    )
    learning_rate: float = setting(1e-3, "step size at the start", low=0.0)
    weight_decay: float = setting(1e-5, "decoupled with adamw, L2 form with the others", low=0.0)
    schedule: Literal["step", "cosine", "constant", "plateau"] = setting(
        "step", "how the learning rate falls; plateau: a step when the validation loss stands still"
    )
    step_epochs: int = setting(10, "epochs between two steps, or without a lower validation loss before one", low=1)
    step_factor: float = setting(0.1, "what a step multiplies the learning rate by", low=0.0, high=1.0)
    warmup_epochs: float = setting(0.0, "epochs over which the learning rate rises linearly from 0", low=0.0)
    select: Literal["accuracy", "loss"] = setting("accuracy", "which validation result makes an epoch the best")
    patience: int = setting(0, "stop after so many epochs without a better validation result; 0: never", low=0)
    gradient_clip: float = setting(0.0, "largest norm of the gradient; 0: no limit", low=0.0)
    average: float = setting(0.0, "decay of the moving average of the weights that is kept; 0: none", low=0.0, high=1.0)
    length_window: int = setting(8, "batches sorted by length together; 1: no sorting", low=1)
    precision: Literal["float32", "bfloat16"] = setting(
        "float32", "of the products in training steps; everything else, validation included, is always in float32"
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedConfig:
    """What a run is made with, and where each value comes from."""

    head: Any
    train: TrainConfig
    origins: Mapping[str, str]  # key -> "--set", "preset NAME" or "default"

    def to_json(self) -> dict[str, Any]:
        """{"head": {...}, "train": {...}, "origins": {...}}"""
        return {"head": asdict(self.head), "train": asdict(self.train), "origins": dict(self.origins)}


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """`key=value` strings of the command line as a mapping; the last one of a key wins.

    >>> parse_assignments(["width=64", "gate=vector"])
    {'width': '64', 'gate': 'vector'}
    """
    result = {}
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set {assignment}: expected key=value, as in --set learning_rate=3e-4")
        result[key.strip()] = value.strip()
    return result


def resolve(
    head_name: str,
    head_config: type[Any],
    presets: Mapping[str, Mapping[str, Any]],
    *,
    preset: str = "default",
    overrides: Mapping[str, Any] | None = None,
    dataset: str = "",
) -> ResolvedConfig:
    """Settings of a head and its training.

    Parameters
    ----------
    overrides
        Values, or strings that are parsed by the type of the setting.

    Raises
    ------
    ConfigError
        Unknown preset or key (with the nearest name), a value of the wrong type or out of range.
    """
    if preset not in presets or "@" in preset:
        known = [name for name in presets if "@" not in name]
        raise ConfigError.unknown("preset", preset, known, where=f"--preset of head {head_name}")
    head_keys = {f.name for f in fields(head_config)}
    train_keys = {f.name for f in fields(TrainConfig)}
    layers: list[tuple[str, Mapping[str, Any]]] = [(f"preset {preset}", presets[preset])]
    if f"{preset}@{dataset}" in presets:
        layers.append((f"preset {preset}@{dataset}", presets[f"{preset}@{dataset}"]))
    layers.append(("--set", overrides or {}))

    origins = dict.fromkeys(sorted(head_keys | train_keys), "default")
    values: dict[str, Any] = {}
    for origin, layer in layers:
        for key, value in layer.items():
            if key not in origins:
                raise ConfigError.unknown("setting", key, origins, where=f"{origin} of head {head_name}")
            values[key] = parse_value(TrainConfig if key in train_keys else head_config, key, value)
            origins[key] = origin
    return ResolvedConfig(
        head=head_config(**{key: value for key, value in values.items() if key in head_keys}),
        train=TrainConfig(**{key: value for key, value in values.items() if key in train_keys}),
        origins=origins,
    )


def parse_value(config: type[Any], key: str, value: Any) -> Any:
    """A value of the type that the setting `key` of `config` has; strings are parsed.

    >>> parse_value(TrainConfig, "learning_rate", "3e-4")
    0.0003
    """
    expected = get_type_hints(config)[key]
    options = get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)
    if NoneType in options and (value is None or value == "none"):
        return None
    for option in options:
        parsed = _parse_as(option, value)
        if parsed is not None:
            return parsed
    for option in options:
        if get_origin(option) is Literal:
            raise ConfigError.unknown(f"value of {key}", str(value), [str(c) for c in get_args(option)], where=key)
    names = " or ".join("none" if o is NoneType else o.__name__ for o in options)
    raise ConfigError(f"{key}: expected {names}, found {value!r}. Type: --set {key}=VALUE")


def check_settings(config: Settings) -> None:
    """Check every value of a settings dataclass against its range and choices.

    Raises
    ------
    ConfigError
        A value is not finite, out of range or not among the choices.
    """
    hints = get_type_hints(type(config))
    for f in fields(cast(Any, config)):
        value = getattr(config, f.name)
        if get_origin(hints[f.name]) is Literal and value not in get_args(hints[f.name]):
            choices = [str(c) for c in get_args(hints[f.name])]
            raise ConfigError.unknown(f"value of {f.name}", str(value), choices, where=f.name)
        low, high = f.metadata.get("low"), f.metadata.get("high")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
            limits = f"at least {low}" if high is None else f"between {low} and {high}"
            if low is None and high is None:
                limits = "a finite number"
            raise ConfigError(f"{f.name}: expected {limits}, found {value}. {f.metadata['help']}")


def _parse_as(expected: Any, value: Any) -> Any:
    """The value as this type, or None when it is not one."""
    if get_origin(expected) is Literal:
        return next((c for c in get_args(expected) if c == value or str(c) == value), None)
    if expected is bool:
        if isinstance(value, str):
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(value.lower())
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if expected is str:
        return value if isinstance(value, str) else None
    if expected is int and isinstance(value, float):
        return None
    try:
        return expected(value)
    except ValueError:
        return None
