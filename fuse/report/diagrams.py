"""Diagrams of one part's metrics: accuracy by subset, reliability. Draws numbers as they are and computes none."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from sentifuse.fuse.comparison.pictures import COLOURS

FEW = 30  # pairs: intervals of fewer are too narrow
BLUE, ORANGE = COLOURS[0], COLOURS[1]
GREY = "#8a8a8a"


def shown_subsets(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The subsets that have pairs."""
    return {name: found for name, found in metrics["subsets"].items() if found["n"]}


def draw_subsets(metrics: Mapping[str, Any]) -> Figure | None:
    """A bar per subset with its interval, all pairs on top; bars of few pairs are hatched. None without subsets."""
    found = shown_subsets(metrics)
    if not found:
        return None
    rows = [("all pairs", metrics), *((str(one["title"]), one) for one in found.values())]
    figure = Figure(figsize=(10.0, 1.3 + 0.62 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, row) in enumerate(rows):
        accuracy, ends = 100 * row["accuracy"], row["intervals"]["accuracy"]
        is_few = row["n"] < FEW
        axes.barh(
            place,
            accuracy,
            height=0.62,
            color="white" if is_few else GREY if place == 0 else BLUE,
            edgecolor=GREY if place == 0 else BLUE,
            hatch="//" if is_few else None,
            linewidth=1.5,
            alpha=0.75,
        )
        if ends["low"] is not None:
            low, high = 100 * ends["low"], 100 * ends["high"]
            axes.plot([low, high], [place, place], color="black", linewidth=2.2)
            axes.plot([low, high], [place, place], "|", color="black", markersize=13, markeredgewidth=2.2)
        axes.annotate(
            f"{accuracy:.1f}",
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=14,
        )
    axes.axvline(100 * metrics["accuracy"], color=GREY, linewidth=1.2, linestyle=(0, (2, 3)), zorder=0)
    axes.set_yticks(range(len(rows)), [f"{title}\n(n = {row['n']:,})" for title, row in rows], fontsize=13)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy, % (line: 95 % interval)", fontsize=13)
    axes.tick_params(axis="x", labelsize=12)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def draw_reliability(metrics: Mapping[str, Any]) -> Figure:
    """Accuracy against confidence, bin by bin, and how many pairs each bin has below it."""
    bins = metrics["reliability"]
    figure = Figure(figsize=(7.0, 6.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1.0))
    upper.plot([0, 1], [0, 1], color="black", linewidth=1.2, linestyle="--", label="calibrated")
    for one in bins:
        if not one["n"]:
            continue
        left, width = one["low"], one["high"] - one["low"]
        upper.bar(left, one["accuracy"], width, align="edge", color=BLUE, edgecolor="white", alpha=0.75)
        upper.plot([one["confidence"]] * 2, [one["accuracy"], one["confidence"]], color=ORANGE, linewidth=2.4)
        upper.plot(one["confidence"], one["confidence"], "_", color=ORANGE, markersize=12, markeredgewidth=2.4)
    upper.bar(0, 0, 0, color=BLUE, alpha=0.75, label="accuracy in the bin")
    upper.plot([], [], color=ORANGE, linewidth=2.4, label="gap to its mean confidence")
    upper.set_ylim(0, 1)
    upper.set_ylabel("accuracy", fontsize=14)
    upper.legend(fontsize=13, framealpha=0.85, edgecolor="none", loc="upper left")
    expected = metrics["ece_if_calibrated"]
    upper.set_title(
        f"ECE {metrics['ece']:.4f}; calibrated: {expected['mean']:.4f} on average, 95 % below {expected['q95']:.4f}",
        fontsize=13,
        loc="left",
    )
    lefts, widths = [one["low"] for one in bins], [one["high"] - one["low"] for one in bins]
    lower.bar(lefts, [one["n"] for one in bins], widths, align="edge", color=GREY, edgecolor="white")
    lower.set_ylabel("pairs", fontsize=14)
    lower.set_xlabel("confidence: the probability of the answer", fontsize=14)
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        axes.tick_params(labelsize=12)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure
