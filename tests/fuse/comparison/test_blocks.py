"""Blocks under the table: every test answer is in one subset of a family; curves are means over runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse.fuse.comparison.blocks import _leak_gap, _pooled, missing_blocks
from sentifuse.fuse.comparison.compare import compare
from sentifuse.fuse.comparison.grids import grids_of
from sentifuse.fuse.comparison.measured import Measured, take
from sentifuse.fuse.comparison.table_csv import to_csv
from sentifuse.fuse.measure.statistics import bootstrap
from sentifuse.fuse.measure.subsets import accuracy_gap
from sentifuse.fuse.run import Predictions, RunDirectory
from sentifuse.fuse.tables import points


def test_subsets_of_a_family_are_all_answers_together(compared: Any) -> None:
    for block in compared.document["subsets"]:
        for row, found in block["rows"].items():
            summary = compared.document["rows"][row]
            assert sum(subset["n"] for subset in found.values()) == summary["n_pairs"]
            right = sum(subset["n"] * subset.get("accuracy", 0.0) for subset in found.values())
            expected = sum(run["n"] * run["accuracy"] for run in compared.document["runs"] if run["row"] == row)
            assert right == pytest.approx(expected)


def test_the_gap_of_leaked_answers_is_that_of_the_two_accuracies(
    make_world: Callable[..., Any], request_for: Callable[..., Any]
) -> None:
    twins = {f"p{i}": f"the very same words {i % 30}" for i in range(60)}  # and thirty pairs of their own
    document = compare(request_for(make_world(texts=twins), heads=("text_only",)))
    block = next(block for block in document["subsets"] if block["family"] == "duplicates")
    found, gap = block["rows"]["text_only"], block["gap"]["text_only"]
    assert found["leaked"]["n"] > 3
    assert gap["difference"] == pytest.approx(found["leaked"]["accuracy"] - found["not_leaked"]["accuracy"])
    assert gap["low"] <= gap["difference"] <= gap["high"]
    assert gap["groups"] < found["leaked"]["n"] + found["not_leaked"]["n"]
    (grid,) = [grid for grid in grids_of(document) if "near-duplicate" in grid.title]
    assert grid.headings[-1] == "points [95 %]"
    assert points(gap["difference"]) in grid.rows[0][-1]
    assert f"gap,text_only,leaked less not_leaked,accuracy,{gap['difference']}" in to_csv(document)


def answers(right: list[bool], ids: list[str], seed: int = 0) -> Measured:
    predicted = np.where(right, 0, 1)
    predictions = Predictions(
        ids=tuple(ids), labels=np.zeros(len(ids), np.int64), probabilities=np.eye(2)[predicted], classes=("a", "b")
    )
    return Measured(row="row", run=RunDirectory(Path("row"), {"seed": seed}), predictions=predictions, metrics={})


def halves(n: int = 40) -> tuple[Measured, dict[str, tuple[str, ...]], dict[str, str]]:
    """Answers in groups of four alike, the first half of which leaks."""
    ids = [f"p{i}" for i in range(n)]
    found = answers([i // 4 % 3 > 0 for i in range(n)], ids)
    named = {"leaked": tuple(ids[: n // 2]), "not_leaked": tuple(ids[n // 2 :])}
    return found, named, {id_: str(i // 4) for i, id_ in enumerate(ids)}


def test_the_gap_draws_near_duplicates_together() -> None:
    """Ten groups, not forty answers: an interval over answers would be half as wide."""
    one, named, groups = halves()
    gap = _leak_gap([one], {(0, 0): named}, groups)
    right = one.predictions.predicted == 0
    expected = accuracy_gap(right, np.arange(40) < 20, [groups[id_] for id_ in one.predictions.ids])
    assert gap is not None
    assert (gap["groups"], gap["low"], gap["high"]) == (10, expected.low, expected.high)
    alone = accuracy_gap(right, np.arange(40) < 20)
    assert gap["high"] - gap["low"] > 1.5 * (alone.high - alone.low)


def test_a_subset_s_interval_draws_the_groups_of_the_protocol() -> None:
    one, named, groups = halves()
    predictions = take(one.predictions, named["leaked"])
    ends = {
        drawn is not None: bootstrap(
            predictions.labels, predictions.predicted, 2, groups=drawn, measures=("accuracy",)
        )["accuracy"]
        for drawn in (None, [groups[id_] for id_ in named["leaked"]])
    }
    for drawn in (None, groups):
        found = _pooled([one], {(0, 0): named}, "leaked", drawn)
        expected = ends[drawn is not None]
        assert (found["n"], found["low"], found["high"]) == (20, expected.low, expected.high)
    assert ends[True].low < ends[False].low


def test_where_nothing_leaks_there_is_no_gap(compared: Any) -> None:
    block = next(block for block in compared.document["subsets"] if block["family"] == "duplicates")
    assert set(block["gap"].values()) == {None}
    (grid,) = [grid for grid in grids_of(compared.document) if "near-duplicate" in grid.title]
    assert grid.headings[-1].startswith("not_leaked")


def test_an_empty_subset_has_no_numbers(compared: Any) -> None:
    annotated = compared.document["subsets"][0]
    assert annotated["family"] == "annotated"
    assert all(found["conflict"] == {"n": 0} for found in annotated["rows"].values())


def test_a_curve_is_the_mean_over_the_runs() -> None:
    runs = [
        [{"missing": "text", "rate": rate, "accuracy": value + rate, "f1_weighted": 0.5} for rate in (0.0, 0.1)]
        for value in (0.5, 0.7)
    ]
    (block,) = missing_blocks({"head": runs})
    assert (block["missing"], block["rates"]) == ("text", [0.0, 0.1])
    assert [cell["accuracy"] for cell in block["rows"]["head"]] == pytest.approx([0.6, 0.7])
    assert block["rows"]["head"][0]["n_runs"] == 2
