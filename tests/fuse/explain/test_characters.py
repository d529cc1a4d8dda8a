"""Cleaned characters lead back to the text as read, whatever the cleaning did."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sentifuse.data.text import CLEANERS, clean
from sentifuse.fuse.explain.characters import piece_range, trace_characters

WORDS = st.sampled_from(
    [
        "RT",
        "@ann:",
        "@bob",
        "so",
        "so",
        "happy",
        "&amp;",
        "&lt;3",
        "http://t.co/x",
        "htt…",
        "a\x00b",
        "…",
        "#day",
        "友達",
    ]
)
TEXTS = st.one_of(
    st.lists(st.one_of(WORDS, st.text(max_size=6)), max_size=12).map(" ".join),
    st.text(max_size=40),
)


@example(text="\x1b0\x08 \x1b0\x08", mode="raw")  # no word begins or ends as its cleaned one
@example(text="x&nbsp;y \x1b \x1bz", mode="tweet")
@given(text=TEXTS, mode=st.sampled_from(CLEANERS))
def test_ranges_lie_in_the_text_and_never_go_backwards(text: str, mode: str) -> None:
    cleaned = clean(text, mode)
    traced = trace_characters(text, cleaned)
    assert len(traced) == len(cleaned)
    assert all(0 <= first <= last <= len(text) for first, last in traced)
    assert all(a <= b and c <= d for (a, c), (b, d) in pairwise(traced))


@given(words=st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta,", "x!"]), min_size=1, max_size=9))
def test_words_that_cleaning_keeps_stand_for_themselves(words: list[str]) -> None:
    text = "RT @someone: " + "  ".join(words) + " http://t.co/abc \n"
    cleaned = clean(text, "tweet")
    traced = trace_characters(text, cleaned)
    at = len("@user: ")
    for word in words:
        first, last = piece_range(traced, at, at + len(word))
        assert text[first:last] == word
        at += len(word) + 1


@pytest.mark.parametrize(
    ("text", "piece", "stands_for"),
    [
        ("RT @ann: .@bob hi", "user", "ann"),  # the first of both
        ("see @sue now", "user", "sue"),  # letters in common do not matter
        ("RT @a: What? RT if so", "What", "What"),  # not drawn to the second RT
        ("look https://t.co/x", "http", "https://t.co/x"),
        ("cut htt…", "http", "htt…"),
        ("you &amp; me", "&", "&amp;"),
        ("you &gt; me", ">", "&gt;"),
        ("wow so nice…", "nice", "nice…"),
    ],
)
def test_what_cleaning_replaced_stands_for_what_it_replaced(text: str, piece: str, stands_for: str) -> None:
    cleaned = clean(text, "tweet")
    start = cleaned.index(piece)
    first, last = piece_range(trace_characters(text, cleaned), start, start + len(piece))
    assert text[first:last] == stands_for


def test_a_special_piece_stands_for_nothing() -> None:
    assert piece_range(trace_characters("ab", "ab"), 0, 0) == (0, 0)
