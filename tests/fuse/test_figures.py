"""Pictures are drawn without a display, for any number of classes, and carry every count."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from sentifuse.fuse.figures import draw_confusion


@pytest.mark.parametrize("k", [2, 3, 7])
def test_a_confusion_matrix_is_a_picture(tmp_path: Path, k: int) -> None:
    counts = [[10 * row + column for column in range(k)] for row in range(k)]
    path = draw_confusion(tmp_path / "confusion.png", counts, [f"class {i}" for i in range(k)], "a title")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) >= 500
        assert len(picture.convert("L").getcolors(1 << 16)) > 10


def test_each_cell_says_count_and_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    add = Figure.add_subplot

    def watch(self: Figure) -> object:
        figures.append(self)
        return add(self)

    monkeypatch.setattr(Figure, "add_subplot", watch)
    draw_confusion(tmp_path / "c.png", [[3, 1], [0, 0]], ["no", "yes"], "title")
    texts = [text.get_text() for text in figures[0].axes[0].texts]
    assert texts == ["3\n75%", "1\n25%", "0\n0%", "0\n0%"]
    assert [label.get_text() for label in figures[0].axes[0].get_yticklabels()] == ["no\n(4)", "yes\n(0)"]
