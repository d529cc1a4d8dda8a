"""Bars have the explanation's own numbers and comparable lengths."""

from collections.abc import Callable

from sentifuse.fuse.explain.bars import probability_bars, quantity_bars
from sentifuse.fuse.explain.explanation import PairExplanation, Quantity, Reasons

Make = Callable[..., PairExplanation]


def test_every_voice_has_a_bar_per_class(make_explanation: Make) -> None:
    answer, text = probability_bars(make_explanation())
    assert (answer.title, text.title) == ("answer", "text alone")
    assert [bar.value for bar in answer.rows] == [0.09, 0.245, 0.665]
    assert [bar.share for bar in text.rows] == [0.2, 0.3, 0.5]
    assert [bar.title for bar in answer.rows] == ["negative (label)", "neutral", "positive"]
    assert [bar.is_most for bar in answer.rows] == [False, False, True]


def test_shares_are_of_one_and_distances_of_the_largest(make_explanation: Make) -> None:
    quantities = (
        Quantity(name="image_share", title="image share", kind="share", value=0.25),
        Quantity(name="text_weight", title="weight of the text", kind="weight", value=1.5),
        Quantity(name="image_weight", title="weight of the image", kind="weight", value=0.75),
        Quantity(name="text_cycle", title="there and back", kind="distance", value=0.125),
        Quantity(name="image_cycle", title="there and back", kind="distance", value=0.0625),
    )
    shares, weights, distances = quantity_bars(make_explanation(reasons=Reasons(quantities=quantities)))
    assert [bar.share for bar in shares.rows] == [0.25]
    assert [bar.share for bar in weights.rows] == [1.0, 0.5]
    assert [bar.share for bar in distances.rows] == [1.0, 0.5]
    assert quantity_bars(make_explanation(reasons=Reasons())) == ()
