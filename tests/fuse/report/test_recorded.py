"""A report is of what was measured on this dataset with this rule, or it is refused; measuring is counted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse import CacheError, ConfigError, DataError
from sentifuse.data import files
from sentifuse.fuse.report.recorded import read_recorded
from sentifuse.fuse.run import RunDirectory


def change(path: Path, **values: Any) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    files.write_json(path, document | values)


def counts(run: RunDirectory) -> dict[str, int]:
    return dict(json.loads((run.path / "run.json").read_text(encoding="utf-8"))["evaluations"])


def test_metrics_that_exist_are_opened_as_they_are(odd_run: RunDirectory) -> None:
    before = counts(odd_run)
    found = read_recorded(odd_run, "test")
    assert not found.is_measured_now
    assert found.metrics == json.loads((odd_run.path / "metrics-test.json").read_text(encoding="utf-8"))
    assert counts(odd_run) == before  # whoever reads on counts the look


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_part_that_was_not_evaluated_is_measured_and_counted(own_run: RunDirectory, split: str) -> None:
    if split == "test":
        (own_run.path / "metrics-test.json").unlink()  # of val there are numbers of the training, without intervals
    before = counts(own_run).get(split, 0)
    found = read_recorded(own_run, split)
    assert found.is_measured_now
    assert "intervals" in found.metrics
    assert counts(own_run)[split] == before + 1


def test_a_run_that_was_never_evaluated_needs_its_features(own_run: RunDirectory) -> None:
    (own_run.path / "predictions-test.parquet").unlink()
    shutil.rmtree(own_run.artifacts / "cache")
    with pytest.raises(CacheError, match="sentifuse extract"):
        read_recorded(own_run, "test")


def test_an_unknown_part_and_a_folder_without_a_run_are_refused(odd_run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown part of the split 'tset'"):
        read_recorded(odd_run, "tset")
    with pytest.raises(ConfigError, match="expected a run directory"):
        read_recorded(tmp_path, "test")


def torn(name: str) -> Callable[[RunDirectory], None]:
    def tear(run: RunDirectory) -> None:
        path = run.path / name
        path.write_bytes(path.read_bytes()[:200])

    return tear


def lacking(name: str, key: str) -> Callable[[RunDirectory], None]:
    def take(run: RunDirectory) -> None:
        document = json.loads((run.path / name).read_text(encoding="utf-8"))
        del document[key]
        files.write_json(run.path / name, document)

    return take


def other_labels(run: RunDirectory) -> None:
    change(run.path / "metrics-test.json", confusion=[[9, 0, 0], [0, 0, 0], [0, 0, 0]])


def other_rule(run: RunDirectory) -> None:
    change(run.path / "metrics-test.json", rule="consistent")


def other_pairs(run: RunDirectory) -> None:
    change(run.path / "metrics-test.json", split_digest="0" * 64)


def no_dataset(run: RunDirectory) -> None:
    shutil.rmtree(run.artifacts / "datasets")


def other_split(run: RunDirectory) -> None:
    split = dict(run.document["split"])
    change(run.path / "run.json", split=split | {"train": {"n": 3, "digest": "0" * 64}})


@pytest.mark.parametrize(
    ("damage", "what", "todo"),
    [
        (torn("metrics-test.json"), "metrics-test.json: not JSON", "sentifuse evaluate"),
        (torn("run.json"), "run.json: not JSON", "sentifuse train"),
        (torn("predictions-test.parquet"), "not a readable Parquet file", "sentifuse evaluate"),
        (lacking("run.json", "versions"), "these are missing: versions", "sentifuse train"),
        (other_labels, "two different measurements", "sentifuse evaluate"),
        (other_rule, "rule consistent", "sentifuse evaluate"),
        (other_pairs, "those of other pairs", "sentifuse evaluate"),
        (no_dataset, "card.json: not there", "sentifuse data prepare"),
        (other_split, "they are not the 3 that run", "Train again"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_torn_or_of_other_data_is_refused(
    own_run: RunDirectory, damage: Callable[[RunDirectory], None], what: str, todo: str
) -> None:
    damage(own_run)
    with pytest.raises(DataError) as error:
        read_recorded(own_run.path, "test")
    assert what in str(error.value)
    assert todo in str(error.value)


def test_a_run_of_another_label_rule_is_refused(own_run: RunDirectory) -> None:
    change(own_run.path / "run.json", rule="consistent")  # none of these pairs has a label by it
    with pytest.raises(DataError, match=r"they are not the 72 that run|expected"):
        read_recorded(own_run.path, "test")
