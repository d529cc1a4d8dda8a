"""Chance is the same everywhere, for all time."""

from collections import Counter

from sentifuse.data.dice import Dice


def test_draws_of_a_seed_are_fixed() -> None:
    dice = Dice("fixed")
    assert [dice.below(100) for _ in range(5)] == [91, 52, 96, 75, 80]


def test_shuffling_keeps_every_value() -> None:
    assert sorted(Dice("a").shuffled(range(50))) == list(range(50))
    assert len(set(Dice("a").pick_some(range(50), 5))) == 5


def test_draws_stay_in_their_bounds_and_reach_all_of_them() -> None:
    dice = Dice("b")
    assert set(Counter(dice.below(3) for _ in range(100))) == {0, 1, 2}
    assert all(2 <= dice.between(2, 3) < 3 for _ in range(100))
    assert not any(dice.chance(0) for _ in range(100))
    assert all(dice.chance(1) for _ in range(100))
