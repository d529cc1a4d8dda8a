"""Tables of metrics hold the very numbers, and say what does not exist."""

from typing import Any

import numpy as np
import pytest

from sentifuse.fuse.evaluate import measure
from sentifuse.fuse.report.numbers import by_subset, digits, ends, measures, per_class
from sentifuse.fuse.run import Predictions


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    """40 pairs of classes a and b; c is there by name alone."""
    p = np.random.default_rng(1).random(40)
    predictions = Predictions(
        ids=tuple(f"p{i}" for i in range(40)),
        labels=np.arange(40) % 2,
        probabilities=np.stack([p, 1 - p, np.zeros(40)], 1),
        classes=("a", "b", "c"),
    )
    return measure(predictions, named={"agree": predictions.ids[:35], "conflict": (), "soften": predictions.ids[35:]})


def test_every_measure_stands_beside_its_interval(metrics: dict[str, Any]) -> None:
    rows = {row[0]: row[1:] for row in measures(metrics).rows}
    for title, key in (("accuracy", "accuracy"), ("weighted F1", "f1_weighted"), ("macro F1", "f1_macro")):
        found = metrics["intervals"][key]
        assert rows[title] == (f"{metrics[key]:.4f}", f"[{found['low']:.4f}, {found['high']:.4f}]")
    assert rows["calibration error (ECE)"][0] == f"{metrics['ece']:.4f}"
    assert rows["AUROC"] == ("–", "no pair is labelled c")


def test_a_class_that_does_not_occur_is_named(metrics: dict[str, Any]) -> None:
    grid = per_class(metrics)
    assert [row[0] for row in grid.rows] == ["a", "b", "c"]
    assert grid.rows[0][1] == f"{metrics['per_class']['a']['precision']:.4f}"
    assert sum(int(row[-1]) for row in grid.rows) == 40
    assert grid.rows[2][4] == "–"
    assert grid.notes == ("No pair is labelled c.", "c was never said.")


def test_subsets_without_pairs_are_named_and_small_ones_marked(metrics: dict[str, Any]) -> None:
    grid = by_subset(metrics)
    assert [row[1] for row in grid.rows] == ["35", "5"]
    assert grid.rows[0][2] == digits(metrics["subsets"]["agree"]["accuracy"])
    assert grid.rows[0][3] == ends(metrics["subsets"]["agree"]["intervals"]["accuracy"])
    assert "No pair: text and image labels contradict." in grid.notes
    assert any("too narrow" in note for note in grid.notes)
