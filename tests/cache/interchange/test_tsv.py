"""TSV files of region features: the numbers in the base64 are the numbers in the cache; a broken line is named."""

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sentifuse.cache.errors import BadSource, BadSourceRow, Unreadable
from sentifuse.cache.interchange.importing import ImportSummary
from sentifuse.cache.reader import FeatureReader

Import = Callable[..., ImportSummary]
Line = Callable[..., bytes]


def features(seed: int, regions: int, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(regions, width)).astype(np.float32)


def test_six_columns_are_imported_exactly(importing: Import, line: Line, tmp_path: Path) -> None:
    path = tmp_path / "regions.tsv"
    boxes = np.array([[1, 2, 30, 20], [0, 0, 40, 30]], np.float32)
    empty = line("b", features(2, 0))
    path.write_bytes(empty + line("a", features(1, 2), boxes=boxes) + line("c", features(3, 5)).replace(b"\n", b"\r\n"))
    summary = importing(path, "tsv", ["a", "b", "c"])
    reader = FeatureReader(summary.feature_set)
    assert [field.name for field in reader.fields] == ["features", "boxes", "boxes_normalised", "image_size"]
    for row_id, seed, regions in (("a", 1, 2), ("b", 2, 0), ("c", 3, 5)):
        np.testing.assert_array_equal(reader.value(row_id, "features"), features(seed, regions))
        np.testing.assert_array_equal(reader.value(row_id, "image_size"), [40, 30])
    np.testing.assert_array_equal(reader.value("a", "boxes"), boxes)
    np.testing.assert_array_equal(
        reader.value("a", "boxes_normalised"), (boxes / np.array([40, 30, 40, 30.0])).astype(np.float32)
    )


def test_ten_columns_have_objects_and_attributes(importing: Import, tmp_path: Path) -> None:
    arrays = [
        np.array([7, 3]),
        np.array([0.9, 0.5], np.float32),
        np.array([1, 0]),
        np.array([0.1, 0.2], np.float32),
    ]
    encoded = [base64.b64encode(array.tobytes()) for array in (*arrays, np.zeros((2, 4), np.float32), features(1, 2))]
    path = tmp_path / "lxmert.tsv"
    path.write_bytes(b"\t".join([b"a", b"30", b"40", *encoded[:4], b"2", *encoded[4:]]) + b"\n")
    reader = FeatureReader(importing(path, "tsv", ["a"]).feature_set)
    np.testing.assert_array_equal(reader.value("a", "image_size"), [40, 30])
    for name, array in zip(("object_ids", "object_scores", "attribute_ids", "attribute_scores"), arrays, strict=True):
        assert reader.value("a", name).dtype == array.dtype
        np.testing.assert_array_equal(reader.value("a", name), array)


def test_the_order_of_lines_does_not_change_the_rows(
    importing: Import, line: Line, tmp_path: Path, rows_in: Callable[[FeatureReader], object]
) -> None:
    lines = [line(row_id, features(seed, seed + 1)) for seed, row_id in enumerate("abcd")]
    found = []
    for name, order in (("rising", lines), ("falling", lines[::-1])):
        path = tmp_path / f"{name}.tsv"
        path.write_bytes(b"".join(order))
        found.append(FeatureReader(importing(path, "tsv", list("dbca")).feature_set))
    assert found[0].ids == found[1].ids == tuple("dbca")
    assert rows_in(found[0]) == rows_in(found[1])


def test_an_id_twice_is_refused_by_name(importing: Import, line: Line, tmp_path: Path) -> None:
    path = tmp_path / "twice.tsv"
    path.write_bytes(line("a", features(1, 2)) + line("b", features(1, 2)) + line("a", features(2, 2)))
    with pytest.raises(BadSource, match=r"'a' is that of rows 1 and 3"):
        importing(path, "tsv", ["a", "b"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-10] + b"\n", "no base64"),
        (lambda text: text[:-9] + b"\n", "42 bytes for 2 regions"),
        (lambda text: text[:-33] + b"\n", "24 bytes for 2 regions"),
        (lambda text: text[:-9] + b"*" + text[-8:], "no base64"),
        (lambda text: text.replace(b"\t2\t", b"\t3\t"), "bytes for 3 regions"),
        (lambda text: text.replace(b"\t2\t", b"\t-2\t"), "expected a whole number"),
        (lambda text: text.replace(b"\t40\t", b"\t0\t"), "image of 0 x 30 pixels"),
        (lambda text: text.replace(b"\t40\t", b"\t" + b"9" * 5000 + b"\t"), "expected a whole number"),
        (lambda text: text[:30] + b"\n", "columns, expected 6"),
        (lambda text: b"\n", "has 1 columns"),
    ],
    ids=range(10),
)
def test_a_broken_line_is_refused_by_number_and_leaves_nothing(
    change: Callable[[bytes], bytes], message: str, importing: Import, line: Line, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "broken.tsv"
    path.write_bytes(line("a", features(1, 2)) + change(line("b", features(2, 2))))
    with pytest.raises(BadSource, match=message) as caught:
        importing(path, "tsv", ["a", "b"])
    assert "line 2" in str(caught.value)
    assert not cache_dir.exists() or list(cache_dir.iterdir()) == []


def test_a_broken_line_is_quarantined_when_asked(importing: Import, line: Line, tmp_path: Path) -> None:
    path = tmp_path / "broken.tsv"
    path.write_bytes(line("a", features(1, 2)) + line("b", features(2, 2))[:-10] + b"\n")
    with pytest.raises(BadSourceRow):
        importing(path, "tsv", ["a", "b"])
    summary = importing(path, "tsv", ["a", "b"], skip_broken=True)
    assert summary.statuses == {"failed": 1, "ok": 1}
    assert "no base64" in summary.failed["b"]


@pytest.mark.parametrize("content", [b"", b"\t\t\t\t\t\n"])
def test_a_file_without_images_is_refused(content: bytes, importing: Import, tmp_path: Path) -> None:
    path = tmp_path / "empty.tsv"
    path.write_bytes(content)
    with pytest.raises(BadSource):
        importing(path, "tsv", ["a"])


def test_a_file_without_any_region_is_refused(importing: Import, line: Line, tmp_path: Path) -> None:
    path = tmp_path / "none.tsv"
    path.write_bytes(line("a", features(1, 0)))
    with pytest.raises(BadSource, match="no image has any region"):
        importing(path, "tsv", ["a"])


def test_a_path_that_is_not_there_is_named(importing: Import, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"nothing\.tsv"):
        importing(tmp_path / "nothing.tsv", "tsv", ["a"])
