"""How sure a number is: spread over seeds and folds, bootstrap intervals, McNemar's test, Holm's correction.

Works on labels and predictions alone; whole comparisons of two heads are put together in `paired`. Seeded: the same
arguments give the same ends.

Two different questions have two different answers here. The bootstrap says how far a number would move with other test
pairs, for the very heads that were trained. Mean, sd and t-interval over seeds or folds say how far it would move with
another training.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import floor, sqrt
from typing import Any

import numpy as np
from scipy import stats

from sentifuse import ConfigError
from sentifuse.fuse.measure.resampling import MEASURES, FloatArray, IntArray, Units, measure_resamples, sort_units

LEVEL = 0.95
RESAMPLES = 10_000
METHODS = ("bca", "percentile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and two ends; ends found this way hold the true value in `level` of all cases."""

    estimate: float
    low: float | None  # None: nothing can be said, see `reason`
    high: float | None
    level: float
    n: int  # pairs
    units: int  # what was drawn: pairs, or groups of them
    unit: str  # "pairs" or "groups"
    method: str  # "bca", "percentile", "wilson", "t"
    resamples: int
    seed: int
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def half_width(self) -> float | None:
        """Half the distance of the ends."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One number per seed or fold, summed up."""

    n: int
    mean: float
    sd: float | None  # None for a single value: one run says nothing about the next
    low: float | None  # of the t-interval of the mean
    high: float | None
    level: float

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.sd is None else f" ± {self.sd:.4f}") + f" (n = {self.n})"


def spread(values: Sequence[float], *, level: float = LEVEL, test_to_train: float = 0.0) -> Spread:
    """Mean, standard deviation (n − 1 below the line) and t-interval of the mean over seeds or folds.

    mean ± t(n − 1) · sd · √(1/n + test_to_train). With 0 this is Student's interval, right for runs that differ in
    nothing but their initial values. Runs on different random splits of the same pairs share most of their training
    pairs, so their values are not independent and Student's interval is too narrow; Nadeau and Bengio (Inference for
    the Generalization Error, Machine Learning 52, 2003) add the ratio of the sizes of test and training part. For k
    folds no unbiased estimate exists (Bengio and Grandvalet, JMLR 5, 2004); the same ratio is used. It is 1/(k − 2)
    here: of k equal parts one is tested, one validates, and the others are trained on.

    >>> str(spread([0.70, 0.72, 0.71]))
    '0.7100 ± 0.0100 (n = 3)'
    """
    if not values or test_to_train < 0:
        raise ValueError(f"expected at least one value and a ratio from 0, found {len(values)} and {test_to_train}")
    found = np.asarray(values, dtype=np.float64)
    n, mean = len(found), float(found.mean())
    if n == 1:
        return Spread(n=1, mean=mean, sd=None, low=None, high=None, level=level)
    sd = float(found.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd * sqrt(1 / n + test_to_train)
    return Spread(n=n, mean=mean, sd=sd, low=mean - half, high=mean + half, level=level)


def bootstrap(
    labels: IntArray,
    predicted: IntArray,
    class_count: int,
    *,
    groups: Sequence[str] | None = None,
    measures: Sequence[str] = tuple(MEASURES),
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    method: str = "bca",
) -> dict[str, Interval]:
    """Bootstrap intervals of some measures over pairs, or over whole groups of pairs (the cluster bootstrap).

    Where pairs resemble each other (near-duplicates, one pair measured under several seeds) give their groups: pairs
    alone would count the same evidence twice, and the interval would be too narrow.

    Parameters
    ----------
    labels, predicted
        (n,) positions in the list of classes, n ≥ 1.
    groups
        (n,) the group of each pair; None draws pairs.
    measures
        Of "accuracy", "f1_weighted", "f1_macro", "balanced_accuracy", as `metrics.score` defines them.
    method
        "percentile": the α/2 and 1 − α/2 quantiles of the resampled values. "bca" moves these quantiles for bias and
        skewness (Efron, Better Bootstrap Confidence Intervals, JASA 82, 1987; acceleration from leaving out one unit).
        Resampling makes macro F1 smaller on average where a class is rare, and the percentile interval inherits that;
        accuracy hardly differs. Quantiles are order statistics: q · (R + 1)-th of R (Davison and Hinkley, Bootstrap
        Methods, 1997, 5.2).

    Returns
    -------
    dict
        measure → interval. Where all resamples give the same value the bootstrap says nothing: an accuracy of 0 or 1
        then has Wilson's interval for as many tosses as there are units, everything else has no ends and a reason.
        With fewer than about 30 units every interval here is too narrow.
    """
    if method not in METHODS:
        raise ConfigError.unknown("method", method, METHODS)
    cells = labels * class_count + predicted
    units = sort_units(cells, class_count**2, groups)
    common: dict[str, Any] = {
        "level": level,
        "n": len(labels),
        "units": units.n,
        "unit": "pairs" if groups is None else "groups",
    }
    drawn = _draw(units, class_count, measures, resamples, seed)
    left_out = units.leave_one_out().reshape(-1, class_count, class_count)
    found: dict[str, Interval] = {}
    for name in measures:
        estimate = float(MEASURES[name](units.total.reshape(1, class_count, class_count))[0])
        values = np.sort(drawn[name])
        if values[0] == values[-1]:
            found[name] = _of_equal_values(name, estimate, common, resamples, seed)
            continue
        shares = ((1 - level) / 2, (1 + level) / 2)
        if method == "bca":
            has_rest = left_out.sum((1, 2)) > 0
            jackknife = MEASURES[name](left_out[has_rest])
            shares = _shift_for_bias(shares, values, estimate, jackknife, units.counts[has_rest])
        low, high = (order_statistic(values, share) for share in shares)
        found[name] = Interval(
            estimate=estimate, low=low, high=high, method=method, resamples=resamples, seed=seed, **common
        )
    return found


def order_statistic(values: FloatArray, share: float) -> float:
    """The quantile of R rising values as one of them, the same number of values outside at both ends.

    >>> order_statistic(np.arange(1.0, 100.0), 0.025), order_statistic(np.arange(1.0, 100.0), 0.975)
    (2.0, 98.0)
    """
    n = len(values)
    from_below = floor(min(share, 1 - share) * (n + 1) + 1e-9)  # 0.025 · 40 is 1 - 1e-16 where 0.975 was given
    place = max(1, from_below) if share <= 0.5 else n + 1 - max(1, from_below)
    return float(values[place - 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """McNemar's test on the pairs that exactly one of two heads got right."""

    only_a: int  # right by A alone
    only_b: int
    p_exact: float
    chi2: float
    p_chi2: float


def mcnemar(is_right_a: Any, is_right_b: Any) -> McNemar:
    """McNemar's test of two heads on the same pairs.

    Exact: under the null hypothesis each of the b + c pairs on which the heads differ is A's with probability 1/2
    (two-sided binomial test). χ² = (b − c)² / (b + c) with one degree of freedom, without continuity correction
    (McNemar, Psychometrika 12, 1947). It takes pairs for independent: where they come in groups, see `paired`.

    Parameters
    ----------
    is_right_a, is_right_b
        (n,) bool.

    >>> found = mcnemar(np.array([True] * 9 + [False]), np.array([False] * 9 + [True]))
    >>> (found.only_a, found.only_b, round(found.p_exact, 4), found.chi2, round(found.p_chi2, 4))
    (9, 1, 0.0215, 6.4, 0.0114)
    """
    only_a, only_b = int((is_right_a & ~is_right_b).sum()), int((is_right_b & ~is_right_a).sum())
    differing = only_a + only_b
    if not differing:
        return McNemar(only_a=0, only_b=0, p_exact=1.0, chi2=0.0, p_chi2=1.0)
    chi2 = (only_a - only_b) ** 2 / differing
    return McNemar(
        only_a=only_a,
        only_b=only_b,
        p_exact=float(stats.binomtest(only_a, differing, 0.5).pvalue),
        chi2=chi2,
        p_chi2=float(stats.chi2.sf(chi2, 1)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several, in the order given (Holm, Scandinavian Journal of Statistics 6, 1979).

    The i-th smallest of m is multiplied by m − i + 1, and none becomes smaller than the one before it. Whoever rejects
    what is then below α says anything false with probability α at most, whatever the tests have to do with each other.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"expected p-values from 0 to 1, found {p}")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _draw(units: Units, class_count: int, measures: Sequence[str], resamples: int, seed: int) -> dict[str, FloatArray]:
    """measure -> (R,); all of the same resamples."""

    def measure_all(block: FloatArray) -> FloatArray:
        confusion = block.reshape(-1, class_count, class_count)
        return np.stack([MEASURES[name](confusion) for name in measures], axis=1)

    drawn = measure_resamples(units, resamples, seed, measure_all)
    return {name: drawn[:, i] for i, name in enumerate(measures)}


def _of_equal_values(name: str, estimate: float, common: dict[str, Any], resamples: int, seed: int) -> Interval:
    fixed: dict[str, Any] = {"estimate": estimate, **common, "resamples": resamples, "seed": seed}
    reason = f"every resample of {common['units']} {common['unit']} gives the same value"
    if name != "accuracy" or estimate not in (0.0, 1.0):
        return Interval(low=None, high=None, method="none", reason=reason, **fixed)
    units = common["units"]
    ends = stats.binomtest(int(estimate) * units, units).proportion_ci(common["level"], method="wilson")
    return Interval(low=float(ends.low), high=float(ends.high), method="wilson", reason=reason, **fixed)


def _shift_for_bias(
    shares: tuple[float, float], values: FloatArray, estimate: float, jackknife: FloatArray, counts: IntArray
) -> tuple[float, float]:
    """The quantiles that BCa reads instead: Φ(z₀ + (z₀ + z) / (1 − a (z₀ + z))).

    z₀ is Φ⁻¹ of the share of resampled values below the estimate (half of those equal to it, as the values are
    lumpy), a the acceleration, which follows from the values without one unit each.
    """
    below = np.searchsorted(values, estimate - 1e-12)
    equal = np.searchsorted(values, estimate + 1e-12) - below
    half = 0.5 / len(values)
    z0 = stats.norm.ppf(min(max((below + equal / 2) / len(values), half), 1 - half))
    a = _acceleration(jackknife, counts)
    low, high = (z0 + stats.norm.ppf(share) for share in shares)
    moved = [float(stats.norm.cdf(z0 + z / (1 - a * z))) for z in (low, high)]
    return moved[0], moved[1]


def _acceleration(jackknife: FloatArray, counts: IntArray) -> float:
    """a = Σ (m − θᵢ)³ / (6 (Σ (m − θᵢ)²)^1.5), θᵢ the value without unit i and m their mean; 0 where all are equal."""
    if not counts.sum():
        return 0.0
    away = np.average(jackknife, weights=counts) - jackknife
    squares = float(counts @ away**2)
    return float(counts @ away**3) / (6 * squares**1.5) if squares > 0 else 0.0
