"""The numbers of a table follow from the runs' own, by the statistics that the notes name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError
from sentifuse.fuse.comparison.measured import Measured
from sentifuse.fuse.comparison.rows import (
    by_row,
    compare_rows,
    differences,
    has_pooled_rows,
    notes_on_rows,
    summarise,
    test_to_train,
)
from sentifuse.fuse.measure.paired import compare_heads, compare_predictions
from sentifuse.fuse.measure.statistics import bootstrap, spread
from sentifuse.fuse.run import Predictions, RunDirectory

test_to_train.__test__ = False  # a function of the project, not a test

CLASSES = ("no", "yes")
RATE = {"good": 0.9, "fair": 0.7, "poor": 0.5}


def measured(row: str, seed: int, fold: int = 0, n: int = 60, skip: int = 0, digest: str = "") -> Measured:
    rng = np.random.default_rng([seed, fold, len(row), ord(row[0])])
    labels = np.random.default_rng([seed, fold]).integers(0, 2, n)
    predicted = np.where(rng.random(n) < RATE[row], labels, 1 - labels)
    probabilities = np.eye(2)[predicted]
    ids = tuple(f"{fold}-{i + (0 if digest else seed)}" for i in range(n))  # test parts of seeds overlap
    kept = slice(skip, None)
    document = {
        "seed": seed,
        "fold": fold,
        "split_digest": digest or f"{seed}-{fold}",
        "timings": {"fit_s": 1.0 + seed},
        "samples": {"train": {"n": 8 * n}},
        "parameters": 3,
        "threads": 1,
    }
    predictions = Predictions(ids=ids[kept], labels=labels[kept], probabilities=probabilities[kept], classes=CLASSES)
    accuracy = float((predicted == labels)[kept].mean())
    metrics = dict.fromkeys(("accuracy", "f1_weighted", "f1_macro", "balanced_accuracy"), accuracy)
    return Measured(row=row, run=RunDirectory(Path(row), document), predictions=predictions, metrics=metrics)


def table(seeds: int = 3, folds: tuple[int, ...] = (0,), rows: tuple[str, ...] = ("good", "fair", "poor")) -> Any:
    return by_row([measured(row, seed, fold) for row in rows for seed in range(seeds) for fold in folds])


def test_over_seeds_the_interval_is_that_of_spread_with_the_ratio_of_test_to_train() -> None:
    runs = table()["fair"]
    found = summarise(runs, None)
    expected = spread([one.metrics["accuracy"] for one in runs], test_to_train=1 / 8)
    assert found["accuracy"] == {
        "value": expected.mean,
        "sd": expected.sd,
        "low": expected.low,
        "high": expected.high,
    }
    assert (found["interval"], found["ratio"], found["n_runs"]) == ("t", 1 / 8, 3)
    assert found["seconds"]["mean"] == 2.0


def test_an_interval_of_a_share_ends_where_shares_do() -> None:
    runs = table()["good"]
    expected = spread([one.metrics["accuracy"] for one in runs], test_to_train=1 / 8)
    assert expected.high is not None
    assert expected.high > 1.0
    found = summarise(runs, None)["accuracy"]
    assert (found["low"], found["high"]) == (expected.low, 1.0)


def test_two_runs_have_a_spread_and_no_interval() -> None:
    found = summarise(table(seeds=2)["good"], None)["accuracy"]
    assert found["sd"] > 0.0
    assert (found["low"], found["high"]) == (None, None)


def test_over_runs_of_one_split_the_interval_is_that_of_the_pairs() -> None:
    """Three trainings may agree to the digit; the test part stays as small as it is."""
    one = measured("good", 0)
    found = summarise([one, one, one], None)
    alone = summarise([one], None)
    assert (found["interval"], found["ratio"], found["unit"]) == ("bootstrap", None, "60 pairs")
    assert found["accuracy"]["sd"] == pytest.approx(0.0)
    assert found["accuracy"]["low"] < found["accuracy"]["value"] < found["accuracy"]["high"]
    assert found["accuracy"]["high"] - found["accuracy"]["low"] == pytest.approx(
        alone["accuracy"]["high"] - alone["accuracy"]["low"], rel=0.05
    )


def test_runs_of_several_splits_also_have_the_interval_over_pairs() -> None:
    runs = table()["fair"]
    labels = np.concatenate([one.predictions.labels for one in runs])
    predicted = np.concatenate([one.predictions.predicted for one in runs])
    ids = [id_ for one in runs for id_ in one.predictions.ids]
    expected = bootstrap(labels, predicted, 2, groups=ids, measures=("accuracy",))["accuracy"]
    found = summarise(runs, None)
    assert found["over_pairs"] == {"low": expected.low, "high": expected.high}
    assert found["interval"] == "t"


def test_a_class_without_a_test_pair_is_told() -> None:
    runs = table()["good"]
    lacking = [replace(runs[0], metrics={**runs[0].metrics, "absent": {"labels": ["neutral"]}}), *runs[1:]]
    assert notes_on_rows({"good": lacking}) == [
        "no test pair is labelled neutral in 1 of 3 test parts: macro averages leave it out"
    ]


def test_over_folds_every_pair_counts_once_and_the_interval_is_a_bootstrap() -> None:
    runs = table(seeds=1, folds=(1, 2, 3))["fair"]
    found = summarise(runs, None)
    labels = np.concatenate([one.predictions.labels for one in runs])
    predicted = np.concatenate([one.predictions.predicted for one in runs])
    expected = bootstrap(labels, predicted, 2)["accuracy"]
    assert (found["n_pairs"], found["n_different"], found["interval"]) == (180, 180, "bootstrap")
    assert found["accuracy"]["value"] == pytest.approx((labels == predicted).mean())
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == (expected.low, expected.high)


def test_groups_are_drawn_whole() -> None:
    runs = table(seeds=1, folds=(1, 2))["fair"]
    groups = {id_: id_[-1] for one in runs for id_ in one.predictions.ids}
    assert summarise(runs, groups)["unit"] == "10 groups"


def test_rows_are_compared_pair_by_pair() -> None:
    rows = table()
    found = compare_rows(rows["good"], rows["poor"], None)
    both = [[one.predictions for one in rows[name]] for name in ("good", "poor")]
    assert found == compare_predictions(*both)
    assert found.n == 180


def test_only_seeds_and_pairs_that_both_have_are_compared() -> None:
    a = [measured("good", seed) for seed in (0, 1)]
    b = [measured("poor", seed, skip=10) for seed in (1, 2)]
    found = compare_rows(a, b, None)
    one, other = a[1].predictions, b[0].predictions
    assert found == compare_heads(one.labels[10:], one.predicted[10:], other.predicted, 2)
    assert compare_rows(a[:1], b[1:], None) is None


def test_the_claim_alone_is_not_corrected() -> None:
    found = differences(table(), baseline="poor", claim="good", groups=None)
    assert (found["good"]["p_adjusted"], found["good"]["is_claim"]) == (None, True)
    assert found["fair"]["p_adjusted"] == found["fair"]["p"]  # one other comparison: nothing to correct
    without = differences(table(), baseline="poor", claim=None, groups=None)
    assert without["good"]["n_tests"] == without["fair"]["n_tests"] == 2
    assert without["good"]["p_adjusted"] == pytest.approx(2 * without["good"]["p"])
    assert without["good"]["verdict"].startswith("good is better than poor: +")
    assert list(without) == ["good", "fair"]


def test_a_claim_or_baseline_that_is_no_row_is_refused() -> None:
    for options in ({"baseline": "x", "claim": None}, {"baseline": "poor", "claim": "x"}):
        with pytest.raises(ConfigError, match="unknown row 'x'"):
            differences(table(), groups=None, **options)


def test_rows_that_lack_runs_or_pairs_are_told() -> None:
    runs = [measured("good", 0), measured("good", 1), measured("poor", 0, skip=10)]
    notes = notes_on_rows(by_row(runs))
    assert notes[0] == "poor lacks 1 of 2 runs (seed 1)"
    assert "poor gives no answer to 10 of 60 test pairs" in notes[1]
    assert notes_on_rows(table()) == []


def test_a_table_has_one_kind_of_interval() -> None:
    """A row of which one run survived has none beside rows of several splits, rather than another kind."""
    rows = {"good": table()["good"], "fair": table()["fair"][:1]}
    assert not has_pooled_rows(rows.values())
    lonely = summarise(rows["fair"], None, is_pooled=False)
    assert (lonely["interval"], lonely["accuracy"]["low"], lonely["accuracy"]["high"]) == ("t", None, None)


def test_paired_differences_draw_the_groups_that_they_are_given() -> None:
    rows = table()
    ids = {id_ for runs in rows.values() for one in runs for id_ in one.predictions.ids}
    groups = {id_: str(int(id_.partition("-")[2]) // 7) for id_ in ids}
    found = differences(rows, baseline="poor", claim=None, groups=groups)["good"]
    expected = compare_predictions(
        [one.predictions for one in rows["good"]], [one.predictions for one in rows["poor"]], groups=groups
    )
    assert found["units"] == expected.units == len({*groups.values()})
    assert (found["low"], found["high"], found["p"]) == (expected.low, expected.high, expected.p)
    over = [a.metrics["accuracy"] - b.metrics["accuracy"] for a, b in zip(rows["good"], rows["poor"], strict=True)]
    assert found["over_runs"]["low"] == spread(over, test_to_train=1 / 8).low
