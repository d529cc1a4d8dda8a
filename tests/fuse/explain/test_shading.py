"""Shaded segments are the text itself, cut where weights change."""

from collections.abc import Callable

from sentifuse.fuse.explain.explanation import PairExplanation, Piece
from sentifuse.fuse.explain.shading import Segment, heaviest, shade

Make = Callable[..., PairExplanation]


def test_segments_are_the_text_with_the_weight_of_each_piece(make_explanation: Make) -> None:
    segments = shade(make_explanation(), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    assert "".join(segment.text for segment in segments if not segment.is_chip) == "so <b>happy</b>"
    assert [(segment.text, segment.weight) for segment in segments] == [
        ("[start]", 0.1),
        ("so", 0.2),
        (" ", None),
        ("<b>", 0.3),
        ("happy", 0.4),
        ("</b>", 0.5),
        ("[end]", 0.6),
    ]


def test_the_image_is_a_chip_in_front(make_explanation: Make) -> None:
    first = shade(make_explanation(), (0.0,) * 6, image=0.25)[0]
    assert first == Segment(text="[image]", weight=0.25, is_chip=True)


def test_characters_that_two_pieces_share_get_the_heavier_one(make_explanation: Make) -> None:
    pieces = (Piece(start=0, end=3, is_special=False), Piece(start=2, end=5, is_special=False))
    heavy_first = shade(make_explanation(text="abcde", pieces=pieces), (0.9, 0.1))
    heavy_last = shade(make_explanation(text="abcde", pieces=pieces), (0.1, 0.9))
    assert [segment.text for segment in heavy_first] == ["abc", "de"]
    assert [segment.text for segment in heavy_last] == ["ab", "cde"]


def test_pieces_without_characters_are_numbered(make_explanation: Make) -> None:
    pieces = tuple(Piece(start=0, end=0, is_special=False) for _ in range(2))
    segments = shade(make_explanation(text="ab", pieces=pieces), (0.4, 0.6))
    assert [segment.text for segment in segments] == ["[1]", "[2]", "ab"]


def test_the_heaviest_are_named_in_order(make_explanation: Make) -> None:
    assert heaviest(make_explanation(), (0.1, 0.0, 0.2, 0.4, 0.2, 0.1)) == "“happy” 0.40 · “<b>” 0.20 · “</b>” 0.20"
