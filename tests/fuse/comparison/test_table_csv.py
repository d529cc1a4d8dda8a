"""Every line of the CSV table carries its own number and its own count."""

import csv
import io
from typing import Any

from sentifuse.fuse.comparison.table_csv import to_csv


def lines(document: dict[str, Any], kind: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(io.StringIO(to_csv(document))) if row["kind"] == kind]


def test_a_missing_modality_s_n_is_the_number_of_runs_at_that_rate(compared: Any) -> None:
    cells = [
        {"rate": 0.0, "n_runs": 7, "accuracy": 0.75, "sd": 0.01, "f1_weighted": 0.7},
        {"rate": 0.5, "n_runs": 5, "accuracy": 0.5, "sd": None, "f1_weighted": 0.4},
    ]
    block = {"missing": "text", "rates": [0.0, 0.5], "rows": {"ccr_like": cells}}
    found = lines(compared.document | {"missing": [block]}, "missing")
    assert [(row["name"], row["of"], row["value"], row["sd"], row["n"]) for row in found] == [
        ("ccr_like", "text 0", "0.75", "0.01", "7"),
        ("ccr_like", "text 0.5", "0.5", "", "5"),
    ]


def test_measured_differences_and_subsets_have_counts_of_their_own(compared: Any) -> None:
    document = compared.document
    assert {row["n"] for row in lines(document, "measured")} == {"2"}  # runs
    assert {row["name"]: int(row["n"]) for row in lines(document, "difference")} == {
        name: found["n"] for name, found in document["differences"].items()
    }
    counts = {(row["name"], row["of"]): int(row["n"]) for row in lines(document, "subset")}
    for block in document["subsets"]:
        for name, subsets in block["rows"].items():
            assert {subset: counts[name, subset] for subset in subsets} == {s: f["n"] for s, f in subsets.items()}


def test_a_gap_without_interval_has_empty_ends(compared: Any) -> None:
    gap = {"difference": 0.1, "low": None, "high": None, "groups": 3, "reason": "so"}
    block = {"family": "duplicates", "subsets": {}, "rows": {}, "gap": {"itin": gap, "gmu": None}}
    (row,) = lines(compared.document | {"subsets": [block]}, "gap")
    assert (row["name"], row["value"], row["low"], row["high"], row["n"]) == ("itin", "0.1", "", "", "3")
