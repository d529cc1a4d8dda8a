"""What decides which regions are given is checked where it is said, and only what the mode looks at."""

import pytest

from sentifuse import ConfigError
from sentifuse.extract.detector.settings import SelectionSettings


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "fixed"},
        {"count": 0},
        {"count": 301},
        {"mode": "adaptive", "fewest": 50, "most": 20},
        {"mode": "adaptive", "proposals": 99},
    ],
)
def test_settings_that_do_not_fit_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SelectionSettings(**values)  # type: ignore[arg-type]


def test_bounds_of_another_mode_are_no_matter() -> None:
    assert SelectionSettings(proposals=50).proposals == 50  # `most`, 100, is for adaptive
    assert SelectionSettings(mode="adaptive", proposals=20, most=20).count == 36
