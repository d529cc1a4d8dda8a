"""Pictures in a page: complete in themselves, the same bytes for the same figure, as wide as drawn."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from sentifuse.fuse.figures import draw_confusion
from sentifuse.fuse.report.picture import from_drawn, from_figure, from_photo_figure


def a_figure() -> Figure:
    figure = Figure(figsize=(5.0, 3.0))
    figure.add_subplot().plot([0, 1], [1, 0])
    return figure


def content_of(source: str) -> bytes:
    return b64decode(source.partition(",")[2])


def test_a_diagram_is_svg_with_the_same_bytes_each_time() -> None:
    first, second = (from_figure(a_figure(), alt="falls", caption="c") for _ in range(2))
    assert first == second
    assert first.source.startswith("data:image/svg+xml;base64,")
    assert b"<text" not in content_of(first.source)  # letters are paths: no font is needed
    assert first.width_px == 480


def test_a_figure_with_a_photo_is_a_jpeg_of_all_of_it() -> None:
    found = from_photo_figure(a_figure(), alt="falls", caption="c")
    with Image.open(BytesIO(content_of(found.source))) as image:
        assert image.format == "JPEG"
        assert image.size == (650, 390)


def test_what_is_drawn_into_a_file_is_embedded_at_the_size_it_was_drawn_for() -> None:
    def draw(path: Path) -> Path:
        return draw_confusion(path, [[2, 1], [0, 3]], ["no", "yes"], "")

    found = from_drawn(draw, alt="two classes", caption="c")
    with Image.open(BytesIO(content_of(found.source))) as image:
        assert image.format == "PNG"
        assert found.width_px == round(image.width * 96 / 150)
