"""Chance that is the same on every machine and every Python: all draws come from `random.Random.random` alone.

Python promises to keep that one sequence; `choice`, `shuffle` and the like may change. Not for statistics.
"""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of draws that depends on `seed` only.

    >>> Dice("sample:1").pick(["a", "b", "c"]) == Dice("sample:1").pick(["a", "b", "c"])
    True
    """

    def __init__(self, seed: str) -> None:
        self._random = Random(seed).random  # a string is hashed by SHA-512, not by the interpreter's salted hash

    def below(self, count: int) -> int:
        """A whole number from 0 to `count` - 1."""
        return int(self._random() * count)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]

    def pick_some(self, values: Sequence[T], count: int) -> list[T]:
        """`count` different places of `values`, in random order."""
        return self.shuffled(values)[:count]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """All values in random order."""
        rest = list(values)
        return [rest.pop(self.below(len(rest))) for _ in range(len(rest))]
