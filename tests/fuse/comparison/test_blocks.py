"""Blocks under the table: every test answer is in one subset of a family; curves are means over runs."""

from typing import Any

import pytest

from sentifuse.fuse.comparison.blocks import missing_blocks


def test_subsets_of_a_family_are_all_answers_together(compared: Any) -> None:
    for block in compared.document["subsets"]:
        for row, found in block["rows"].items():
            summary = compared.document["rows"][row]
            assert sum(subset["n"] for subset in found.values()) == summary["n_pairs"]
            right = sum(subset["n"] * subset.get("accuracy", 0.0) for subset in found.values())
            expected = sum(run["n"] * run["accuracy"] for run in compared.document["runs"] if run["row"] == row)
            assert right == pytest.approx(expected)


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
