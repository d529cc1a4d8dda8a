"""Settings: wrong names and types are refused by name; only what was changed is hashed."""

from dataclasses import dataclass, field

import pytest

from sentifuse import ConfigError
from sentifuse.extract.settings import all_settings, changed_settings, check_range, path_settings, read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    side: int = 3
    sides: int | tuple[int, int] = 7
    mean: tuple[float, float] = (0.5, 0.5)
    names: tuple[str, ...] = ()
    is_on: bool = False

    def __post_init__(self) -> None:
        check_range("side", self.side, 1, 9)


def test_lists_become_tuples_and_whole_numbers_pass_as_numbers() -> None:
    made = read_settings(Example, {"sides": [1, 2], "mean": [0, 1.5], "names": ["a"]}, where="here")
    assert made == Example(sides=(1, 2), mean=(0, 1.5), names=("a",))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"sied": 3}, r"here: unknown setting 'sied'; did you mean 'side'\?"),
        ({"side": "3"}, "here: side is '3', expected a whole number"),
        ({"side": True}, "here: side is True, expected a whole number"),
        ({"side": 2.0}, "here: side is 2.0, expected a whole number"),
        ({"sides": [1, 2, 3]}, r"expected a whole number or a list of 2 a whole number"),
        ({"names": "abc"}, "expected a list of a string"),
        ({"is_on": 1}, "expected true or false"),
        ({"side": 12}, "here: side is 12, expected 1 to 9"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(values: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        read_settings(Example, values, where="here")


def test_only_changed_settings_are_hashed() -> None:
    assert changed_settings(Example()) == {}
    assert changed_settings(Example(side=3, sides=(1, 2))) == {"sides": [1, 2]}
    assert list(all_settings(Example())) == ["side", "sides", "mean", "names", "is_on"]


def test_a_path_is_kept_for_people_and_never_hashed() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class WithPath:
        side: int = 3
        source: str = field(default="", metadata={"is_path": True})

    assert path_settings(WithPath) == {"source"}
    assert changed_settings(WithPath(source="/here")) == {}
    assert all_settings(WithPath(source="/here")) == {"side": 3, "source": "/here"}
