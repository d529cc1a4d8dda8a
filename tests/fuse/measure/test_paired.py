"""Comparisons of two heads: exact where it can be counted, calibrated on simulated heads, and said in plain words."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from sentifuse import ConfigError, DataError
from sentifuse.fuse.measure.paired import align, compare_heads, compare_predictions, correct, groups_of, pool, verdict
from sentifuse.fuse.run import Predictions

CLASSES = ("negative", "neutral", "positive")


def simulate(
    rng: np.random.Generator, n_groups: int, skill_a: float, skill_b: float, largest: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Labels, two heads that are right with these chances, and groups; within a group all is one draw."""
    group = np.repeat(np.arange(n_groups), rng.integers(1, largest + 1, n_groups))
    labels = rng.choice(3, size=n_groups, p=[0.3, 0.1, 0.6])
    said = [np.where(rng.random(n_groups) < skill, labels, (labels + 1) % 3) for skill in (skill_a, skill_b)]
    return labels[group], said[0][group], said[1][group], [str(i) for i in group]


def table(ids: str, labels: list[int], predicted: list[int]) -> Predictions:
    probabilities = np.full((len(labels), 3), 0.2)
    probabilities[np.arange(len(labels)), predicted] = 0.6
    return Predictions(ids=tuple(ids), labels=np.array(labels), probabilities=probabilities, classes=CLASSES)


def test_over_pairs_the_p_value_is_mcnemars_exact_one() -> None:
    labels, a, b, _ = simulate(np.random.default_rng(0), 300, 0.72, 0.68)
    found = compare_heads(labels, a, b, 3)
    assert found.p == pytest.approx(found.mcnemar.p_exact)
    assert found.difference == pytest.approx(found.a - found.b)
    assert found.a == pytest.approx((a == labels).mean())


def test_over_groups_the_p_value_counts_all_swaps() -> None:
    labels, a, b, groups = simulate(np.random.default_rng(1), 9, 0.8, 0.4, largest=4)
    names = sorted(set(groups))
    gains = [sum((a[i] == labels[i]) * 1 - (b[i] == labels[i]) for i in range(len(a)) if groups[i] == g) for g in names]
    sums = [abs(sum(s * d for s, d in zip(signs, gains, strict=True))) for signs in product((1, -1), repeat=9)]
    expected = np.mean([total >= abs(sum(gains)) for total in sums])
    assert 0 < expected < 1
    assert compare_heads(labels, a, b, 3, groups=groups).p == pytest.approx(expected)


def test_random_swaps_come_near_the_exact_p_value() -> None:
    # Two classes of equal size and heads that err evenly: balanced accuracy is accuracy, but goes the random way.
    labels = np.tile([0, 1], 100)
    a, b = labels.copy(), labels.copy()
    a[:40], b[20:84] = 1 - a[:40], 1 - b[20:84]
    exact = compare_heads(labels, a, b, 2)
    by_lot = compare_heads(labels, a, b, 2, measure="balanced_accuracy")
    assert by_lot.difference == pytest.approx(exact.difference)
    assert by_lot.p == pytest.approx(exact.p, abs=4 * np.sqrt(exact.p / 10_000))


@pytest.mark.parametrize("measure", ["accuracy", "f1_macro"])
def test_interval_and_bootstrap_p_value_always_agree(measure: str) -> None:
    rng = np.random.default_rng(2)
    decided = []
    for i in range(60):
        skills = (0.75, 0.66) if i % 2 else (0.66, 0.75)
        labels, a, b, _ = simulate(rng, 150, *skills)
        found = compare_heads(labels, a, b, 3, measure=measure, resamples=399)
        assert (found.p_bootstrap <= 0.05 + 1e-9) == (not found.low <= 0 <= found.high)
        decided.append(found.p_bootstrap <= 0.05)
    assert 5 < sum(decided) < 55  # both cases occurred


def test_exchanging_the_heads_turns_the_sign() -> None:
    labels, a, b, groups = simulate(np.random.default_rng(3), 200, 0.7, 0.6, largest=3)
    one, other = compare_heads(labels, a, b, 3, groups=groups), compare_heads(labels, b, a, 3, groups=groups)
    assert (other.difference, other.p) == (pytest.approx(-one.difference), pytest.approx(one.p))
    assert other.low == pytest.approx(-one.high, abs=0.01)
    assert (one.mcnemar.only_a, one.mcnemar.only_b) == (other.mcnemar.only_b, other.mcnemar.only_a)


def test_groups_that_repeat_each_pair_add_no_evidence() -> None:
    labels, a, b, _ = simulate(np.random.default_rng(4), 250, 0.74, 0.66)
    groups = [str(i) for i in range(250)] * 3
    once = compare_heads(labels, a, b, 3)
    thrice = compare_heads(np.tile(labels, 3), np.tile(a, 3), np.tile(b, 3), 3, groups=groups)
    assert thrice.p == pytest.approx(once.p)
    assert thrice.mcnemar.p_exact < once.mcnemar.p_exact / 2  # McNemar alone takes copies for pairs
    assert (thrice.low, thrice.high) == (pytest.approx(once.low, abs=0.01), pytest.approx(once.high, abs=0.01))


def test_equal_heads_differ_by_nothing() -> None:
    labels, a, _, _ = simulate(np.random.default_rng(5), 40, 0.7, 0.7)
    found = compare_heads(labels, a, a, 3, measure="f1_weighted")
    assert (found.difference, found.low, found.high, found.p, found.p_bootstrap) == (0.0, 0.0, 0.0, 1.0, 1.0)
    assert not found.is_significant


def test_same_seed_same_comparison() -> None:
    labels, a, b, _ = simulate(np.random.default_rng(6), 60, 0.7, 0.6)
    found = [compare_heads(labels, a, b, 3, measure="f1_macro", seed=seed, resamples=500) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


@pytest.mark.slow
@pytest.mark.parametrize("largest", [1, 5], ids=["pairs", "groups"])
def test_intervals_cover_and_tests_err_as_often_as_they_say(largest: int) -> None:
    rng = np.random.default_rng(7)
    covers = rejects = both = 0
    for seed in range(1000):
        labels, a, b, groups = simulate(rng, 400, 0.7, 0.7, largest=largest)
        found = compare_heads(labels, a, b, 3, groups=groups, resamples=1000, seed=seed)
        covers += found.low <= 0 <= found.high
        rejects += found.p < 0.05
        both += found.is_significant
    assert covers / 1000 == pytest.approx(0.95, abs=0.02)
    assert 0.02 <= rejects / 1000 <= 0.065
    assert both <= rejects


def test_the_verdict_names_the_better_one_with_points_interval_and_p() -> None:
    labels, a, b, groups = simulate(np.random.default_rng(8), 800, 0.75, 0.65, largest=2)
    found = compare_heads(labels, b, a, 3, groups=groups)
    said = verdict(found, "logreg", "itin")
    low, high = 100 * -found.high, 100 * -found.low
    assert said == (
        f"itin is better than logreg: {-100 * found.difference:+.1f} points of accuracy, 95% interval "
        f"[{low:+.1f}, {high:+.1f}], p < 0.001; n = {len(labels):,} answers in 800 groups"
    )


def test_the_verdict_claims_nothing_without_evidence() -> None:
    labels = np.zeros(100, dtype=np.int64)
    a, b = (np.arange(100) < 30) * 1, (np.arange(100) >= 68) * 1
    found = compare_heads(labels, a, b, 3)
    said = verdict(found, "itin", "logreg")
    assert said.startswith(
        "itin and logreg are not distinguishable: +2.0 points of accuracy in favour of itin, 95% interval [−"
    )
    assert said.endswith("; n = 100 pairs")
    borderline = replace(found, p=0.04)
    assert verdict(borderline, "itin", "logreg").endswith("test and interval disagree, so nothing is claimed")
    assert not borderline.is_significant


def test_several_comparisons_are_corrected() -> None:
    labels, a, b, _ = simulate(np.random.default_rng(9), 300, 0.75, 0.68)
    one = compare_heads(labels, a, b, 3)
    found = correct([replace(one, p=0.03), replace(one, p=0.004), replace(one, p=0.5)])
    assert [each.p_adjusted for each in found] == pytest.approx([0.06, 0.012, 0.5])
    assert "p = 0.030 (p = 0.060 after Holm's correction for 3 comparisons)" in verdict(found[0], "a", "b")
    assert "not distinguishable" in verdict(replace(found[0], low=0.001), "a", "b")


def test_written_predictions_are_pooled_over_folds_and_joined_by_id() -> None:
    a = [table("pqr", [0, 1, 2], [0, 1, 1]), table("st", [2, 2], [2, 2])]
    b = [table("rqp", [2, 1, 0], [1, 0, 0]), table("st", [2, 2], [0, 2])]
    found = compare_predictions(a, b, resamples=200)
    assert (found.n, found.unit) == (5, "pairs")
    assert (found.a, found.b) == (pytest.approx(4 / 5), pytest.approx(2 / 5))
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (2, 0)
    grouped = compare_predictions(a, b, groups=dict(zip("pqrst", "xxyzz", strict=True)), resamples=200)
    assert (grouped.units, grouped.unit) == (3, "groups")


def test_a_pair_seen_under_two_seeds_is_one_piece_of_evidence() -> None:
    one, other = table("pq", [0, 1], [0, 1]), table("pq", [0, 1], [0, 0])
    found = compare_predictions([one, one], [other, other], resamples=200)
    assert (found.n, found.units, found.unit) == (4, 2, "pairs")
    assert verdict(found, "a", "b").endswith("; n = 4 answers to 2 pairs")
    grouped = compare_predictions([one, one], [other, other], groups={"p": "x", "q": "x"}, resamples=200)
    assert (grouped.n, grouped.units, grouped.unit) == (4, 1, "groups")
    assert groups_of(["p", "q"], None) is None
    assert pool([one, other]).ids == ("p", "q", "p", "q")


def test_tables_that_do_not_belong_together_are_refused() -> None:
    a = table("pq", [0, 1], [0, 1])
    with pytest.raises(DataError, match=r"same 2 pairs of both heads, found 2 that only one of them has \(q, r\)"):
        align(a, table("pr", [0, 1], [0, 1]))
    with pytest.raises(DataError, match=r"equal labels, found 1 pairs labelled otherwise \(q\)"):
        align(a, table("pq", [0, 2], [0, 1]))
    with pytest.raises(DataError, match="expected the classes"):
        align(a, replace(a, classes=("positive", "neutral", "negative")))
    with pytest.raises(DataError, match="expected the classes"):
        pool([a, replace(a, classes=("positive", "neutral", "negative"))])
    with pytest.raises(DataError, match="as many tables of A as of B, found 1 and 0"):
        compare_predictions([a], [])
    with pytest.raises(DataError, match=r"groups: expected one for every pair, found none for 1 \(q\)"):
        compare_predictions([a], [a], groups={"p": "x"})


def test_an_unknown_measure_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown measure 'acuracy'; did you mean 'accuracy'"):
        compare_heads(np.zeros(2, int), np.zeros(2, int), np.zeros(2, int), 2, measure="acuracy")
    with pytest.raises(ValueError, match="expected equal length"):
        compare_heads(np.zeros(2, int), np.zeros(3, int), np.zeros(2, int), 2)


def test_one_and_a_half_points_on_four_thousand_pairs_can_be_told() -> None:
    """Two heads that differ on one pair in nine, as two good heads on the same features do."""
    rng = np.random.default_rng(10)
    labels = np.zeros(4000, dtype=np.int64)
    a, b = np.ones(4000, dtype=np.int64), np.ones(4000, dtype=np.int64)
    a[:2590] = b[:2590] = 0
    a[2590:2840], b[2840:3030] = 0, 0  # 250 against 190: 1.5 points
    order = rng.permutation(4000)
    found = compare_heads(labels[order], a[order], b[order], 3)
    assert found.difference == pytest.approx(0.015)
    assert found.p == pytest.approx(2 * stats.binom.cdf(190, 440, 0.5))
    assert found.is_significant
