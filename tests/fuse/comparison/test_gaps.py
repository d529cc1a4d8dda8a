"""Kept measurements are read again for the very pairs, labels and rates that they were made on, and no other."""

import json
from pathlib import Path
from typing import Any

import pytest

from sentifuse.fuse.comparison.gaps import FILE, RATES, digest_pairs, read_gaps
from sentifuse.fuse.run import RunDirectory

IDS, LABELS = ("a", "b"), {"a": "good", "b": "bad"}
ROWS = [{"missing": "text", "rate": 0.0, "accuracy": 1.0}]


def keep(folder: Path, **changes: Any) -> RunDirectory:
    document = {"measured_on": digest_pairs(IDS, LABELS), "rates": list(RATES), "rows": ROWS} | changes
    (folder / FILE).write_text(json.dumps(document), encoding="utf-8")
    return RunDirectory(folder, {})


def test_what_was_measured_is_read_again(tmp_path: Path) -> None:
    assert read_gaps(keep(tmp_path), digest_pairs(IDS, LABELS)) == ROWS
    assert read_gaps(keep(tmp_path), digest_pairs(("b", "a"), LABELS)) == ROWS


def test_other_pairs_or_labels_are_measured_anew(tmp_path: Path) -> None:
    run = keep(tmp_path)
    assert read_gaps(run, digest_pairs(("a",), LABELS)) is None
    assert read_gaps(run, digest_pairs(IDS, LABELS | {"b": "good"})) is None


@pytest.mark.parametrize("changes", [{"rates": [0.0]}, {"rows": []}, {"rows": None}, {"measured_on": ""}])
def test_what_does_not_fit_is_measured_anew(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert read_gaps(keep(tmp_path, **changes), digest_pairs(IDS, LABELS)) is None


def test_gaps_of_other_inputs_than_the_answers_are_measured_anew(tmp_path: Path) -> None:
    metrics = {"inputs": {"labels": "", "features": {"tokens": "a"}}}
    (tmp_path / "metrics-test.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert read_gaps(keep(tmp_path, inputs={"tokens": "a"}), digest_pairs(IDS, LABELS)) == ROWS
    assert read_gaps(keep(tmp_path, inputs={"tokens": "b"}), digest_pairs(IDS, LABELS)) is None
    assert read_gaps(keep(tmp_path), digest_pairs(IDS, LABELS)) == ROWS  # from before they were recorded


def test_a_torn_file_and_none_are_measured_anew(tmp_path: Path) -> None:
    run = keep(tmp_path)
    (tmp_path / FILE).write_bytes(b"{")
    assert read_gaps(run, digest_pairs(IDS, LABELS)) is None
    (tmp_path / FILE).unlink()
    assert read_gaps(run, digest_pairs(IDS, LABELS)) is None
