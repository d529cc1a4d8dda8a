"""Bootstrap resamples of pairs or of groups of pairs, without drawing a single pair.

Every number here is a function of counts: how many pairs of each true class were given each predicted class. Units
(pairs, or groups of them) with equal counts cannot be told apart, so a resample of n units with replacement is one
draw from a multinomial distribution over the kinds of unit: exactly the bootstrap's own, at a cost that grows with the
kinds and not with the pairs. Knows counts and random numbers; what an interval or a test is stands in `statistics`
and `paired`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Shapes: N pairs, C cells (a cell: true class, predicted class of every head), T kinds of unit, R resamples, K classes.

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Measure = Callable[[FloatArray], FloatArray]  # confusion matrices (..., K, K) -> (...)

CHUNK_NUMBERS = 2_000_000  # of a block of resamples at a time: 16 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """What is resampled: kinds of unit, and how many units there are of each."""

    cells: FloatArray  # (T, C) pairs of a unit of this kind in each cell
    counts: IntArray  # (T,)

    @property
    def n(self) -> int:
        """The number of units."""
        return int(self.counts.sum())

    @property
    def total(self) -> FloatArray:
        """(C,) pairs in each cell."""
        total: FloatArray = self.counts @ self.cells
        return total

    def resamples(self, count: int, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Blocks (r, C) of pairs per cell, `count` rows in all; each row is n units drawn with replacement."""
        yield from self._blocks(count, lambda r: rng.multinomial(self.n, self.counts / self.n, size=r))

    def flips(self, count: int, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Blocks (r, C): every unit is kept or left out by the toss of a coin."""
        yield from self._blocks(count, lambda r: rng.binomial(self.counts, 0.5, size=(r, len(self.counts))))

    def _blocks(self, count: int, draw: Callable[[int], IntArray]) -> Iterator[FloatArray]:
        size = max(1, CHUNK_NUMBERS // max(self.cells.shape))
        for start in range(0, count, size):
            yield draw(min(size, count - start)).astype(np.float64) @ self.cells  # whole numbers: exact in any order

    def leave_one_out(self) -> FloatArray:
        """(T, C) the pairs that are left when one unit of each kind is taken away."""
        left: FloatArray = self.total - self.cells
        return left


def sort_units(cells: IntArray, cell_count: int, groups: Sequence[str] | None = None) -> Units:
    """The kinds of unit among N pairs.

    Parameters
    ----------
    cells
        (N,) the cell that each pair is in, below `cell_count`; N ≥ 1.
    groups
        (N,) the group of each pair; None: every pair is a unit of its own.
    """
    if not len(cells):
        raise ValueError("expected at least one pair, found none")
    if groups is None:
        return _single_units(cells, cell_count)
    if len(groups) != len(cells):
        raise ValueError(f"expected one group per pair: {len(cells)} pairs, found {len(groups)} groups")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    group_of = np.array([numbers[name] for name in groups])
    sizes = np.bincount(group_of)
    is_single = sizes[group_of] == 1
    if is_single.all():
        return _single_units(cells, cell_count)
    large = np.flatnonzero(sizes > 1)
    row_of = np.zeros(len(sizes), dtype=np.int64)
    row_of[large] = np.arange(len(large))
    table = np.zeros((len(large), cell_count), dtype=np.int32)
    np.add.at(table, (row_of[group_of[~is_single]], cells[~is_single]), 1)
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    if not is_single.any():
        return Units(cells=kinds.astype(np.float64), counts=counts.astype(np.int64))
    singles = _single_units(cells[is_single], cell_count)
    return Units(
        cells=np.concatenate([singles.cells, kinds.astype(np.float64)]),
        counts=np.concatenate([singles.counts, counts.astype(np.int64)]),
    )


def measure_resamples(units: Units, count: int, seed: int, measure: Measure) -> FloatArray:
    """(R,) a measure of the cells of `count` resamples; `measure` takes (r, C) and gives (r,)."""
    rng = np.random.default_rng(seed)
    return np.concatenate([measure(block) for block in units.resamples(count, rng)])


def accuracy(confusion: FloatArray) -> FloatArray:
    """Share of the pairs on the diagonal."""
    right: FloatArray = np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum((-2, -1))
    return right


def f1_macro(confusion: FloatArray) -> FloatArray:
    """Mean F1 of the classes that occur among the labels or the predictions."""
    f1, _, occurs = _f1(confusion)
    mean: FloatArray = f1.sum(-1) / occurs.sum(-1)
    return mean


def f1_weighted(confusion: FloatArray) -> FloatArray:
    """Mean F1 of the classes, weighted by their true pairs."""
    f1, true, _ = _f1(confusion)
    mean: FloatArray = (f1 * true).sum(-1) / true.sum(-1)
    return mean


def balanced_accuracy(confusion: FloatArray) -> FloatArray:
    """Mean recall of the classes that occur among the labels."""
    true = confusion.sum(-1)
    recall = np.diagonal(confusion, axis1=-2, axis2=-1) / np.maximum(true, 1)
    mean: FloatArray = recall.sum(-1) / (true > 0).sum(-1)
    return mean


MEASURES: dict[str, Measure] = {
    "accuracy": accuracy,
    "f1_weighted": f1_weighted,
    "f1_macro": f1_macro,
    "balanced_accuracy": balanced_accuracy,
}


TITLES = {  # what a person calls them
    "accuracy": "accuracy",
    "f1_weighted": "weighted F1",
    "f1_macro": "macro F1",
    "balanced_accuracy": "balanced accuracy",
}


def _f1(confusion: FloatArray) -> tuple[FloatArray, FloatArray, Any]:
    """(..., K) F1, true pairs, and whether the class occurs; F1 = 2 right / (true + said), 0 for nothing."""
    true, said = confusion.sum(-1), confusion.sum(-2)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return 2 * right / np.maximum(true + said, 1), true, true + said > 0


def _single_units(cells: IntArray, cell_count: int) -> Units:
    counts = np.bincount(cells, minlength=cell_count)
    occupied = np.flatnonzero(counts)
    return Units(cells=np.eye(cell_count)[occupied], counts=counts[occupied].astype(np.int64))
