"""Settings: the order of truth, typed parsing, and refusals that name the nearest thing."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from sentifuse import ConfigError
from sentifuse.fuse.config import TrainConfig, check_settings, parse_assignments, parse_value, resolve, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    width: int = setting(8, "units", low=1)
    share: float = setting(0.5, "share", low=0.0, high=1.0)
    gate: Literal["scalar", "vector"] = setting("scalar", "kind of gate")
    is_deep: bool = setting(False, "more layers")
    limit: int | None = setting(None, "limit or none")

    def __post_init__(self) -> None:
        check_settings(self)


PRESETS: dict[str, dict[str, Any]] = {
    "default": {"width": 16, "epochs": 5},
    "paper": {"batch_size": 64, "width": 32},
    "paper@large": {"batch_size": 128},
}


def test_option_beats_preset_beats_default() -> None:
    resolved = resolve("h", HeadConfig, PRESETS, overrides={"epochs": "7"})
    assert (resolved.head.width, resolved.train.epochs, resolved.head.share) == (16, 7, 0.5)
    origins = resolved.origins
    assert (origins["width"], origins["epochs"], origins["share"]) == ("preset default", "--set", "default")


def test_every_key_has_an_origin() -> None:
    resolved = resolve("h", HeadConfig, PRESETS)
    assert set(resolved.origins) == set(HeadConfig.__dataclass_fields__) | set(TrainConfig.__dataclass_fields__)


def test_a_preset_may_know_a_dataset() -> None:
    small = resolve("h", HeadConfig, PRESETS, preset="paper", dataset="small")
    large = resolve("h", HeadConfig, PRESETS, preset="paper", dataset="large")
    assert (small.train.batch_size, large.train.batch_size) == (64, 128)
    assert large.origins["batch_size"] == "preset paper@large"
    assert large.head.width == 32


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("width", "12", 12),
        ("share", "1e-1", 0.1),
        ("share", "1", 1.0),
        ("gate", "vector", "vector"),
        ("is_deep", "true", True),
        ("is_deep", "0", False),
        ("limit", "none", None),
        ("limit", "3", 3),
        ("limit", None, None),
        ("share", 0, 0.0),
    ],
)
def test_strings_are_parsed_by_the_type_of_the_setting(key: str, text: Any, value: Any) -> None:
    found = parse_value(HeadConfig, key, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text"), [("width", "1.5"), ("width", "many"), ("width", 2.5), ("is_deep", "maybe"), ("share", True)]
)
def test_a_value_of_another_type_is_refused(key: str, text: Any) -> None:
    with pytest.raises(ConfigError, match=f"{key}: expected (int|float|bool), found .*--set {key}=VALUE"):
        parse_value(HeadConfig, key, text)


def test_an_unknown_choice_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown value of gate 'vectr'; did you mean 'vector'"):
        parse_value(HeadConfig, "gate", "vectr")


def test_an_unknown_key_names_the_nearest_of_both_configs() -> None:
    with pytest.raises(ConfigError, match="unknown setting 'learning_rat'; did you mean 'learning_rate'"):
        resolve("h", HeadConfig, PRESETS, overrides={"learning_rat": "1"})
    with pytest.raises(ConfigError, match="unknown setting 'widht'; did you mean 'width'"):
        resolve("h", HeadConfig, PRESETS, overrides={"widht": "1"})


@pytest.mark.parametrize("preset", ["papr", "paper@large"])
def test_an_unknown_preset_is_refused(preset: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown preset .* There are: default, paper"):
        resolve("h", HeadConfig, PRESETS, preset=preset)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"share": "1.5"}, "share: expected between 0.0 and 1.0, found 1.5"),
        ({"width": "0"}, "width: expected at least 1, found 0"),
        ({"learning_rate": "nan"}, "learning_rate: expected at least 0.0, found nan"),
        ({"batch_size": "-3"}, "batch_size: expected at least 1, found -3"),
    ],
)
def test_a_value_out_of_range_is_refused(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve("h", HeadConfig, PRESETS, overrides=overrides)


def test_assignments_are_split_at_the_first_sign() -> None:
    assert parse_assignments(["a=1", "b = x=y", "a=2"]) == {"a": "2", "b": "x=y"}
    for wrong in ("width", "=3"):
        with pytest.raises(ConfigError, match="expected key=value"):
            parse_assignments([wrong])
