"""One array and its ids: rows go to the ids beside them, or nothing is imported."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sentifuse import ConfigError
from sentifuse.cache.errors import BadSource
from sentifuse.cache.interchange.importing import ImportSummary
from sentifuse.cache.reader import FeatureReader

Import = Callable[..., ImportSummary]


def write(folder: Path, array: object, ids: str, *, name: str = "vectors") -> dict[str, Path]:
    np.save(folder / f"{name}.npy", array, allow_pickle=True)  # type: ignore[arg-type]
    (folder / f"{name}.txt").write_text(ids, encoding="utf-8", newline="")
    return {"path": folder / f"{name}.npy", "ids_file": folder / f"{name}.txt"}


@pytest.mark.parametrize(
    ("array", "field"),
    [
        (np.arange(12, dtype=np.float32).reshape(3, 4), "vector"),
        (np.asfortranarray(np.arange(12, dtype=np.float16).reshape(3, 4)), "vector"),
        (np.arange(24, dtype=">i4").reshape(3, 2, 4), "grid"),
        (np.arange(3, dtype=np.int64), "grid"),
    ],
)
def test_rows_are_imported_exactly(array: np.ndarray, field: str, importing: Import, tmp_path: Path) -> None:
    files = write(tmp_path, array, "\ufeffb\r\na\r\né 1\r\n")
    reader = FeatureReader(importing(files["path"], "npy", ["a", "b", "é 1"], ids_file=files["ids_file"]).feature_set)
    assert [one.name for one in reader.fields] == [field]
    for number, row_id in enumerate(["b", "a", "é 1"]):
        np.testing.assert_array_equal(reader.value(row_id, field), array[number])


def test_a_reordered_source_gives_the_same_shards(
    importing: Import, tmp_path: Path, rows_in: Callable[[FeatureReader], object]
) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    first = write(tmp_path, array, "a\nb\nc\n", name="first")
    second = write(tmp_path, array[::-1], "c\nb\na\n", name="second")
    found = [
        FeatureReader(importing(files["path"], "npy", list("bca"), ids_file=files["ids_file"]).feature_set)
        for files in (first, second)
    ]
    assert found[0].ids == found[1].ids == tuple("bca")
    assert rows_in(found[0]) == rows_in(found[1])


def test_the_field_and_the_ids_can_be_named(importing: Import, tmp_path: Path) -> None:
    files = write(tmp_path, np.zeros((2, 3), np.float32), "1\n2")
    summary = importing(
        files["path"],
        "npy",
        ["x-1", "x-2"],
        ids_file=files["ids_file"],
        id_prefix="x-",
        arrays=(("embedding", "embedding"),),
    )
    assert [field.name for field in summary.feature_set.fields] == ["embedding"]
    assert summary.statuses == {"ok": 2}
    assert summary.feature_set.recipe["imported"]["id_prefix"] == "x-"


@pytest.mark.parametrize(
    ("array", "ids", "message"),
    [
        (np.zeros((3, 2), np.float32), "a\nb\n", "2 ids for the 3 rows"),
        (np.zeros((2, 2), np.float32), "a\nb\nc", "3 ids for the 2 rows"),
        (np.zeros((2, 2), np.float32), "a\na\n", "'a' is that of rows 1 and 2"),
        (np.zeros((2, 2), np.float32), "a\n\nb", "line 2 is blank"),
        (np.zeros((2, 2)), "a\nb", "float64 has no place"),
        (np.zeros((2, 2), np.int16), "a\nb", "int16 cannot be stored"),
        (np.array([{}, {}]), "a\nb", "expected an array of numbers"),
        (np.float32(1), "a", "expected an array of numbers"),
        (np.zeros((0, 2), np.float32), "", "expected an array of numbers"),
    ],
    ids=range(9),
)
def test_what_does_not_fit_is_refused(array: object, ids: str, message: str, importing: Import, tmp_path: Path) -> None:
    files = write(tmp_path, array, ids)
    with pytest.raises(BadSource, match=message):
        importing(files["path"], "npy", ["a", "b"], ids_file=files["ids_file"])


def test_a_float64_array_is_converted_when_asked(importing: Import, tmp_path: Path) -> None:
    files = write(tmp_path, np.array([[0.1], [np.inf]]), "a\nb")
    summary = importing(files["path"], "npy", ["a", "b"], ids_file=files["ids_file"], dtype="float32")
    np.testing.assert_array_equal(FeatureReader(summary.feature_set).value("a", "vector"), np.float32([0.1]))
    assert summary.failed == {"b": "failed: vector has NaN or infinity"}


def test_a_file_cut_short_is_refused(importing: Import, tmp_path: Path) -> None:
    files = write(tmp_path, np.zeros((2, 2), np.float32), "a\nb")
    files["path"].write_bytes(files["path"].read_bytes()[:-1])
    with pytest.raises(BadSource, match="15 bytes of values, its header says 16"):
        importing(files["path"], "npy", ["a", "b"], ids_file=files["ids_file"])


def test_ids_must_be_named_and_be_text(importing: Import, tmp_path: Path) -> None:
    files = write(tmp_path, np.zeros((2, 2), np.float32), "a\nb")
    with pytest.raises(ConfigError, match="--ids: not given"):
        importing(files["path"], "npy", ["a"])
    with pytest.raises(BadSource, match="not UTF-8"):
        importing(files["path"], "npy", ["a"], ids_file=files["path"])
    with pytest.raises(ConfigError, match="one array without a name"):
        importing(files["path"], "npy", ["a"], ids_file=files["ids_file"], arrays=(("vector", "image"),))
