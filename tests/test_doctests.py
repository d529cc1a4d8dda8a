"""Every example in a docstring runs, and every module imports under its installed name."""

import doctest
import importlib
import pkgutil

import pytest

import sentifuse

MODULES = ["sentifuse", "sentifuse.doctor"] + [
    module.name
    for room in ("cache", "commands", "crowd", "data", "engines", "extract", "fuse")
    for module in pkgutil.walk_packages(importlib.import_module(f"sentifuse.{room}").__path__, f"sentifuse.{room}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no first sentence"
    result = doctest.testmod(module)
    assert result.failed == 0


def test_the_modules_were_found() -> None:
    assert len(MODULES) > 60
    assert sentifuse.__version__
