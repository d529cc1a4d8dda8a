"""A part's metrics as tables: the very numbers of metrics-<split>.json, in the four digits that `evaluate` prints."""

from collections.abc import Mapping
from typing import Any

from sentifuse.fuse.measure.resampling import TITLES
from sentifuse.fuse.report.diagrams import FEW, shown_subsets
from sentifuse.fuse.tables import Grid


def measures(metrics: Mapping[str, Any]) -> Grid:
    """Every measure of the whole part, with its interval where it has one."""
    intervals = metrics["intervals"]
    rows = [(title, digits(metrics[name]), ends(intervals[name])) for name, title in TITLES.items()]
    area = metrics["auroc"]
    rows += [
        ("AUROC", "–" if area is None else digits(area), "" if area is not None else metrics["auroc_reason"]),
        ("negative log-likelihood", digits(metrics["nll"]), ""),
        ("Brier score", digits(metrics["brier"]), ""),
        ("calibration error (ECE)", digits(metrics["ece"]), ""),
    ]
    drawn, by_chance = intervals["accuracy"], metrics["ece_if_calibrated"]
    return Grid(
        title=f"Metrics of {metrics['n']:,} pairs",
        headings=("measure", "value", f"{drawn['level']:.0%} interval"),
        rows=tuple(rows),
        notes=(
            f"Intervals: bootstrap over {drawn['units']:,} {drawn['unit']}; of this very trained head, not of another "
            "training.",
            f"A calibrated head with these confidences would show an ECE of {digits(by_chance['mean'])} on average and "
            f"seldom more than {digits(by_chance['q95'])}.",
        ),
    )


def per_class(metrics: Mapping[str, Any]) -> Grid:
    """Precision, recall, F1 and AUROC of each class."""
    areas = metrics.get("auroc_per_class", {})
    said = [sum(row[i] for row in metrics["confusion"]) for i in range(len(metrics["classes"]))]
    rows = [
        (
            name,
            *(digits(figures[key]) for key in ("precision", "recall", "f1")),
            "–" if areas.get(name) is None else digits(areas[name]),
            f"{figures['support']:,}",
            f"{n:,}",
        )
        for (name, figures), n in zip(metrics["per_class"].items(), said, strict=True)
    ]
    return Grid(
        title="By class",
        headings=("class", "precision", "recall", "F1", "AUROC", "pairs", "times said"),
        rows=tuple(rows),
        notes=(
            *(f"No pair is labelled {name}." for name in metrics["absent"]["labels"]),
            *(f"{name} was never said." for name in metrics["absent"]["predictions"]),
        ),
    )


def by_subset(metrics: Mapping[str, Any]) -> Grid:
    """Accuracy and weighted F1 of each subset that has pairs; the others by name."""
    found = shown_subsets(metrics)
    rows = [
        (
            str(one["title"]),
            f"{one['n']:,}",
            digits(one["accuracy"]),
            ends(one["intervals"]["accuracy"]),
            digits(one["f1_weighted"]),
        )
        for one in found.values()
    ]
    notes = [f"No pair: {one['title']}." for one in metrics["subsets"].values() if not one["n"]]
    if any(one["n"] < FEW for one in found.values()):
        notes.append(f"Subsets of fewer than {FEW} pairs (hatched): their intervals are too narrow.")
    return Grid(
        title="By subset",
        headings=("subset", "pairs", "accuracy", "95 % interval", "weighted F1"),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def digits(value: float) -> str:
    """
    >>> digits(0.71105)
    '0.7110'
    """
    return f"{value:.4f}"


def ends(interval: Mapping[str, Any]) -> str:
    """
    >>> ends({"low": 0.6, "high": 0.75}), ends({"low": None, "high": None})
    ('[0.6000, 0.7500]', '[unknown]')
    """
    return "[unknown]" if interval["low"] is None else f"[{digits(interval['low'])}, {digits(interval['high'])}]"
