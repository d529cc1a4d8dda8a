"""Thumbnails and texts of single pairs: whole, small, and a reason wherever there is none."""

from base64 import b64decode
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from PIL import Image

from sentifuse.data.manifest import Manifest, Pair
from sentifuse.fuse.report.examples import MOST_CHARACTERS, _thumbnail, show_pairs
from sentifuse.fuse.report.recorded import read_recorded
from sentifuse.fuse.run import RunDirectory

PAIR = Pair(
    id="p", image_path="p.png", text="", text_encoding="utf-8", image_digest="", text_digest="", image_status="ok",
    text_status="ok",
)  # fmt: skip


def test_a_thumbnail_is_small_and_of_the_file_that_was_read(tmp_path: Path) -> None:
    Image.new("RGB", (900, 600), "green").save(tmp_path / "p.png")
    pair = replace(PAIR, image_digest=sha256((tmp_path / "p.png").read_bytes()).hexdigest())
    source, problem = _thumbnail(Manifest(tmp_path, (pair,)), pair)
    assert problem == ""
    with Image.open(BytesIO(b64decode(str(source).partition(",")[2]))) as image:
        assert image.size == (300, 200)


def test_an_image_that_cannot_be_shown_has_its_reason(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, (PAIR,))
    assert _thumbnail(manifest, PAIR) == (None, "the image file is gone")
    (tmp_path / "p.png").write_bytes(b"no image")
    assert _thumbnail(manifest, PAIR) == (None, "the image file is not an image")
    assert _thumbnail(manifest, replace(PAIR, image_status="missing")) == (None, "image missing")
    assert _thumbnail(manifest, replace(PAIR, image_path="")) == (None, "the dataset names no image")
    (tmp_path / "p.png").unlink()
    (tmp_path / "p.png").mkdir()
    assert _thumbnail(manifest, PAIR) == (None, "the image file cannot be read: Is a directory")


def test_an_image_that_has_changed_is_shown_and_said(tmp_path: Path) -> None:
    Image.new("RGB", (30, 30)).save(tmp_path / "p.png")
    source, problem = _thumbnail(Manifest(tmp_path, (PAIR,)), PAIR)
    assert source is not None
    assert "has changed" in problem


def test_text_label_and_probabilities_are_the_pairs_own(odd_run: RunDirectory) -> None:
    recorded = read_recorded(odd_run, "test")
    ids = recorded.predictions.ids[:3]
    for row, (id_, found) in enumerate(zip(ids, show_pairs(recorded, ids), strict=True)):
        assert found.text == recorded.manifest.by_id()[id_].text
        assert found.label == recorded.labels.by_id()[id_]
        assert [p for _, p in found.probabilities] == recorded.predictions.probabilities[row].tolist()
        assert found.confidence == max(recorded.predictions.probabilities[row])
        assert "image alone positive" in found.modalities


def test_a_long_text_is_cut_and_said(odd_run: RunDirectory) -> None:
    recorded = read_recorded(odd_run, "test")
    first = recorded.predictions.ids[0]
    pairs = tuple(
        replace(pair, text="ü" * (MOST_CHARACTERS + 7)) if pair.id == first else pair
        for pair in recorded.manifest.pairs
    )
    recorded = replace(recorded, manifest=Manifest(recorded.manifest.root, pairs))
    (found,) = show_pairs(recorded, (first,))
    assert found.text == "ü" * MOST_CHARACTERS
    assert found.cut == 7
