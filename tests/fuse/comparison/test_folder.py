"""A comparison's folder appears whole, names all it holds and overwrites nothing; its pictures are large enough."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sentifuse import ConfigError, DataError
from sentifuse.fuse.comparison.folder import check_out, write_comparison
from sentifuse.fuse.comparison.pictures import draw_sweep


def test_all_files_are_there_and_the_json_is_the_document(compared: Any, tmp_path: Path) -> None:
    paths = write_comparison(tmp_path, compared.document)
    folder = paths["json"].parent
    assert {path.name for path in folder.iterdir()} == {
        *("comparison.json", "table.md", "table.csv", "table.tex", "table.png")
    }
    assert folder.parent == tmp_path / "comparisons"
    assert "-pairs-random-" in folder.name
    assert json.loads(paths["json"].read_text("utf-8")) == json.loads(json.dumps(compared.document))
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_with_files_is_not_overwritten(compared: Any, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(ConfigError, match="Name another"):
        check_out(tmp_path, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    paths = write_comparison(tmp_path, compared.document, tmp_path / "empty")
    assert paths["picture"] == tmp_path / "empty" / "table.png"


def test_a_folder_that_cannot_be_is_refused_before_any_work_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="found a file"):
        check_out(tmp_path, tmp_path / "file")
    for artifacts, out in ((tmp_path, tmp_path / "file" / "below"), (tmp_path / "file", None)):
        with pytest.raises(DataError, match="cannot be written: Not a directory"):
            check_out(artifacts, out)
    check_out(tmp_path / "new", tmp_path / "other" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_forest_grows_with_its_rows(compared: Any, tmp_path: Path) -> None:
    paths = write_comparison(tmp_path, compared.document)
    with Image.open(paths["picture"]) as image:
        width, height = image.size
    assert width >= 1000
    assert height >= 3 * 75  # half of it still has letters of ten pixels


def test_a_sweep_shows_the_papers_points(tmp_path: Path) -> None:
    curves = {"itin": [{"value": v, "mean": 0.7 + v / 100, "sd": 0.01} for v in range(3)]}
    published = {"points": [(2, 0.75)], "title": "t", "said": "s"}
    plain = draw_sweep(tmp_path / "a.png", curves, "region_count", None, "t")
    marked = draw_sweep(tmp_path / "b.png", curves, "region_count", published, "t")
    assert plain.read_bytes() != marked.read_bytes()
