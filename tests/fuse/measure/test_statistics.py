"""Intervals that cover what they should, against closed forms, SciPy's bootstrap and simulated data."""

from math import sqrt
from time import process_time

import numpy as np
import pytest
from scipy import stats

from sentifuse import ConfigError
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.measure.resampling import MEASURES
from sentifuse.fuse.measure.statistics import _acceleration, _shift_for_bias, bootstrap, holm, mcnemar, spread

# What a head does to pairs, true class by row: unequal classes, the rare one mostly missed, as in MVSA-Single.
CONFUSION = np.array([[0.20, 0.01, 0.09], [0.02, 0.03, 0.055], [0.06, 0.015, 0.52]])


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    cells = rng.choice(9, size=n, p=CONFUSION.ravel() / CONFUSION.sum())
    return cells // 3, cells % 3


def draw_groups(rng: np.random.Generator, n_groups: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Groups of 1 to 5 pairs; a pair is what its group's first is in seven of ten cases."""
    sizes = rng.integers(1, 6, n_groups)
    group = np.repeat(np.arange(n_groups), sizes)
    first, own = (np.stack(draw(rng, n)) for n in (n_groups, len(group)))
    labels, predicted = np.where(rng.random(len(group)) < 0.7, first[:, group], own)
    return labels, predicted, [str(i) for i in group]


def true_value(name: str) -> float:
    return float(MEASURES[name](CONFUSION[None] * 1e9)[0])


def covered(
    repetitions: int, *measures: str, grouped: bool, n: int = 400, told: bool = True, resamples: int = 1000
) -> dict[str, float]:
    """The share of intervals that hold the true value, by measure; n pairs, or n groups."""
    rng = np.random.default_rng(12)
    inside = dict.fromkeys(measures, 0)
    for seed in range(repetitions):
        labels, predicted, groups = draw_groups(rng, n) if grouped else (*draw(rng, n), None)
        given = groups if told else None
        found = bootstrap(labels, predicted, 3, groups=given, measures=measures, resamples=resamples, seed=seed)
        for name in measures:
            inside[name] += found[name].low <= true_value(name) <= found[name].high
    return {name: count / repetitions for name, count in inside.items()}


@pytest.mark.parametrize("grouped", [False, True], ids=["pairs", "groups"])
def test_most_intervals_cover_the_truth(grouped: bool) -> None:
    assert 0.89 <= covered(120, "accuracy", grouped=grouped, n=150, resamples=500)["accuracy"] <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True], ids=["pairs", "groups"])
def test_95_of_100_intervals_cover_the_truth(grouped: bool) -> None:
    shares = covered(1000, "accuracy", "f1_weighted", "f1_macro", grouped=grouped)
    assert shares == pytest.approx(dict.fromkeys(shares, 0.95), abs=0.02)


@pytest.mark.slow
def test_intervals_that_ignore_groups_cover_too_little() -> None:
    assert covered(400, "accuracy", grouped=True, told=False)["accuracy"] < 0.88


def test_the_estimates_are_the_metrics() -> None:
    labels, predicted = draw(np.random.default_rng(0), 200)
    expected = score(labels, predicted, ("a", "b", "c"))
    for name, interval in bootstrap(labels, predicted, 3, resamples=200).items():
        assert interval.estimate == pytest.approx(expected[name])
        assert interval.low < interval.estimate < interval.high
        assert (interval.n, interval.units, interval.unit) == (200, 200, "pairs")


def test_ends_are_those_of_scipys_bootstrap() -> None:
    labels, predicted = draw(np.random.default_rng(1), 60)

    def f1(rows: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = np.atleast_2d(rows)
        cells = (labels * 3 + predicted)[drawn] + 9 * np.arange(len(drawn))[:, None]
        confusion = np.bincount(cells.ravel(), minlength=9 * len(drawn)).reshape(-1, 3, 3).astype(float)
        return MEASURES["f1_macro"](confusion).reshape(rows.shape[:-1])

    ends = {}
    for method, name in (("percentile", "percentile"), ("bca", "BCa")):
        found = bootstrap(labels, predicted, 3, measures=("f1_macro",), method=method, resamples=20_000)["f1_macro"]
        rng = np.random.default_rng(2)
        theirs = stats.bootstrap((np.arange(60),), f1, n_resamples=20_000, method=name, random_state=rng)
        expected = (theirs.confidence_interval.low, theirs.confidence_interval.high)
        assert (found.low, found.high) == pytest.approx(expected, abs=0.006)
        ends[method] = np.array([found.low, found.high])
    assert np.abs(ends["bca"] - ends["percentile"]).min() > 0.012  # a small part with a rare class: it matters here


@pytest.mark.parametrize(("n_right", "n"), [(8, 10), (5, 10), (1, 7)])
def test_the_acceleration_of_a_share_is_its_closed_form(n_right: int, n: int) -> None:
    """Of n tosses with share p the sums over units are n p q (q - p) and n p q, whatever n - 1 divides them by."""
    left = np.array([n_right - 1, n_right]) / (n - 1)  # without a right one, without a wrong one
    p = n_right / n
    expected = (1 - 2 * p) / (6 * sqrt(n * p * (1 - p)))
    assert _acceleration(left, np.array([n_right, n - n_right])) == pytest.approx(expected, abs=1e-15)


def test_bca_reads_the_quantiles_that_its_formula_says() -> None:
    values = np.linspace(-1.0, 1.0, 101)  # as many below the estimate as above: no bias
    counts, left = np.array([8, 2]), np.array([7 / 9, 8 / 9])
    a = -0.6 / (6 * sqrt(1.6))
    z = 1.959963984540054
    expected = (stats.norm.cdf(-z / (1 + a * z)), stats.norm.cdf(z / (1 - a * z)))
    assert _shift_for_bias((0.025, 0.975), values, 0.0, left, counts) == pytest.approx(expected, abs=1e-12)
    # 60 of 101 values below the estimate and it among them: z0 = 0.2389, and the formula without skewness
    z0 = stats.norm.ppf(60.5 / 101)
    moved = _shift_for_bias((0.025, 0.975), values, float(values[60]), np.full(2, 0.5), counts)
    assert moved == pytest.approx((stats.norm.cdf(2 * z0 - z), stats.norm.cdf(2 * z0 + z)), abs=1e-12)


def test_an_accuracys_interval_is_as_wide_as_theory_says() -> None:
    labels, predicted = draw(np.random.default_rng(3), 4000)
    found = bootstrap(labels, predicted, 3, measures=("accuracy",))["accuracy"]
    share = found.estimate
    assert found.half_width == pytest.approx(1.96 * sqrt(share * (1 - share) / 4000), rel=0.05)


def test_groups_of_k_equal_pairs_have_the_interval_of_an_nth_of_the_pairs() -> None:
    labels, predicted = draw(np.random.default_rng(4), 300)
    once = bootstrap(labels, predicted, 3)
    groups = [str(i) for i in range(300)] * 4
    four_times = bootstrap(np.tile(labels, 4), np.tile(predicted, 4), 3, groups=groups)
    for name, interval in once.items():
        assert four_times[name].low == pytest.approx(interval.low, abs=0.01)
        assert four_times[name].high == pytest.approx(interval.high, abs=0.01)
        assert (four_times[name].n, four_times[name].units, four_times[name].unit) == (1200, 300, "groups")


def test_same_seed_same_ends_whatever_else_is_asked() -> None:
    labels, predicted = draw(np.random.default_rng(5), 100)
    alone = bootstrap(labels, predicted, 3, measures=("accuracy",), seed=4)
    among = bootstrap(labels, predicted, 3, seed=4)
    assert alone["accuracy"] == among["accuracy"]
    assert bootstrap(labels, predicted, 3, seed=5) != among


def test_where_the_bootstrap_is_silent_wilson_speaks() -> None:
    ones = np.ones(12, dtype=np.int64)
    found = bootstrap(ones, ones, 3)
    # Wilson for 12 of 12: the lower end is n / (n + z²)
    z = stats.norm.ppf(0.975)
    assert found["accuracy"].low == pytest.approx(12 / (12 + z**2))
    assert (found["accuracy"].high, found["accuracy"].method) == (1.0, "wilson")
    assert found["f1_macro"].low is found["f1_macro"].high is found["f1_macro"].half_width is None
    assert "12 pairs gives the same value" in found["f1_macro"].reason


def test_one_group_tells_nothing() -> None:
    found = bootstrap(np.array([0, 1]), np.array([0, 0]), 2, groups=["a", "a"], measures=("accuracy",))["accuracy"]
    assert (found.estimate, found.low, found.units) == (0.5, None, 1)


def test_ten_thousand_resamples_of_four_thousand_pairs_take_less_than_a_second() -> None:
    rng = np.random.default_rng(6)
    labels, predicted = draw(rng, 4000)
    groups = [str(i) for i in np.where(rng.random(4000) < 0.1, rng.integers(0, 190, 4000), np.arange(4000) + 190)]
    for given in (None, groups):
        started = process_time()
        bootstrap(labels, predicted, 3, groups=given, resamples=10_000)
        assert process_time() - started < 1.0


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown method 'bcaa'; did you mean 'bca'"):
        bootstrap(np.zeros(2, int), np.zeros(2, int), 2, method="bcaa")


def test_spread_by_hand() -> None:
    found = spread([0.70, 0.74, 0.72, 0.68])
    assert found.mean == pytest.approx(0.71)
    assert found.sd == pytest.approx(sqrt((0.01**2 + 0.03**2 + 0.01**2 + 0.03**2) / 3))
    half = 3.182446305284263 * found.sd / 2  # t of 3 degrees of freedom
    assert (found.low, found.high) == (pytest.approx(0.71 - half), pytest.approx(0.71 + half))
    theirs = stats.ttest_1samp([0.70, 0.74, 0.72, 0.68], 0).confidence_interval()
    assert (found.low, found.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))


def test_overlapping_training_parts_widen_the_interval() -> None:
    values = [0.70, 0.74, 0.72, 0.68]
    plain, corrected = spread(values), spread(values, test_to_train=1 / 8)
    assert (corrected.high - corrected.low) / (plain.high - plain.low) == pytest.approx(sqrt((1 / 4 + 1 / 8) * 4))


def test_a_single_run_has_no_spread() -> None:
    found = spread([0.7])
    assert (found.sd, found.low, found.high) == (None, None, None)
    assert str(found) == "0.7000 (n = 1)"
    with pytest.raises(ValueError, match="at least one value"):
        spread([])


@pytest.mark.parametrize(("only_a", "only_b", "both"), [(9, 1, 5), (3, 3, 0), (0, 6, 2), (61, 40, 300)])
def test_mcnemar_is_scipys_closed_form(only_a: int, only_b: int, both: int) -> None:
    a = np.array([True] * (only_a + both) + [False] * only_b)
    b = np.array([False] * only_a + [True] * (both + only_b))
    found = mcnemar(a, b)
    n = only_a + only_b
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p_exact == pytest.approx(min(1.0, 2 * stats.binom.cdf(min(only_a, only_b), n, 0.5)))
    # The same χ² as of a table of two equally likely outcomes.
    theirs = stats.chisquare([only_a, only_b])
    assert (found.chi2, found.p_chi2) == (pytest.approx(theirs.statistic), pytest.approx(theirs.pvalue))


def test_heads_that_never_differ_are_equal() -> None:
    right = np.array([True, False])
    assert (mcnemar(right, right).p_exact, mcnemar(right, right).p_chi2) == (1.0, 1.0)


def test_holm_by_hand() -> None:
    # sorted 0.005·4, 0.01·3, 0.03·2, 0.04·1, and never falling
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([1.2])
