"""Set text fits its lines and loses nothing."""

from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sentifuse.fuse.explain.shading import Segment
from sentifuse.fuse.explain.typeset import FONT, UNKNOWN, drawable, measure, typeset, wrap

SEGMENTS = st.lists(
    st.builds(
        Segment,
        text=st.text(alphabet="ab 友\n$@", max_size=30),
        weight=st.one_of(st.none(), st.floats(0, 1)),
        is_chip=st.booleans(),
    ),
    max_size=8,
)


@given(segments=SEGMENTS, width=st.floats(0.5, 6.0))
def test_no_sign_is_lost_and_no_line_is_too_long(segments: list[Segment], width: float) -> None:
    placed, left_out = typeset(segments, width=width, points=13.0, most_lines=10_000)
    assert left_out == 0
    signs = "".join(one.text for one in placed).replace(" ", "")
    assert signs == "".join(drawable(segment.text) for segment in segments).replace(" ", "")
    assert all(one.left + one.width <= width + 1e-6 for one in placed)


def test_what_does_not_fit_is_counted() -> None:
    placed, left_out = typeset([Segment(text="a" * 200, weight=0.1)], width=1.0, points=13.0, most_lines=3)
    assert max(one.line for one in placed) == 2
    assert left_out == 200 - sum(len(one.text) for one in placed) > 0


def test_widths_are_those_of_the_drawn_letters() -> None:
    text = "such a lovely day @ 100%"
    figure = Figure(figsize=(10, 2), dpi=100)
    drawn = figure.text(0.0, 0.5, text, fontsize=13, family=FONT, parse_math=False)
    box = drawn.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert abs(box.width / 100 - measure(text, 13.0)) < 0.06


def test_signs_that_the_font_lacks_become_boxes_and_every_blank_a_blank() -> None:
    assert drawable("a友b\n\tc\x07é") == f"a{UNKNOWN}b  c é"


def test_a_sentence_is_wrapped_at_blanks() -> None:
    lines = wrap("one two three four five six", width=0.9, points=13.0)
    assert len(lines) > 1
    assert " ".join(line.strip() for line in lines) == "one two three four five six"
