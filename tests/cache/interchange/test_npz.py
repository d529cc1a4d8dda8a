"""Folders of .npz: what numpy reads from the extractor's files is what the cache holds; a damaged file is named."""

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError
from sentifuse.cache.errors import BadSource, BadSourceRow
from sentifuse.cache.interchange import npz
from sentifuse.cache.interchange.importing import ImportSummary
from sentifuse.cache.reader import FeatureReader

Import = Callable[..., ImportSummary]
IDS = ["61", "67", "219", "255"]


def write_npz(path: Path, **arrays: Any) -> None:
    np.savez_compressed(path, **arrays)


def image(regions: int = 2, **other: Any) -> dict[str, Any]:
    arrays = {
        "x": np.full((regions, 3), 0.5, np.float32),
        "bbox": np.zeros((regions, 4), np.float32),
        "num_bbox": np.int64(regions),
        "image_h": np.int64(30),
        "image_w": np.int64(40),
    }
    return {**arrays, **other}


def test_names_that_contradict_the_info_are_not_believed_unasked(
    itin: Path, importing: Import, tmp_path: Path, cache_dir: Path
) -> None:
    with pytest.raises(BadSource, match=r"1\.npz: the file's name says '1', the info in it says image_id '61'"):
        importing(itin, "npz", IDS)
    folder = tmp_path / "renamed"
    folder.mkdir()
    for number, row_id in enumerate(IDS, start=1):
        shutil.copy(itin / f"{number}.npz", folder / f"{row_id}.npz")
    assert importing(folder, "npz", IDS).statuses == {"ok": 4}


@pytest.mark.parametrize(("ids_from", "ids"), [("info", IDS), ("name", list("1234"))])
def test_the_authors_files_are_imported_exactly(
    itin: Path, importing: Import, ids_from: str | None, ids: list[str]
) -> None:
    summary = importing(itin, "npz", ids, ids_from=ids_from)
    assert summary.statuses == {"ok": 4}
    assert (summary.unknown, summary.absent) == ((), ())
    reader = FeatureReader(summary.feature_set)
    assert reader.ids == tuple(ids)
    for number, row_id in enumerate(ids, start=1):
        with np.load(itin / f"{number}.npz", allow_pickle=True) as file:  # files of the tests' own
            info = file["info"].item()
            expected = {
                "features": file["x"],
                "boxes": file["bbox"],
                "image_size": np.array([file["image_w"], file["image_h"]], np.int32),
                "boxes_normalised": (file["bbox"] / np.tile([file["image_w"], file["image_h"]], 2)).astype(np.float32),
                "object_ids": info["objects_id"],
                "object_scores": info["objects_conf"],
                "attribute_ids": info["attrs_id"],
                "attribute_scores": info["attrs_conf"],
            }
        assert {field.name for field in reader.fields} == set(expected)
        for name, value in expected.items():
            found = reader.value(row_id, name)
            assert (found.dtype, found.shape) == (value.dtype, value.shape)
            assert found.tobytes() == value.tobytes()


def test_the_order_of_the_files_does_not_matter(
    itin: Path, importing: Import, tmp_path: Path, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    first = importing(itin, "npz", IDS, ids_from="info").feature_set
    before = snapshot(first.directory / "shards")
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for old, new in zip("1234", "4321", strict=True):
        shutil.copy(itin / f"{old}.npz", renamed / f"{new}.npz")
    second = importing(renamed, "npz", IDS, ids_from="info").feature_set
    assert second.fingerprint != first.fingerprint  # other names: with ids from them it would be another source
    reader, other = FeatureReader(first), FeatureReader(second)
    assert reader.ids == other.ids == tuple(IDS)
    for row_id in IDS:
        assert reader.value(row_id, "features").tobytes() == other.value(row_id, "features").tobytes()
    assert before


def test_two_files_of_one_id_are_refused_by_name(itin: Path, importing: Import, tmp_path: Path) -> None:
    for name in ("1", "copy"):
        shutil.copy(itin / "1.npz", tmp_path / f"{name}.npz")
    with pytest.raises(BadSource, match="ids more than once: '61'"):
        importing(tmp_path, "npz", IDS, ids_from="info")


def test_files_in_folders_have_the_folder_in_their_id(importing: Import, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    write_npz(tmp_path / "train" / "1.npz", **image())
    write_npz(tmp_path / "2.jpg.npz", **image(3))
    reader = FeatureReader(importing(tmp_path, "npz", ["train/1", "2.jpg"]).feature_set)
    assert [len(reader.value(row_id, "features")) for row_id in ("train/1", "2.jpg")] == [2, 3]
    assert "object_ids" not in {field.name for field in reader.fields}


def damaged_info() -> Any:
    info = np.empty((), dtype=object)
    info[()] = {"image_id": "1", "objects_id": [print]}
    return info


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (image(num_bbox=np.int64(3)), "num_bbox is 3, x has 2 rows"),
        (image(num_bbox=np.float64(2)), "expected a whole number"),
        (image(bbox=np.zeros((2, 5), np.float32)), r"boxes \(2, 5\)"),
        (image(image_w=np.int64(0)), "image of 0 x 30 pixels"),
        (image(x=np.zeros((2, 3), np.float64)), "has no place in a shard"),
        (image(x=np.array([None, None])), "holds|expected|cannot"),
        (image(info=damaged_info()), r"asks for builtins\.print"),
        (image(info=np.array("text")), "info is no dict"),
        ({"features": np.zeros((2, 3), np.float32)}, "no array x, bbox"),
    ],
    ids=range(9),
)
def test_a_file_that_contradicts_itself_is_refused_and_leaves_nothing(
    arrays: dict[str, Any], message: str, importing: Import, tmp_path: Path, cache_dir: Path
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    write_npz(folder / "0.npz", **image())
    write_npz(folder / "1.npz", **arrays)
    with pytest.raises(BadSource, match=message) as caught:
        importing(folder, "npz", ["0", "1"])
    assert "1.npz" in str(caught.value)
    assert not cache_dir.exists() or list(cache_dir.iterdir()) == []


def test_a_file_cut_short_is_refused_or_quarantined_when_asked(importing: Import, tmp_path: Path) -> None:
    for name in "01":
        write_npz(tmp_path / f"{name}.npz", **image())
    content = (tmp_path / "1.npz").read_bytes()
    (tmp_path / "1.npz").write_bytes(content[:-100])
    with pytest.raises(BadSourceRow, match=r"1\.npz: no \.npz file, or a damaged one"):
        importing(tmp_path, "npz", ["0", "1"])
    summary = importing(tmp_path, "npz", ["0", "1"], skip_broken=True)
    assert summary.statuses == {"failed": 1, "ok": 1}
    assert "damaged" in summary.failed["1"]


def test_a_member_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npz(tmp_path / "bomb.npz", x=np.zeros(10_000))
    monkeypatch.setattr(npz, "MAX_VALUE_BYTES", 10_000)
    assert (tmp_path / "bomb.npz").stat().st_size < 1000
    with pytest.raises(BadSourceRow, match=r"x\.npy unpacks to 80,128 bytes"):
        npz.read_members(tmp_path / "bomb.npz")


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(100_000))
    content = file.getvalue().replace((100_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    (tmp_path / "liar.npz").write_bytes(content)
    with pytest.raises(BadSourceRow, match="damaged"):
        npz.read_members(tmp_path / "liar.npz")


def test_a_row_that_is_not_finite_is_quarantined_and_the_rest_imported(importing: Import, tmp_path: Path) -> None:
    write_npz(tmp_path / "0.npz", **image())
    write_npz(tmp_path / "1.npz", **image(x=np.array([[1, np.nan, 1]] * 2, np.float32)))
    write_npz(tmp_path / "2.npz", **image(x=np.zeros((2, 4), np.float32)))
    write_npz(tmp_path / "3.npz", **image(info=np.array({"objects_id": np.arange(2)}, dtype=object)))
    summary = importing(tmp_path, "npz", list("0123"))
    assert summary.statuses == {"failed": 3, "ok": 1}
    assert summary.failed["1"] == "failed: features has NaN or infinity"
    assert "shape (2, 4)" in summary.failed["2"]
    assert "object_ids" in summary.failed["3"]


def test_a_conversion_is_asked_for_and_stands_in_the_recipe(importing: Import, tmp_path: Path) -> None:
    write_npz(tmp_path / "0.npz", **image(x=np.full((2, 3), 0.1), bbox=np.full((2, 4), 0.1)))
    write_npz(tmp_path / "1.npz", **image(x=np.full((2, 3), 1e6), bbox=np.full((2, 4), 0.1)))
    summary = importing(tmp_path, "npz", ["0", "1"], dtype="float16")
    reader = FeatureReader(summary.feature_set)
    np.testing.assert_array_equal(reader.value("0", "features"), np.full((2, 3), 0.1, np.float16))
    np.testing.assert_array_equal(reader.value("0", "boxes"), np.full((2, 4), 0.1, np.float32))
    assert reader.recipe["imported"]["dtype"] == "float16"
    assert summary.failed == {"1": "failed: features has NaN or infinity"}  # 1e6 is beyond float16


def test_options_of_other_formats_are_refused(itin: Path, importing: Import) -> None:
    with pytest.raises(ConfigError, match="--lengths: of no use for npz"):
        importing(itin, "npz", IDS, lengths="vision_lengths")


def test_an_empty_folder_is_refused(tmp_path: Path, importing: Import) -> None:
    with pytest.raises(BadSource, match=r"no \.npz files there"):
        importing(tmp_path, "npz", IDS)
