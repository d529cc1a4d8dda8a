"""Runs named one by one become rows by head and settings."""

from typing import Any

import pytest

from sentifuse import ConfigError
from sentifuse.fuse.comparison.given import rows_of_runs
from sentifuse.fuse.run import RunDirectory


def runs_of(compared: Any) -> list[RunDirectory]:
    folder = compared.world.artifacts / "runs"
    return [RunDirectory.open(folder / run["run"]) for run in compared.document["runs"]]


def test_runs_of_one_head_and_settings_are_one_row(compared: Any) -> None:
    rows = rows_of_runs(runs_of(compared))
    assert [len(runs) for _, runs in rows.values()] == [2, 2, 2]
    assert next(iter(rows)) == "text_only batch_size=16 epochs=1"


def test_other_settings_under_the_same_words_are_another_row(compared: Any) -> None:
    first, second, *_ = runs_of(compared)
    config = {**second.document["config"], "train": {**second.document["config"]["train"], "momentum": 0.5}}
    rows = rows_of_runs([first, RunDirectory(second.path, {**second.document, "config": config})])
    assert [name.partition(" (")[2] for name in rows] == ["", "2)"]


def test_a_run_named_twice_is_refused(compared: Any) -> None:
    first = runs_of(compared)[0]
    with pytest.raises(ConfigError, match="every run once"):
        rows_of_runs([first, first])
