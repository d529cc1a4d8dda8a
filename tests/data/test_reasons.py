"""Reasons are counted, the commonest first, equal ones by name."""

from sentifuse.data.reasons import count_reasons


def test_every_pair_is_counted_once_and_the_order_follows_from_the_counts_alone() -> None:
    left_out = {"5": "no image", "1": "unsure", "2": "no text", "3": "unsure", "4": "no image", "6": "unsure"}
    expected = [("unsure", 3), ("no image", 2), ("no text", 1)]
    assert list(count_reasons(left_out).items()) == expected
    assert list(count_reasons(dict(reversed(left_out.items()))).items()) == expected


def test_equal_counts_stand_by_name_and_nothing_gives_nothing() -> None:
    assert list(count_reasons({"1": "b", "2": "a"})) == ["a", "b"]
    assert count_reasons({}) == {}
