"""The page on protocols names every protocol, option and field that there is."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from sentifuse.data.prepare import prepare
from sentifuse.data.protocols import DEFAULT_FOLDS, PROTOCOLS
from sentifuse.data.splits import SplitFacts

PAGE = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_has_its_row(protocol: str) -> None:
    assert f"\n| `{protocol}` |" in PAGE


def test_the_options_are_those_of_prepare() -> None:
    parameters = inspect.signature(prepare).parameters
    for option in ("lists", "allow_missing", "folds"):
        assert option in parameters
        assert f"--{option.replace('_', '-')}" in PAGE
    assert f"k is {DEFAULT_FOLDS}," in PAGE


def test_the_example_speaks_as_training_does() -> None:
    assert {"leak", "digest", "parts", "missing"} <= {field.name for field in fields(SplitFacts)}
    assert "have a near-duplicate in training" in PAGE
