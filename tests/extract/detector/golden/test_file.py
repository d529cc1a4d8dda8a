"""Files that are not what they should be are refused with a reason, whoever made them."""

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sentifuse import DataError
from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.golden import file as golden_file
from sentifuse.extract.detector.golden.file import array_names, read_arrays, read_golden

Values = dict[str, Any]


@pytest.fixture
def values(golden_files: dict[int, Path]) -> Values:
    return dict(read_arrays(golden_files[104]))


@pytest.fixture
def put(golden_files: dict[int, Path], tmp_path: Path) -> Callable[[Values], Path]:
    """Writes arrays as a golden file with the image beside it."""

    def write(arrays: Values) -> Path:
        shutil.copy(golden_files[104].with_name("noise_100x12.png"), tmp_path)
        np.savez(tmp_path / "golden.npz", **arrays)
        return tmp_path / "golden.npz"

    return write


def test_a_whole_file_is_read_with_its_companion(
    values: Values, put: Callable[[Values], Path], small: Architecture
) -> None:
    file = put(values)
    features = np.ones((2, small.feature_width), dtype=np.float32)
    np.savez(file.with_name("golden_feats.npz"), rows=np.array([0, 5], dtype=np.int16), feat=features)
    golden = read_golden(file, sizes=small)
    assert golden.seed == 104
    assert golden.open_image().size == (100, 12)
    assert golden.features is not None
    assert golden.features.shape == features.shape
    assert array_names(file) == set(values)


def without(values: Values, name: str) -> Values:
    return {key: value for key, value in values.items() if key != name}


BAD: dict[str, tuple[Callable[[Values], Values], str]] = {
    "a field missing": (lambda v: without(v, "prop_box"), "1 field .* missing: prop_box. Made by another tool, or cut"),
    "many fields missing": (
        lambda v: {"prop_anchor": v["prop_anchor"]},
        r"image, seed, .*, … and \d+ more\. Made by another tool",
    ),
    "text in place of numbers": (lambda v: {**v, "prop_box": np.array(["a"])}, "prop_box has dtype"),
    "another shape": (lambda v: {**v, "prop_box": v["prop_box"][:, :3]}, r"prop_box has .* \(300, 3\), expected 300×4"),
    "fewer values than places": (lambda v: {**v, "val_stem": v["val_stem"][:5]}, "val_stem has shape"),
    "a place outside its map": (lambda v: {**v, "at_res4": v["at_res4"] + 5000}, "at_res4 has a place outside the map"),
    "a negative place": (lambda v: {**v, "at_res4": -v["at_res4"] - 1}, "at_res4 has -"),
    "a place outside the crops": (lambda v: {**v, "at_roi": v["at_roi"] + 99}, "at_roi has a place outside"),
    "a row that is not there": (lambda v: {**v, "f36_row": v["f36_row"] + 300}, "f36_row has .* below 300"),
    "a class that is not there": (lambda v: {**v, "top5_id": v["top5_id"] + 12}, "top5_id has .* below 12"),
    "not a number": (lambda v: {**v, "bg_p": np.full(300, np.nan)}, "bg_p has values that are not finite"),
    "flags as numbers": (lambda v: {**v, "prop_in_stable": np.ones(300)}, "prop_in_stable has dtype float64"),
    "a seed below zero": (lambda v: {**v, "seed": np.array(-1)}, "seed has -1"),
    "two seeds": (lambda v: {**v, "seed": np.array([1, 2])}, "seed has shape"),
    "an image in another folder": (lambda v: {**v, "image": np.array("../../etc/passwd")}, "without folders"),
    "no image": (lambda v: {**v, "image": np.array("")}, "without folders"),
    "another network": (
        lambda v: {**v, "stat_res4": np.array([1024, *v["stat_res4"][1:]])}, "stat_res4 .* expected 32 channels"
    ),
    "features of another width": (lambda v: {**v, "f36_feat": np.ones((36, 2048))}, "f36_feat has shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused_with_field_and_expectation(
    name: str, values: Values, put: Callable[[Values], Path], small: Architecture
) -> None:
    change, message = BAD[name]
    file = put(change(values))
    with pytest.raises(DataError, match=message) as raised:
        read_golden(file, sizes=small)
    assert str(file) in str(raised.value)


def test_no_such_file_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(DataError, match=r"no such file|is a folder; name golden files in it"):
            read_arrays(path)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 begins like one"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"is no \.npz file"):
        read_arrays(file)


def test_a_file_torn_anywhere_is_refused(golden_files: dict[int, Path], tmp_path: Path) -> None:
    whole = golden_files[104].read_bytes()
    file = tmp_path / "torn.npz"
    for size in range(0, len(whole), len(whole) // 40):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError, match="Copy it again"):
            read_arrays(file)


def test_a_damaged_byte_is_refused_or_changes_nothing(
    golden_files: dict[int, Path], small: Architecture, tmp_path: Path, values: Values
) -> None:
    whole = golden_files[104].read_bytes()
    shutil.copy(golden_files[104].with_name("noise_100x12.png"), tmp_path)
    file = tmp_path / "damaged.npz"
    refused = 0
    for place in range(0, len(whole), len(whole) // 60):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            golden = read_golden(file, sizes=small)
        except DataError:
            refused += 1
            continue
        assert all(np.array_equal(golden.values[name], value) for name, value in values.items())
    assert refused > 40


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array(["x"], dtype=object), allow_pickle=True)
    buffer.write(pickle.dumps(Runs()))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("prop_anchor.npy", buffer.getvalue())
    with pytest.raises(DataError, match="is damaged"):
        read_arrays(tmp_path / "x.npz")
    assert not (tmp_path / "ran").exists()


def test_an_archive_that_unpacks_to_much_is_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_file, "MAX_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((1 << 20) + 1, dtype=np.uint8))
    assert (tmp_path / "x.npz").stat().st_size < 1 << 14
    with pytest.raises(DataError, match="bytes unpacked"):
        read_arrays(tmp_path / "x.npz")


def test_an_array_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 45,)}
    np.lib.format.write_array_header_1_0(buffer, header)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", buffer.getvalue() + bytes(64))
    with pytest.raises(DataError, match="is damaged"):
        read_arrays(tmp_path / "x.npz")


def test_the_image_must_be_there_and_of_the_right_size(
    values: Values, put: Callable[[Values], Path], small: Architecture
) -> None:
    golden = read_golden(put(values), sizes=small)
    Image.new("RGB", (50, 12)).save(golden.image)
    with pytest.raises(DataError, match="is 50x12, the numbers are of one of 100x12"):
        golden.open_image()
    golden.image.write_bytes(b"no image")
    with pytest.raises(DataError, match="not an image"):
        golden.open_image()
    golden.image.unlink()
    with pytest.raises(DataError, match="--images DIR"):
        golden.open_image()


@pytest.mark.parametrize(
    ("rows", "width", "message"), [([0, 300], 64, "rows has 300"), ([0], 64, "feat has shape"), ([0, 1], 32, "feat")]
)
def test_a_companion_is_checked_too(
    rows: list[int], width: int, message: str, values: Values, put: Callable[[Values], Path], small: Architecture
) -> None:
    file = put(values)
    np.savez(file.with_name("golden_feats.npz"), rows=np.array(rows), feat=np.ones((2, width), dtype=np.float32))
    with pytest.raises(DataError, match=message):
        read_golden(file, sizes=small)
