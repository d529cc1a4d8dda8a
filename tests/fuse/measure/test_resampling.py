"""Resamples of kinds of unit are resamples of units; measures of counts are those of scikit-learn."""

import tracemalloc

import numpy as np
import pytest

from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.measure.resampling import MEASURES, measure_resamples, sort_units


def test_measures_of_counts_are_the_metrics() -> None:
    rng = np.random.default_rng(0)
    for k, n in ((2, 9), (3, 40), (7, 60), (7, 3)):
        labels, predicted = rng.integers(0, k, n), rng.integers(0, max(1, k - 1), n)
        expected = score(labels, predicted, tuple("abcdefg"[:k]))
        confusion = np.array(expected["confusion"], dtype=float)
        for name, measure in MEASURES.items():
            assert float(measure(confusion[None])[0]) == pytest.approx(expected[name]), (name, k, n)


def test_units_keep_every_pair() -> None:
    rng = np.random.default_rng(1)
    cells = rng.integers(0, 9, 500)
    groups = [str(i) for i in rng.integers(0, 120, 500)]
    expected = np.bincount(cells, minlength=9)
    for units, n in ((sort_units(cells, 9), 500), (sort_units(cells, 9, groups), len(set(groups)))):
        np.testing.assert_array_equal(units.total, expected)
        assert units.n == n
    assert sort_units(cells, 9, [str(i) for i in range(500)]).counts.tolist() == expected.tolist()


def test_groups_of_equal_content_are_one_kind() -> None:
    units = sort_units(np.array([0, 1, 1, 0, 2, 2, 2]), 3, ["a", "a", "b", "b", "c", "d", "d"])
    kinds = {tuple(cells): int(n) for cells, n in zip(units.cells.tolist(), units.counts, strict=True)}
    assert kinds == {(1.0, 1.0, 0.0): 2, (0.0, 0.0, 1.0): 1, (0.0, 0.0, 2.0): 1}
    left = {tuple(row) for row in units.leave_one_out().tolist()}
    assert left == {(1.0, 1.0, 3.0), (2.0, 2.0, 2.0), (2.0, 2.0, 1.0)}


def test_resamples_are_distributed_as_those_of_units_drawn_one_by_one() -> None:
    rng = np.random.default_rng(2)
    cells, numbers = rng.integers(0, 4, 60), rng.integers(0, 20, 60)
    members = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]

    def share(block: np.ndarray) -> np.ndarray:
        return block[:, 0] / block.sum(1)

    fast = measure_resamples(sort_units(cells, 4, [str(i) for i in numbers]), 4000, 0, share)
    slow = []
    for _ in range(4000):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        slow.append((cells[rows] == 0).mean())
    assert fast.mean() == pytest.approx(np.mean(slow), abs=4 * np.std(slow) / 40)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.06)
    np.testing.assert_allclose(np.quantile(fast, [0.1, 0.5, 0.9]), np.quantile(slow, [0.1, 0.5, 0.9]), atol=0.02)


def test_ten_thousand_resamples_of_large_groups_stay_small_in_memory() -> None:
    rng = np.random.default_rng(3)
    units = sort_units(rng.integers(0, 27, 4000), 27, [str(i) for i in rng.integers(0, 400, 4000)])
    assert len(units.counts) > 390  # the worst case: hardly two groups alike
    tracemalloc.start()
    found = measure_resamples(units, 10_000, 0, lambda block: block[:, 0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 10_000
    assert peak < 100e6  # 10,000 x 4,000 weights would be 320 MB


def test_no_pairs_and_too_few_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        sort_units(np.zeros(0, int), 4)
    with pytest.raises(ValueError, match="2 pairs, found 1 groups"):
        sort_units(np.zeros(2, int), 4, ["a"])
