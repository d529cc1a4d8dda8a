"""`sentifuse benchmark` as it is typed: the published table alone, and one run on twelve images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Type = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve images, seven of them positive; one is missing."""
    folder = tmp_path / "root" / "Twitter Testing Dataset I"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["path,class"]
    for i in range(12):
        pixels = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.jpg")
        lines.append(f"{i}.jpg,{int(i < 7)}")
    (folder / "images" / "8.jpg").unlink()
    (folder / "5agree.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "root"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    from sentifuse.extract.models.tiny import write_tiny

    folder = tmp_path / "artifacts" / "weights" / "tiny-crowd"
    folder.mkdir(parents=True)
    return write_tiny("crowd", 0, folder)


def test_published_numbers_need_nothing_else(type_command: Type) -> None:
    typed = type_command("benchmark", "--published")
    assert typed.code == 0
    lines = typed.out.splitlines()
    assert sum(line.startswith("3.") for line in lines) == 8
    assert "ViT_L16.h5" in typed.out
    document = type_command("benchmark", "--published", "--json").document
    assert [model["id"] for model in document["published"]["models"]] == [f"3.{k}" for k in range(1, 9)]
    assert document["published"]["models"][7]["accuracy"] == {"5agree": 0.878, "4agree": 0.848, "3agree": 0.819}


def test_a_benchmark_is_scored_and_its_answers_saved(
    type_command: Type, tmp_path: Path, root: Path, model: Path
) -> None:
    words = ["--on", "5agree", "--root", root, "--artifacts", tmp_path / "artifacts", "--device", "cpu"]
    typed = type_command("benchmark", "--model", "tiny-crowd", *words, "--json")
    assert typed.code == 0
    (entry,) = typed.document["benchmarks"]
    assert entry["statuses"] == {"missing": 1, "ok": 11}
    assert entry["scores"]["majority"] == {"class": "positive", "share": pytest.approx(7 / 11)}
    assert Path(entry["predictions"]["csv"]).is_file()
    assert "8.jpg (missing)" in typed.err
    shown = type_command("benchmark", "--model", model, *words, "--out", tmp_path / "out")
    assert shown.code == 0
    assert "measured" in shown.out
    assert "published" in shown.out
    assert (tmp_path / "out" / "table.md").is_file()


def test_a_leak_and_missing_images_of_a_protocol_are_warned_of(
    type_command: Type, tmp_path: Path, root: Path, model: Path
) -> None:
    from sentifuse.data.files import digest
    from sentifuse.extract.seen_images import SeenImage, write_seen

    images = sorted((root / "Twitter Testing Dataset I" / "images").iterdir())[:3]
    write_seen(model, [SeenImage(image_digest=digest(p.read_bytes()), id=p.stem, dataset="t4sa") for p in images])
    words = ["--on", "5agree", "--root", root, "--artifacts", tmp_path / "artifacts", "--device", "cpu", "--five-fold"]
    few = ["--set", "epochs=1", "--set", "batch_size=16"]
    typed = type_command("benchmark", "--model", "tiny-crowd", *words, *few, "--out", tmp_path / "out")
    assert typed.code == 0
    for what in ("5agree", "5agree, five folds"):
        assert f"{what}: the model was trained on 3 of its images" in typed.err
        assert f"{what}: 1 images without an answer: 8.jpg (missing)" in typed.err
    assert "5agree-fold-5: pass 1, loss" in typed.err  # it is heard while it is at work
    assert f"writing to {tmp_path / 'out'}" in typed.err.replace("\n", "")
    again = type_command("benchmark", "--model", "tiny-crowd", *words, *few, "--out", tmp_path / "out")
    assert again.code == 0
    assert "going on in" in again.err
    assert "fold-5: pass" not in again.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--on", "5agree"], 2, "--model"),
        (["--model", "x"], 2, "--root"),
        (["--published", "--on", "5agree"], 2, "--published"),
        (["--model", "x", "--root", ".", "--on", "6agree"], 2, "5agree"),
        (["--model", "x", "--root", "nowhere", "--on", "5agree"], 3, "5agree.csv"),
    ],
)
def test_mistakes_are_named(type_command: Type, tmp_path: Path, words: list[str], code: int, says: str) -> None:
    typed = type_command("benchmark", *words, "--artifacts", tmp_path / "artifacts")
    assert typed.code == code
    assert says in typed.err
