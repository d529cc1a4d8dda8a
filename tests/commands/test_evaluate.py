"""What `evaluate` prints: no accuracy without its interval and n, and how often the part was opened."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentifuse.commands.evaluate import _by_rate, _report

Type = Callable[..., Any]


def test_numbers_stand_beside_their_intervals(type_command: Type, project: Path) -> None:
    here = ("--artifacts", project)
    document = type_command("evaluate", "--split", "test", "--json", *here).document
    typed = type_command("evaluate", "--split", "test", *here)
    assert typed.code == 0, typed.err
    ends = document["intervals"]["accuracy"]
    assert f"accuracy {document['accuracy']:.4f} [{ends['low']:.4f}, {ends['high']:.4f}]" in typed.out
    assert f"in brackets: 95% intervals, bootstrap over {document['n']} pairs" in typed.out
    assert f"AUROC {document['auroc']:.4f}" in typed.out
    times = document["evaluations"] + 1
    assert f"the test part was opened {times} times for this run (counted in run.json)" in typed.out
    assert all(len(line) <= 130 for line in typed.out.splitlines() if not line.startswith("files:"))


def test_every_subset_with_pairs_is_a_row_with_n_and_interval(type_command: Type, project: Path) -> None:
    here = ("--artifacts", project)
    document = type_command("evaluate", "--split", "test", "--json", *here).document
    typed = type_command("evaluate", "--split", "test", *here)
    assert document["subsets"]["agree"]["n"] + document["subsets"]["soften"]["n"] == document["n"]
    for figures in document["subsets"].values():
        if figures["n"]:
            assert re.search(rf"{figures['title']} +{figures['n']} +{figures['accuracy']:.4f} +\[[\d., ]+\]", typed.out)
        else:
            assert figures["title"] in typed.out


def test_what_cannot_be_told_is_said() -> None:
    unknown = {"level": 0.95, "units": 1, "unit": "pairs", "low": None, "high": None}
    metrics = {
        "head": "h",
        "dataset": "d",
        "split": "test",
        "protocol": "random",
        "seed": 0,
        "fold": 3,
        "rule": "given",
        "n": 1,
        "excluded": {},
        "classes": ["no", "yes"],
        "per_class": {},
        "confusion": [[1, 0], [0, 0]],
        "absent": {"labels": ["yes"], "predictions": ["yes"]},
        **dict.fromkeys(("accuracy", "f1_weighted", "f1_macro", "balanced_accuracy"), 1.0),
        "intervals": {"accuracy": unknown, "f1_macro": unknown},
        "auroc": None,
        "auroc_reason": "no pair is labelled yes",
        "nll": 0.1,
        "brier": 0.1,
        "ece": 0.1,
        "bins": 15,
        "ece_if_calibrated": {"mean": 0.1, "q95": 0.2},
        "subsets": {},
        "evaluations": 1,
        "files": {},
    }
    text = "\n".join(_report(metrics))
    assert "h on d test (random, seed 0, fold 3, rule given): n = 1" in text
    assert "accuracy 1.0000 [unknown]" in text
    assert "AUROC none (no pair is labelled yes)" in text
    assert "yes was never predicted" in text
    assert "the test part was opened once for this run" in text


def test_rows_of_missing_modalities_have_intervals_too() -> None:
    row = {"rate": 0.5, "n": 80, "n_missing": 40, "accuracy": 0.7, "f1_weighted": 0.6}
    rows = [
        row | {"filling": "own", "accuracy_low": 0.6, "accuracy_high": 0.78},
        row | {"filling": "zero", "accuracy_low": None, "accuracy_high": None},
    ]
    lines = _by_rate(rows)
    assert lines[0] == "accuracy ± half of its 95% interval / weighted F1; n = 80"
    assert lines[-1].split() == ["0.5000", "40", "0.7000", "±", "0.0900", "/", "0.6000", "0.7000", "/", "0.6000"]
