"""Pickles of the sentiment toolkits: columns by id, read without running anything."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError
from sentifuse.cache.errors import BadSource, BadSourceRow
from sentifuse.cache.interchange.importing import ImportSummary
from sentifuse.cache.reader import FeatureReader

Import = Callable[..., ImportSummary]
Pickled = Callable[..., bytes]


def mmsa() -> dict[str, dict[str, Any]]:
    """Three splits of two rows; sequences of three steps, zeros after the real ones."""
    rng = np.random.default_rng(0)
    splits = {}
    for split in ("train", "valid", "test"):
        vision = rng.normal(size=(2, 3, 4)).astype(np.float32)
        vision[0, 1:] = 0
        splits[split] = {
            "id": [f"{split}$_$0", f"{split}$_$1"],
            "raw_text": ["some text", "more"],
            "text": rng.normal(size=(2, 3, 5)).astype(np.float32),
            "vision": vision,
            "vision_lengths": [1, 3],
            "regression_labels": np.array([0.5, -1], np.float32),
        }
    return splits


def ctmwa(ids: list[str], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    text = [rng.normal(size=(1, 4)).astype(np.float32) for _ in ids]
    images = [rng.normal(size=4).astype(np.float32) for _ in ids]
    return {"id": np.array(ids), "text": text, "image": images, "label": [0] * len(ids)}


@pytest.fixture
def mmsa_file(tmp_path: Path, pickled: Pickled) -> Path:
    path = tmp_path / "unaligned.pkl"
    path.write_bytes(pickled(mmsa()))
    return path


IDS = [f"{split}$_${row}" for split in ("test", "train", "valid") for row in (0, 1)]


def test_a_column_of_all_splits_is_imported_exactly(mmsa_file: Path, importing: Import) -> None:
    summary = importing(mmsa_file, "pickle", IDS, encoder="tokens", arrays=(("states", "text"),))
    reader = FeatureReader(summary.feature_set)
    assert reader.ids == tuple(IDS)
    assert not reader.field("states").is_ragged
    for split, columns in mmsa().items():
        for row in (0, 1):
            np.testing.assert_array_equal(reader.value(f"{split}$_${row}", "states"), columns["text"][row])


def test_lengths_cut_the_padding_off(mmsa_file: Path, importing: Import) -> None:
    options = {"arrays": (("features", "vision"),), "lengths": "vision_lengths"}
    reader = FeatureReader(importing(mmsa_file, "pickle", IDS, **options).feature_set)
    assert reader.field("features").is_ragged
    for split, columns in mmsa().items():
        np.testing.assert_array_equal(reader.value(f"{split}$_$0", "features"), columns["vision"][0][:1])
        np.testing.assert_array_equal(reader.value(f"{split}$_$1", "features"), columns["vision"][1])


def test_lengths_that_would_cut_real_steps_are_refused(mmsa_file: Path, importing: Import) -> None:
    options = {"arrays": (("states", "text"),), "lengths": "vision_lengths"}
    with pytest.raises(BadSourceRow, match=r"'train\$_\$0': text: length 1, but steps after it are not zero"):
        importing(mmsa_file, "pickle", IDS, **options)


def test_only_the_named_splits_are_imported(mmsa_file: Path, importing: Import) -> None:
    summary = importing(mmsa_file, "pickle", IDS, arrays=(("states", "text"),), splits=("test",))
    assert (summary.source_rows, summary.statuses) == (2, {"failed": 4, "ok": 2})
    with pytest.raises(ConfigError, match="none called dev"):
        importing(mmsa_file, "pickle", IDS, arrays=(("states", "text"),), splits=("dev",))


def test_a_folder_with_a_file_for_each_split_is_one_source(tmp_path: Path, importing: Import, pickled: Pickled) -> None:
    parts = {"train": ctmwa(["3", "1"], 1), "test": ctmwa(["2"], 2)}
    for name, part in parts.items():
        (tmp_path / f"{name}_1.pkl").write_bytes(pickled(part))
    arrays = (("image", "image"), ("text", "text"))
    reader = FeatureReader(importing(tmp_path, "pickle", ["1", "2", "3"], encoder="clip", arrays=arrays).feature_set)
    assert [field.shape for field in reader.fields] == [(4,), (4,)]  # (1, 4) is one vector
    for row_id, part, row in (("3", "train", 0), ("1", "train", 1), ("2", "test", 0)):
        np.testing.assert_array_equal(reader.value(row_id, "image"), parts[part]["image"][row])
        np.testing.assert_array_equal(reader.value(row_id, "text"), parts[part]["text"][row][0])


def test_rows_of_different_lengths_make_a_ragged_field(tmp_path: Path, importing: Import, pickled: Pickled) -> None:
    states = [np.ones((length, 3), np.float32) for length in (2, 0, 5)]
    path = tmp_path / "ragged.pkl"
    path.write_bytes(pickled({"id": [1, 2, 3], "text": states}))
    reader = FeatureReader(importing(path, "pickle", ["1", "2", "3"], arrays=(("states", "text"),)).feature_set)
    assert [len(reader.value(row_id, "states")) for row_id in "123"] == [2, 0, 5]


class RunsCode:
    def __reduce__(self) -> Any:
        return os.system, ("touch owned",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"id": ["a", "b"], "x": [RunsCode(), RunsCode()]}, r"asks for posix\.system. Nothing of it was run"),
        ({"id": ["a", "a"], "x": np.zeros((2, 2), np.float32)}, "'a' is that of rows 1 and 2"),
        ({"id": ["a", "b"], "x": np.zeros((3, 2), np.float32)}, "3 rows in 'x' for 2 ids"),
        ({"id": ["a", "b"], "x": np.zeros((2, 2))}, "float64 has no place"),
        ({"id": ["a", "b"], "x": ["text", "text"]}, "expected numbers"),
        ({"id": ["a", "b"], "x": [[1, 2], [[1], [2, 3]]]}, "lists that differ|cannot be stored"),
        ({"id": ["a", "b"], "x": 5}, "a int, expected an array or a list"),
        ({"id": ["a", 1.5], "x": np.zeros((2, 2), np.float32)}, "an id that is 1.5"),
        ({"id": "ab", "x": np.zeros((2, 2), np.float32)}, "a str, expected an array"),
        ({"id": ["a"], "y": np.zeros((1, 2), np.float32)}, "no array 'x'; there are: id, y"),
        ({"train": {"x": np.zeros((1, 2), np.float32)}}, "no column 'id'"),
        ({"id": [], "x": []}, "no rows"),
        ([1, 2], "expected a dict with a column 'id'"),
        ({}, "expected a dict with a column 'id'"),
    ],
    ids=range(14),
)
def test_what_is_no_feature_file_is_refused(
    content: Any,
    message: str,
    tmp_path: Path,
    importing: Import,
    pickled: Pickled,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pkl").write_bytes(pickled(content))
    with pytest.raises(BadSource, match=message):
        importing(tmp_path / "bad.pkl", "pickle", ["a", "b"], arrays=(("vector", "x"),))
    assert not (tmp_path / "owned").exists()


def test_an_id_in_two_splits_is_refused(tmp_path: Path, importing: Import, pickled: Pickled) -> None:
    for name in ("train", "query"):
        (tmp_path / f"{name}_1.pkl").write_bytes(pickled(ctmwa(["1"], 1)))
    with pytest.raises(BadSource, match="ids more than once: '1'"):
        importing(tmp_path, "pickle", ["1"], arrays=(("vector", "image"),))
    assert importing(tmp_path, "pickle", ["1"], arrays=(("vector", "image"),), splits=("train",)).statuses == {"ok": 1}


def test_which_column_is_meant_must_be_said(mmsa_file: Path, importing: Import, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are: raw_text, regression_labels, text, vision, vision_lengths"):
        importing(mmsa_file, "pickle", IDS)
    with pytest.raises(ConfigError, match="for one --field only"):
        importing(mmsa_file, "pickle", IDS, arrays=(("a", "text"), ("b", "vision")), lengths="vision_lengths")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSource, match=r"no \.pkl files"):
        importing(tmp_path / "empty", "pickle", IDS, arrays=(("a", "text"),))
