"""Is one head better than another on the same pairs? Interval and p-value of the difference, and a plain sentence.

Pairs that resemble each other count as one piece of evidence where their groups are given. Trains nothing, reads no
files.

What is tested: these two trained heads, on other pairs of the same kind. Whether another training of the same heads
would end the same way is what several seeds tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from sentifuse import ConfigError, DataError
from sentifuse.fuse.measure.resampling import (
    MEASURES,
    TITLES,
    FloatArray,
    IntArray,
    Units,
    measure_resamples,
    sort_units,
)
from sentifuse.fuse.measure.statistics import LEVEL, RESAMPLES, McNemar, holm, mcnemar, order_statistic
from sentifuse.fuse.run import Predictions

# Shapes: n pairs, K classes; a cell is (true class, A's class, B's class), K·K·K of them. R resamples.

SHOWN_IDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two heads A and B on the same pairs; `difference` is A's value less B's."""

    measure: str
    a: float
    b: float
    difference: float
    low: float  # percentile interval of the difference
    high: float
    level: float
    p: float  # sign-flip test; exact for accuracy
    p_bootstrap: float  # at or below 1 − level exactly when the interval leaves out 0
    mcnemar: McNemar
    n: int  # answers of each head
    units: int  # what was drawn
    unit: str  # "pairs" or "groups"; of pairs there are fewer than answers where one was tested several times
    resamples: int
    seed: int
    p_adjusted: float | None = None  # after Holm's correction, see `correct`
    n_tests: int = 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_significant(self) -> bool:
        """Whether p (corrected, if it was) is below 1 − level and the interval leaves out 0, both of them."""
        p = self.p if self.p_adjusted is None else self.p_adjusted
        return p < 1 - self.level and not self.low <= 0 <= self.high


def compare_heads(
    labels: IntArray,
    a: IntArray,
    b: IntArray,
    class_count: int,
    *,
    groups: Sequence[str] | None = None,
    measure: str = "accuracy",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare the predictions of two heads.

    Interval: paired percentile bootstrap; a unit (pair or group) is drawn with both heads' answers. Of a difference the
    distribution is nearly symmetric, so bias correction changes little, and only the percentile interval has a p-value
    that agrees with it: `p_bootstrap` = 2 · min(1 + #{d* ≤ 0}, 1 + #{d* ≥ 0}) / (R + 1) (Davison and Hinkley, Bootstrap
    Methods, 1997, 4.4).

    `p`: sign-flip test. If the heads were equally good, swapping their answers in any unit would be as likely as not.
    For accuracy the distribution of the difference over all 2^units swaps is computed exactly; over pairs it is
    McNemar's exact test, over groups its generalisation. For the other measures R random swaps, p = (1 + #{|d*| ≥ |d|})
    / (R + 1) (Phipson and Smyth, SAGMB 9, 2010).

    Parameters
    ----------
    labels, a, b
        (n,) positions in the list of classes, n ≥ 1.
    groups
        (n,) the group of each pair; None: pairs are independent.
    measure
        "accuracy", "f1_weighted", "f1_macro" or "balanced_accuracy".
    """
    if measure not in MEASURES:
        raise ConfigError.unknown("measure", measure, MEASURES)
    if not labels.shape == a.shape == b.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels {labels.shape}, A {a.shape}, B {b.shape}: expected equal length of at least 1")
    k = class_count
    units = sort_units((labels * k + a) * k + b, k**3, groups)

    def values(cells: FloatArray) -> tuple[FloatArray, FloatArray]:
        table = cells.reshape(-1, k, k, k)
        return MEASURES[measure](table.sum(3)), MEASURES[measure](table.sum(2))

    def difference(cells: FloatArray) -> FloatArray:
        of_a, of_b = values(cells)
        return of_a - of_b

    of_a, of_b = (float(found[0]) for found in values(units.total[None]))
    drawn = np.sort(measure_resamples(units, resamples, seed, difference).round(12))  # 0.7 − 0.7 may be 1e-17
    low, high = (order_statistic(drawn, share) for share in ((1 - level) / 2, (1 + level) / 2))
    n_low, n_high = int((drawn <= 0).sum()), int((drawn >= 0).sum())
    return Comparison(
        measure=measure,
        a=of_a,
        b=of_b,
        difference=of_a - of_b,
        low=low,
        high=high,
        level=level,
        p=_flip_exactly(units, k) if measure == "accuracy" else _flip(units, k, measure, resamples, seed),
        p_bootstrap=min(1.0, 2 * (1 + min(n_low, n_high)) / (resamples + 1)),
        mcnemar=mcnemar(a == labels, b == labels),
        n=len(labels),
        units=units.n,
        unit="pairs" if groups is None else "groups",
        resamples=resamples,
        seed=seed,
    )


def compare_predictions(
    a: Sequence[Predictions], b: Sequence[Predictions], *, groups: Mapping[str, str] | None = None, **options: Any
) -> Comparison:
    """Compare two heads by their written predictions, pooled over folds or seeds.

    Parameters
    ----------
    a, b
        One table per fold or seed, in the same order; tables at the same place hold the same pairs.
    groups
        id → group of near-duplicates; None: what is drawn is a pair, with all its answers where it has several.
    options
        measure, level, resamples, seed of `compare_heads`.

    Raises
    ------
    DataError
        The tables are not about the same pairs, labels and classes, or a pair has no group.
    """
    if len(a) != len(b) or not a:
        raise DataError(f"comparison: expected as many tables of A as of B, found {len(a)} and {len(b)}. Train both")
    aligned = [align(one, other) for one, other in zip(a, b, strict=True)]
    pooled_a, pooled_b = pool(a), pool(aligned)
    unit_of = groups_of(pooled_a.ids, groups)
    found = compare_heads(
        pooled_a.labels, pooled_a.predicted, pooled_b.predicted, len(pooled_a.classes), groups=unit_of, **options
    )
    # Without groups what is drawn is a pair with all its answers, and is called so.
    return found if groups is not None else replace(found, unit="pairs")


def pool(parts: Sequence[Predictions]) -> Predictions:
    """Tables of several folds or seeds as one; an id may occur more than once."""
    first = parts[0]
    for part in parts:
        if part.classes != first.classes:
            raise DataError(
                f"predictions: expected the classes {list(first.classes)} everywhere, found {list(part.classes)}. "
                "Compare runs of one dataset and rule"
            )
    return Predictions(
        ids=tuple(id_ for part in parts for id_ in part.ids),
        labels=np.concatenate([part.labels for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        classes=first.classes,
    )


def align(a: Predictions, b: Predictions) -> Predictions:
    """B with its rows in A's order.

    Raises
    ------
    DataError
        B has other classes, other pairs or other labels.
    """
    if a.classes != b.classes:
        raise DataError(
            f"predictions: expected the classes {list(a.classes)}, found {list(b.classes)}. "
            "Compare runs of one dataset and rule"
        )
    row_of = {id_: row for row, id_ in enumerate(b.ids)}
    odd = sorted({*a.ids} ^ {*b.ids})
    if odd or len(row_of) != len(b.ids) or len(a.ids) != len(b.ids):
        raise DataError(
            f"predictions: expected the same {len(a.ids)} pairs of both heads, found {len(odd)} that only one of them "
            f"has ({_some(odd)}). Compare runs of the same split; a head may have left pairs out for lack of a feature"
        )
    rows = np.array([row_of[id_] for id_ in a.ids], dtype=np.int64)
    if (wrong := np.flatnonzero(b.labels[rows] != a.labels)).size:
        raise DataError(
            f"predictions: expected equal labels, found {len(wrong)} pairs labelled otherwise "
            f"({_some([a.ids[row] for row in wrong])}). Compare runs of one label rule and target"
        )
    return replace(b, ids=a.ids, labels=b.labels[rows], probabilities=b.probabilities[rows])


def groups_of(ids: Sequence[str], groups: Mapping[str, str] | None) -> list[str] | None:
    """The group of each id; without groups the ids themselves where one occurs twice, else None: pairs are units.

    Raises
    ------
    DataError
        An id that no group was said of.
    """
    if groups is None:
        return list(ids) if len({*ids}) < len(ids) else None
    if absent := sorted({*ids} - groups.keys()):
        raise DataError(f"groups: expected one for every pair, found none for {len(absent)} ({_some(absent)})")
    return [groups[id_] for id_ in ids]


def correct(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's correction for being several."""
    adjusted = holm([one.p for one in comparisons])
    return [replace(one, p_adjusted=p, n_tests=len(comparisons)) for one, p in zip(comparisons, adjusted, strict=True)]


def verdict(found: Comparison, a: str, b: str) -> str:
    """What a comparison means, in one sentence; points are hundredths.

    "better" is said only when the (corrected) p-value and the interval agree.
    """
    better, other, sign = (a, b, 1) if found.difference >= 0 else (b, a, -1)
    low, high = sorted((sign * found.low, sign * found.high))
    points = f"{_points(sign * found.difference)} points of {TITLES[found.measure]}"
    evidence = f"{found.level:.0%} interval [{_points(low)}, {_points(high)}], p {_p(found.p)}"
    if found.p_adjusted is not None:
        evidence += f" (p {_p(found.p_adjusted)} after Holm's correction for {found.n_tests} comparisons)"
    evidence += f"; n = {found.n:,} "
    if found.unit == "groups":  # a pair may have answers of several seeds, so the count is of answers
        evidence += f"answers in {found.units:,} groups"
    else:
        evidence += "pairs" if found.n == found.units else f"answers to {found.units:,} pairs"
    if found.is_significant:
        return f"{better} is better than {other}: {points}, {evidence}"
    p = found.p if found.p_adjusted is None else found.p_adjusted
    disagree = (p < 1 - found.level) != (not found.low <= 0 <= found.high)
    why = "; test and interval disagree, so nothing is claimed" if disagree else ""
    favour = f" in favour of {better}" if found.difference else ""
    return f"{a} and {b} are not distinguishable: {points}{favour}, {evidence}{why}"


def _flip_exactly(units: Units, k: int) -> float:
    """Two-sided p of Σ ±d over all signs, d a unit's right answers of A less those of B.

    With c units of |d| = m, Σ ±d = 2 Σ m B − Σ m c where B is Binomial(c, 1/2): the sum's distribution is a
    convolution of binomials on the whole numbers.
    """
    true, of_a, of_b = np.indices((k, k, k)).reshape(3, -1)
    gain = (units.cells @ ((of_a == true).astype(float) - (of_b == true))).round().astype(np.int64)  # (T,)
    observed = abs(int(units.counts @ gain))
    counts = np.bincount(np.abs(gain), weights=units.counts).astype(np.int64)
    distribution = np.ones(1)
    for size in np.flatnonzero(counts[1:]) + 1:
        shares = stats.binom.pmf(np.arange(counts[size] + 1), counts[size], 0.5)
        wider = np.zeros(len(distribution) + size * counts[size])
        for times, share in enumerate(shares):
            wider[times * size : times * size + len(distribution)] += share * distribution
        distribution = wider
    largest = len(distribution) - 1  # Σ m c
    tail = float(distribution[(largest + observed) // 2 :].sum())
    return min(1.0, 2 * tail) if observed else 1.0


def _flip(units: Units, k: int, measure: str, resamples: int, seed: int) -> float:
    rng = np.random.default_rng([seed, 1])  # not the draws of the interval
    table = units.total.reshape(k, k, k)

    def difference(kept: FloatArray) -> FloatArray:
        stay = kept.reshape(-1, k, k, k)
        swapped = table - stay
        of_a, of_b = stay.sum(3) + swapped.sum(2), stay.sum(2) + swapped.sum(3)
        return MEASURES[measure](of_a) - MEASURES[measure](of_b)

    observed = abs(float(difference(units.total[None])[0]))
    drawn = np.concatenate([difference(block) for block in units.flips(resamples, rng)])
    return float(1 + (np.abs(drawn) >= observed - 1e-12).sum()) / (resamples + 1)


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _p(value: float) -> str:
    return f"= {value:.3f}" if value >= 0.001 else "< 0.001"


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN_IDS]) + (", …" if len(ids) > SHOWN_IDS else "")
