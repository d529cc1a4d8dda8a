"""Benchmark folders in the original's layout: both codings, a status for every bad file, no row lost or guessed."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from sentifuse import ConfigError, DataError
from sentifuse.data.benchmarks import BENCHMARKS, FI_SPLITS, fi_part, read_benchmark
from sentifuse.data.images import REASONS

TWITTER = "Twitter Testing Dataset I"


def write(root: Path, folder: str, list_name: str, rows: Mapping[str, str], *, header: str = "path,class") -> Path:
    path = root / folder / list_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in (header, *(f"{name},{code}" for name, code in rows.items()))))
    for number, name in enumerate(rows):
        image = root / folder / "images" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 6), (number, 90, 40)).save(image, "PNG" if name.endswith("png") else "JPEG")
    return path


def test_images_labels_and_paths_are_those_of_the_list_in_its_order(tmp_path: Path) -> None:
    rows = {"92_46-a.jpg": "1", "11_b.png": "0", "30_c.jpg": "1", "04_d.jpg": "0"}
    path = write(tmp_path, TWITTER, "5agree.csv", rows)
    found = read_benchmark(tmp_path, "5agree")
    assert found.paths == tuple(rows)
    assert found.images == tuple(tmp_path / TWITTER / "images" / name for name in rows)
    assert found.is_positive.dtype == bool
    assert found.is_positive.tolist() == [True, False, True, False]
    assert (found.name, found.source, len(found), found.published_count) == ("5agree", path, 4, 882)
    assert found.problems == ()


def test_two_is_positive_in_fi_and_its_splits_share_its_images(tmp_path: Path) -> None:
    rows = {"awe/awe_1.jpg": "2", "fear/fear_1.jpg": "0"}
    for part in ("train", "val", "test"):
        write(tmp_path, "FI", f"split_4/FI_{part}.csv", rows if part == "val" else dict(reversed(rows.items())))
    write(tmp_path, "FI", "FI_complete.csv", rows)
    complete = read_benchmark(tmp_path, "FI_complete")
    assert complete.is_positive.tolist() == [True, False]
    val, test = (read_benchmark(tmp_path, fi_part(4, part)) for part in ("val", "test"))
    assert val.images == complete.images
    assert (test.paths, test.is_positive.tolist()) == (tuple(reversed(rows)), [False, True])
    assert (complete.published_count, val.published_count) == (23308, None)


def test_names_and_counts_are_the_originals() -> None:
    names = ("3agree", "4agree", "5agree", "twitter_testing_2", "FI_complete", "emotion_ROI_test")
    published = {name: BENCHMARKS[name].published for name in names}
    sizes = {name: sum(pair) for name, pair in published.items() if pair}
    assert sizes == dict(zip(names, (1269, 1116, 882, 603, 23308, 594), strict=True))
    majorities = {name: round(100 * max(pair) / sum(pair), 1) for name, pair in published.items() if pair}
    assert list(majorities.values()) == [60.6, 61.7, 65.9, 77.9, 70.5, 66.7]
    roi = [BENCHMARKS[f"emotion_ROI_{part}"].published or (0, 0) for part in ("train", "test", "complete")]
    assert (roi[0][0] + roi[1][0], roi[0][1] + roi[1][1]) == roi[2]
    assert sum(name.startswith("FI_split_") for name in BENCHMARKS) == 3 * len(FI_SPLITS) == 15


def test_every_bad_file_has_a_status_and_none_is_lost(tmp_path: Path) -> None:
    names = ("good.jpg", "page.jpg", "empty.jpg", "gone.jpg", "text.jpg", "folder.jpg", "fine.png")
    write(tmp_path, TWITTER, "3agree.csv", dict.fromkeys(names, "1"))
    images = tmp_path / TWITTER / "images"
    (images / "page.jpg").write_bytes(b"\n<!DOCTYPE html><html>Page not found</html>")
    (images / "empty.jpg").write_bytes(b"")
    (images / "gone.jpg").unlink()
    (images / "text.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    (images / "folder.jpg").unlink()
    (images / "folder.jpg").mkdir()
    found = read_benchmark(tmp_path, "3agree")
    assert found.paths == names
    assert found.is_positive.all()
    assert {names[row]: status for row, (status, _) in found.statuses.items()} == {
        "page.jpg": "not an image",
        "empty.jpg": "empty file",
        "gone.jpg": "missing",
        "text.jpg": "not an image",
        "folder.jpg": "cannot be read",
    }
    assert {status for status, _ in found.statuses.values()} <= set(REASONS)
    whats = {problem.id: problem.what for problem in found.problems}
    assert whats["page.jpg"] == "not an image (a web page or another marked-up text)"
    assert whats["gone.jpg"] == "missing"
    assert all(problem.is_failure and problem.where == "3agree.csv" for problem in found.problems)


@pytest.mark.parametrize(
    ("name", "list_name", "codes", "found"),
    [
        ("5agree", "5agree.csv", ("0", "1", "2"), "'2'"),
        ("5agree", "5agree.csv", ("0", "1", "1.0"), r"'1\.0'"),
        ("5agree", "5agree.csv", ("0", "1", ""), "''"),
        ("FI_complete", "FI_complete.csv", ("2", "0", "1"), "'1'"),
        ("FI_complete", "FI_complete.csv", ("2", "0", "positive"), "'positive'"),
    ],
)
def test_a_class_of_no_code_stops_with_file_and_line(
    tmp_path: Path, name: str, list_name: str, codes: tuple[str, ...], found: str
) -> None:
    write(tmp_path, BENCHMARKS[name].folder, list_name, {f"{n}.jpg": code for n, code in enumerate(codes)})
    with pytest.raises(DataError, match=rf"{list_name} line 4: expected a class of this list's codes \(0 neg.*{found}"):
        read_benchmark(tmp_path, name)


@pytest.mark.parametrize("row", ["../secret.jpg,1", "/etc/passwd,1", ",1", "a.jpg", "a.jpg,1,0"])
def test_a_row_without_a_path_below_the_images_stops_with_its_line(tmp_path: Path, row: str) -> None:
    path = write(tmp_path, TWITTER, "5agree.csv", {"b.jpg": "1"})
    path.write_text(f"path,class\nb.jpg,1\n{row}\n")
    with pytest.raises(DataError, match=r"5agree\.csv line 3: expected a path below images"):
        read_benchmark(tmp_path, "5agree")


def test_a_path_on_two_lines_stops_with_both(tmp_path: Path) -> None:
    path = write(tmp_path, TWITTER, "5agree.csv", {"b.jpg": "1"})
    path.write_text("path,class\nb.jpg,1\nb.jpg,0\n")
    with pytest.raises(DataError, match=r"line 3: expected every path once, found b\.jpg at line 2 too"):
        read_benchmark(tmp_path, "5agree")


@pytest.mark.parametrize(
    "content", [b"", b"path,class\n", b"class,path\n1,b.jpg\n", b"<html>\n", b"path,class\n\xff,1\n"]
)
def test_a_list_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, TWITTER, "5agree.csv", {"b.jpg": "1"}).write_bytes(content)
    with pytest.raises(DataError, match=r"5agree\.csv: expected .*et (it|the list) anew"):
        read_benchmark(tmp_path, "5agree")


@pytest.mark.parametrize("above", ["", "benchmark", "dataset/benchmark"])
def test_root_may_be_the_benchmarks_or_what_holds_them(tmp_path: Path, above: str) -> None:
    write(tmp_path / above, "EmotionROI", "emotion_ROI_test.csv", {"joy/1.jpg": "1"})
    assert read_benchmark(tmp_path, "emotion_ROI_test").paths == ("joy/1.jpg",)
    assert len(read_benchmark(tmp_path / above / "EmotionROI", "emotion_ROI_test")) == 1


def test_unknown_names_and_missing_folders_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean '5agree'"):
        read_benchmark(tmp_path, "5agre")
    with pytest.raises(DataError, match=r"expected 'EmotionROI/emotion_ROI_test\.csv' and 'EmotionROI/images'"):
        read_benchmark(tmp_path, "emotion_ROI_test")
    path = tmp_path / TWITTER / "4agree.csv"
    path.parent.mkdir()
    path.write_text("path,class\nb.jpg,1\n")
    with pytest.raises(DataError, match=r"expected a folder images beside 4agree\.csv"):
        read_benchmark(tmp_path, "4agree")
