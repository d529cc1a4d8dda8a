"""FI's splits: parts stay apart, all five count."""

from pathlib import Path

import numpy as np
import pytest

from sentifuse import DataError
from sentifuse.crowd.benchmarks.fi_splits import FI_SPLITS, FiPart, join_parts, summarise_splits


def part(names: list[str], positive: list[bool]) -> FiPart:
    return FiPart(images=[Path(name) for name in names], paths=names, is_positive=np.array(positive))


def test_parts_become_rows_of_one_task() -> None:
    parts = {
        "test": part(["e"], [True]),
        "train": part(["a", "b"], [True, False]),
        "val": part(["c", "d"], [False, True]),
    }
    task = join_parts(2, parts, seed=1)
    assert [path.name for path in task.images] == ["a", "b", "c", "d", "e"]
    assert task.classes.tolist() == [2, 0, 0, 2, 2]
    assert (task.train_rows.tolist(), task.val_rows.tolist(), task.test_rows.tolist()) == ([0, 1], [2, 3], [4])
    assert (task.preset, task.name, task.seed) == ("fi_splits", "FI-split-2", 1)


def test_an_image_in_two_parts_is_refused() -> None:
    parts = {"train": part(["a"], [True]), "val": part(["b"], [False]), "test": part(["a"], [True])}
    with pytest.raises(DataError, match=r"FI split 3: a is in the parts train and test"):
        join_parts(3, parts)


def test_all_five_splits_count() -> None:
    documents = [{"accuracy": 0.1 * k, "f1_macro": 0.5} for k in FI_SPLITS]
    found = summarise_splits(documents)
    assert found["accuracy"] == {"mean": pytest.approx(0.3), "sd": pytest.approx(np.sqrt(0.02)), "n": 5}
