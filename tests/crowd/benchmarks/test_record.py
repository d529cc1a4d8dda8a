"""What of a benchmarking is on disk: answers come back exactly, damage and older releases are named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError, DataError
from sentifuse.crowd.benchmarks.answers import Answers
from sentifuse.crowd.benchmarks.record import Record, refuse_other_content
from sentifuse.crowd.benchmarks.tasks import Task, Trained
from sentifuse.data.files import write_json

TASK = Task(
    name="x-fold-1",
    preset="five_fold",
    images=[],
    classes=np.zeros(0, np.int64),
    train_rows=np.zeros(0, np.int64),
    val_rows=np.zeros(0, np.int64),
    test_rows=np.zeros(0, np.int64),
)
MADE = Trained(
    answers=Answers(
        probabilities=np.array([[0.1, 0.2, 0.7], [np.nan] * 3, [1 / 3] * 3], dtype=np.float32),
        statuses=("ok", "missing", "ok"),
        details=("", "gone", ""),
        digests=("a", "", "b"),
    ),
    n_train=7,
    left_out={"/a.jpg": "missing"},
    best={"epoch": 3, "val_loss": 0.1},
)


def record(out: Path, **identity: Any) -> Record:
    def save(document: Mapping[str, Any]) -> None:
        write_json(out / "benchmark.json", document)

    return Record(out, identity, {"benchmarks": [], "command": ["sentifuse"]}, save)


@pytest.mark.parametrize("is_again", [False, True])
def test_answers_of_a_fine_tuning_are_made_once_and_come_back_exactly(tmp_path: Path, is_again: bool) -> None:
    made: list[str] = []

    def train(task: Task) -> Trained:
        made.append(task.name)
        return MADE

    for _ in range(1 + is_again):
        found = record(tmp_path).kept(train)(TASK)
    assert made == ["x-fold-1"]
    assert found.answers.probabilities.tobytes() == MADE.answers.probabilities.tobytes()
    assert found.answers.probabilities.dtype == np.float32
    for name in ("statuses", "details", "digests"):
        assert getattr(found.answers, name) == getattr(MADE.answers, name)
    assert (found.n_train, dict(found.left_out), dict(found.best)) == (7, dict(MADE.left_out), dict(MADE.best))


def test_every_entry_is_on_disk_when_it_is_there(tmp_path: Path) -> None:
    first = record(tmp_path, seed=1)
    assert not first.is_begun
    first.add("benchmarks", {"name": "a"})
    again = record(tmp_path, seed=1)
    assert again.is_begun
    assert again.names("benchmarks") == {"a"}
    assert not again.document["is_complete"]
    with pytest.raises(ConfigError, match=r"these differ: seed\. Type its command again \(sentifuse\)"):
        record(tmp_path, seed=2)


def test_a_damaged_document_and_one_of_an_earlier_release_are_named(tmp_path: Path) -> None:
    (tmp_path / "benchmark.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="not JSON"):
        record(tmp_path)
    write_json(tmp_path / "benchmark.json", {"benchmarks": []})
    with pytest.raises(ConfigError, match="earlier release"):
        record(tmp_path)


def test_only_a_benchmarkings_own_folder_is_written_to(tmp_path: Path) -> None:
    refuse_other_content(tmp_path / "new")
    refuse_other_content(tmp_path)
    (tmp_path / ".lock").touch()  # of a process that was killed before it wrote anything
    refuse_other_content(tmp_path)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match="new or an empty folder"):
        refuse_other_content(tmp_path)
    record(tmp_path)
    refuse_other_content(tmp_path)
