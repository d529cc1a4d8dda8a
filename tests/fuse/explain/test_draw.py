"""A figure shows the explanation's own numbers, every region where it is, and survives every text and image."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from sentifuse.fuse.embed import to_png
from sentifuse.fuse.explain.draw import DPI, IMAGE_HEIGHT, IMAGE_WIDTH, MARGIN, NO_GLYPH, WIDTH, draw
from sentifuse.fuse.explain.explain import explain_pairs
from sentifuse.fuse.explain.explanation import PairExplanation, Reasons, Weights
from sentifuse.fuse.explain.palette import COLOURS, opacity
from sentifuse.fuse.run import RunDirectory

Make = Callable[..., PairExplanation]


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def boxes_in(figure: Figure, colour: str) -> list[Rectangle]:
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle) and not patch.get_fill()]
    return [patch for patch in patches if to_hex(patch.get_edgecolor()).upper() == colour]


@pytest.mark.parametrize("head", ["itin", "ctmwa", "rnn_ca_embedding"])
def test_every_number_of_the_explanation_is_written(run_of: Callable[..., RunDirectory], head: str) -> None:
    (found,) = explain_pairs(run_of(head), ["p3"])
    said = " ".join(words_of(draw(found)))
    expected = [f"{value:.3f}" for value in found.probabilities]
    expected += [f"{one.value:.3f}" for one in found.reasons.quantities]
    expected += [f"{one.title} {value:.2f}" for one in found.reasons.region_weights for value in one.values]
    assert [number for number in expected if number not in said] == []


def test_regions_are_outlined_in_their_colour_where_they_are(make_explanation: Make, tmp_path: Path) -> None:
    file = tmp_path / "wide.png"
    Image.new("RGB", (400, 100), "white").save(file)
    explanation = make_explanation(image_file=file, image_problem="")
    figure = draw(explanation)
    height = IMAGE_WIDTH / 4
    (image,) = figure.axes[0].images
    left, right, bottom, top = image.get_extent()
    assert (right - left, bottom - top) == pytest.approx((IMAGE_WIDTH, height))
    for region, colour in zip(explanation.regions, COLOURS, strict=False):
        (box,) = boxes_in(figure, colour)
        x1, y1, x2, y2 = region.box
        assert (box.get_x(), box.get_y()) == pytest.approx((MARGIN + x1 * IMAGE_WIDTH, top + y1 * height))
        assert (box.get_width(), box.get_height()) == pytest.approx(((x2 - x1) * IMAGE_WIDTH, (y2 - y1) * height))


def test_shades_are_in_proportion_to_the_weights(make_explanation: Make) -> None:
    explanation = make_explanation(reasons=Reasons(words=make_explanation().reasons.words))
    shades = {
        round(patch.get_alpha(), 9) for patch in draw(explanation).axes[0].patches if patch.get_alpha() is not None
    }
    (weights,) = explanation.reasons.words
    assert shades == {round(opacity(value, 2 / 6), 9) for value in weights.values}


def test_nothing_is_smaller_than_eleven_points_and_all_lies_on_the_page(make_explanation: Make) -> None:
    figure = draw(make_explanation(text="so <b>happy</b> " + "and more words " * 80))
    width, height = figure.get_size_inches()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for text in figure.axes[0].texts:
        assert text.get_fontsize() >= 11
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.x1 <= width * DPI + 1
        assert box.y0 >= 0
        assert box.y1 <= height * DPI + 1
    assert width == WIDTH
    assert height < 13  # a long text is cut, and that is said
    assert any("more characters in page and JSON" in word for word in words_of(figure))


@pytest.mark.parametrize("text", ["costs $5 and $6_x^", "友達 \U0001f984 \ud800", "", "\n\n", "x" * 900, "مرحبا hello"])
def test_any_text_can_be_drawn(make_explanation: Make, text: str) -> None:
    figure = draw(make_explanation(text=text))
    assert Image.open(BytesIO(to_png(figure))).width == WIDTH * DPI
    assert (NO_GLYPH in " ".join(words_of(figure))) == ("友" in text)


@pytest.mark.parametrize("size", [(40, 3000), (3000, 8), (1, 1)])
def test_any_shape_of_image_can_be_drawn(make_explanation: Make, tmp_path: Path, size: tuple[int, int]) -> None:
    file = tmp_path / "odd.png"
    Image.new("RGB", size, "red").save(file)
    figure = draw(make_explanation(image_file=file, image_problem=""))
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    assert right - left <= IMAGE_WIDTH
    assert bottom - top <= IMAGE_HEIGHT


def test_without_an_image_the_reason_stands_in_its_place(make_explanation: Make, tmp_path: Path) -> None:
    figure = draw(make_explanation())
    assert "image missing" in words_of(figure)
    assert not figure.axes[0].images
    assert boxes_in(figure, COLOURS[0])  # where the regions were is known all the same
    gone = draw(make_explanation(image_file=tmp_path / "gone.png", image_problem=""))
    assert "the image file is gone" in words_of(gone)


def test_the_image_has_a_frame_as_dark_as_its_weight(make_explanation: Make) -> None:
    weights = Weights(name="attention", title="attention", over="both", values=(0.3, 0.1, 0.6, 0.0, 0.0, 0.0, 0.0))
    figure = draw(make_explanation(reasons=Reasons(words=(weights,))))
    (frame,) = boxes_in(figure, COLOURS[0])
    assert frame.get_alpha() == pytest.approx(0.5)
    assert "image 0.30" in words_of(figure)


def test_the_same_explanation_gives_the_same_bytes(make_explanation: Make) -> None:
    first = to_png(draw(make_explanation()))
    assert first == to_png(draw(make_explanation()))
    assert np.asarray(Image.open(BytesIO(first)).convert("L")).std() > 5  # something is on it
