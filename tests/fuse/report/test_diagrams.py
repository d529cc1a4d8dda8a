"""Diagrams show the very numbers of the metrics, small subsets as such, and only bins that have pairs."""

from typing import Any

import numpy as np
import pytest

from sentifuse.fuse.measure.calibration import calibrate
from sentifuse.fuse.report.diagrams import draw_reliability, draw_subsets


def row(n: int, accuracy: float, low: float | None, high: float | None, title: str = "") -> dict[str, Any]:
    return {"n": n, "accuracy": accuracy, "title": title, "intervals": {"accuracy": {"low": low, "high": high}}}


def test_bars_are_accuracies_and_lines_are_intervals() -> None:
    subsets = {
        "agree": row(80, 0.75, 0.65, 0.85, "equal"),
        "few": row(5, 0.4, 0.1, 0.7, "few"),
        "none": {"n": 0, "title": "none"},
        "one": row(1, 1.0, None, None, "one"),
    }
    figure = draw_subsets(row(86, 0.7, 0.6, 0.8) | {"subsets": subsets})
    assert figure is not None
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [70.0, 75.0, 40.0, 100.0]
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [False, False, True, True]
    drawn = [
        list(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 2.2 and line.get_marker() == "None"
    ]
    assert drawn == pytest.approx(np.array([[60.0, 80.0], [65.0, 85.0], [10.0, 70.0]]))
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "all pairs\n(n = 86)",
        "equal\n(n = 80)",
        "few\n(n = 5)",
        "one\n(n = 1)",
    ]


def test_no_subset_no_diagram() -> None:
    assert draw_subsets(row(9, 0.5, 0.2, 0.8) | {"subsets": {"agree": {"n": 0, "title": "equal"}}}) is None


def test_reliability_has_a_bar_per_bin_with_pairs_and_all_pairs_below() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet((2.0, 1.0, 1.0), 200)
    metrics = calibrate(rng.integers(0, 3, 200), probabilities)
    figure = draw_reliability(metrics)
    upper, lower = figure.axes
    bins = [one for one in metrics["reliability"] if one["n"]]
    assert [bar.get_height() for bar in upper.patches][:-1] == [one["accuracy"] for one in bins]  # the last: legend
    assert sum(bar.get_height() for bar in lower.patches) == 200
    assert f"ECE {metrics['ece']:.4f}" in upper.get_title(loc="left")
