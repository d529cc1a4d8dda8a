"""What docs/own_pairs.md says about its example is so."""

import re
from pathlib import Path

import pytest
from PIL import Image

from sentifuse.data.labels import read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import prepare
from sentifuse.data.source import TableOptions
from sentifuse.data.splits import read_split

PAGE = (Path(__file__).parents[2] / "docs" / "own_pairs.md").read_text(encoding="utf-8")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name in ("red_shoes.jpg", "box.png", "bag.jpg"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / "photos" / name)
    found = re.search(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    assert found
    (tmp_path / "pairs.csv").write_text(found[1], encoding="utf-8")
    return tmp_path / "pairs.csv"


def test_the_example_is_read_as_the_page_says(table: Path, tmp_path: Path) -> None:
    options = TableOptions(path=table, root=tmp_path / "photos")
    card = prepare("shop", artifacts=tmp_path, reader="pairs", table=options)
    folder = tmp_path / "datasets" / "shop"
    assert (card.classes, card.rule, card.protocol) == (("angry", "calm", "happy"), "given", "given")
    assert read_split(folder, parts=("train", "val", "test")) == {
        "train": ("0001", "0002"),
        "val": ("0003",),
        "test": ("0004",),
    }
    pairs = read_manifest(folder).by_id()
    assert (pairs["0004"].image_status, pairs["0001"].image_status) == ("missing", "ok")
    assert pairs["0001"].text == "best shoes I ever had, thank you!"
    table.write_text(table.read_text(encoding="utf-8").replace("it is a bag", "it was a bag"), encoding="utf-8")
    prepare("shop", artifacts=tmp_path)
    changed = read_manifest(folder).by_id()
    assert [id_ for id_ in pairs if pairs[id_] != changed[id_]] == ["0003"]


def test_classes_fix_names_and_order(table: Path, tmp_path: Path) -> None:
    options = TableOptions(path=table, root=tmp_path / "photos", classes=("calm", "happy"))
    card = prepare("shop", artifacts=tmp_path, reader="pairs", table=options)
    assert card.classes == ("calm", "happy")
    assert card.counts["removed"] == {"unknown label word": 1}
    assert dict(zip(("0001", "0002"), read_labels(tmp_path / "datasets" / "shop").label, strict=False))["0002"] is None


def test_every_column_option_is_on_the_page() -> None:
    for name in TableOptions.__dataclass_fields__:
        if name.endswith("_column"):
            assert f"--{name.replace('_', '-')}" in PAGE
