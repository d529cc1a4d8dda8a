"""Lines of shaded text: one per region in colour, one per row of weights; none of what a head does not say."""

from collections.abc import Callable
from dataclasses import replace

from sentifuse.fuse.explain.explanation import PairExplanation, Reasons, Region, Weights
from sentifuse.fuse.explain.lines import has_regions, plain_text, shaded_lines, shown_regions, which_regions
from sentifuse.fuse.explain.palette import COLOURS, PLAIN

Make = Callable[..., PairExplanation]


def many_regions(
    explanation: PairExplanation, values: tuple[float, ...], name: str = "pool_weights"
) -> PairExplanation:
    regions = tuple(Region(number=i + 1, box=(0.0, 0.0, 0.5, 0.5)) for i in range(len(values)))
    weights = (Weights(name=name, title="weight", over="regions", values=values),)
    return replace(explanation, regions=regions, reasons=Reasons(region_weights=weights))


def test_regions_with_the_largest_weights_are_in_colour_by_number(make_explanation: Make) -> None:
    explanation = many_regions(make_explanation(), (0.1, 0.3, 0.05, 0.2, 0.25, 0.1))
    assert [region.number for region in shown_regions(explanation)] == [1, 2, 4, 5]
    assert which_regions(explanation).startswith("In colour: 4 of 6 regions (the largest weights)")


def test_a_gate_alone_ranks_nothing(make_explanation: Make) -> None:
    explanation = many_regions(make_explanation(), (0.1, 0.2, 0.3, 0.4, 0.9), name="gate")
    assert [region.number for region in shown_regions(explanation)] == [1, 2, 3, 4]
    assert "the first as stored" in which_regions(explanation)


def test_every_line_has_its_colour_numbers_and_scale(make_explanation: Make) -> None:
    first, second, words = shaded_lines(make_explanation())
    assert (first.colour, second.colour, words.colour) == (*COLOURS[:2], PLAIN)
    assert first.heading == "region 1 · gate 0.25 · weight 0.90"
    assert (first.tag, second.tag, words.tag) == ("1", "2", "")
    assert first.largest == second.largest == 0.09  # one scale for all regions
    assert first.scale == "largest 0.09, even 0.17"
    assert first.full == 2 / 6  # nothing here is preferred
    assert first.about.startswith("[end] 0.06 · “</b>” 0.05 · “happy” 0.04")
    assert first.about.endswith("0.79 on no word")


def test_without_an_alignment_regions_have_numbers_and_no_text(make_explanation: Make) -> None:
    explanation = many_regions(make_explanation(), (0.4, 0.6))
    assert [line.segments for line in shaded_lines(explanation)] == [(), ()]
    assert "".join(segment.text for segment in plain_text(explanation)) == "so <b>happy</b>"


def test_a_head_silent_about_regions_has_none_in_colour(make_explanation: Make) -> None:
    explanation = make_explanation(reasons=Reasons())
    assert not has_regions(explanation)
    assert which_regions(explanation) == ""
    assert shaded_lines(explanation) == ()
    assert plain_text(make_explanation(text=None, pieces=())) == ()
