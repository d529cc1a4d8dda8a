"""Pictures of a comparison, readable at half their size: a forest plot, curves of a sweep, curves of what is missing.

Draws what it is given and computes nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sentifuse.data import files
from sentifuse.fuse.embed import to_png

DPI = 150
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#b8a800")  # Okabe and Ito's
MARKERS = "osD^vPX*"
DOT_DROP = 0.27  # of the distance between two rows


def draw_forest(path: Path, document: Mapping[str, Any], title: str) -> Path:
    """Accuracy of every row with its interval, a small dot per run, and a line at the baseline's mean."""
    rows = list(document["rows"].items())
    longest = max(len(name) for name, _ in rows)
    figure = Figure(figsize=(8.0 + 0.07 * longest, 1.9 + 0.52 * len(rows)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    runs = document["runs"]
    for place, (name, row) in enumerate(rows):
        found = row["accuracy"]
        is_baseline = name == document["baseline"]
        colour = COLOURS[1] if is_baseline else COLOURS[0]
        values = [100 * run["accuracy"] for run in runs if run["row"] == name]
        if found["low"] is not None:
            axes.plot([100 * found["low"], 100 * found["high"]], [place, place], color=colour, linewidth=3)
        axes.plot(100 * found["value"], place, "D", color=colour, markersize=10, markeredgecolor="white")
        # Dots below the bar, where neither bar nor diamond covers them.
        below = [place + DOT_DROP] * len(values)
        axes.plot(values, below, "o", color=colour, alpha=0.6, markersize=6, markeredgewidth=0)
        axes.annotate(
            f"{100 * found['value']:.1f}",
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=14,
        )
        if is_baseline:
            axes.axvline(100 * found["value"], color=colour, linewidth=1.2, linestyle="--", zorder=0)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=14)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(*_limits(document))
    has_ends = any(row["accuracy"]["low"] is not None for _, row in rows)
    what = "diamond: mean, bar: 95 % interval, dots: runs" if has_ends else "diamond: mean, dots: runs"
    axes.set_xlabel(f"accuracy on test, %  ({what})", fontsize=13)
    axes.tick_params(axis="x", labelsize=13)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, fontsize=13, loc="left")
    _clean(axes, grid="x")
    return _write(path, figure)


def draw_sweep(
    path: Path,
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    key: str,
    published: Mapping[str, Any] | None,
    title: str,
) -> Path:
    """Mean ± sd of test accuracy per value of a setting; a paper's known points in another colour, marked.

    Parameters
    ----------
    curves
        Head → points: value, mean, sd (None for one run).
    """
    figure = Figure(figsize=(8.5, 5.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for number, (head, points) in enumerate(curves.items()):
        axes.errorbar(
            [point["value"] for point in points],
            [100 * point["mean"] for point in points],
            yerr=[100 * (point["sd"] or 0.0) for point in points],
            label=f"{head}, here: mean ± sd",
            **_style(number),
        )
    if published is not None and published["points"]:
        xs, ys = zip(*published["points"], strict=True)
        axes.plot(xs, [100 * y for y in ys], "*", color="black", markersize=18, label="published† (see title)")
    axes.set_xticks([point["value"] for point in next(iter(curves.values()))])
    axes.set_xlabel(key, fontsize=14)
    axes.set_ylabel("accuracy on test, %", fontsize=14)
    axes.tick_params(labelsize=13)
    axes.set_title(title, fontsize=12, loc="left")
    axes.legend(fontsize=13, frameon=False)
    _clean(axes, grid="y")
    return _write(path, figure)


def draw_missing(path: Path, blocks: Sequence[Mapping[str, Any]], title: str) -> Path:
    """A panel per kind of missing modality, a curve per head."""
    figure = Figure(figsize=(5.2 * len(blocks) + 3.0, 5.4), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
    for axes, block in zip(panels, blocks, strict=True):
        for number, (row, cells) in enumerate(block["rows"].items()):
            xs, ys = [cell["rate"] for cell in cells], [100 * cell["accuracy"] for cell in cells]
            axes.plot(xs, ys, label=row, **_style(number))
        axes.set_title("either, by lot" if block["missing"] == "random" else block["missing"], fontsize=14)
        axes.set_xlabel("share of pairs without it", fontsize=13)
        axes.tick_params(labelsize=13)
        _clean(axes, grid="y")
    panels[0].set_ylabel("accuracy on test, %", fontsize=14)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=12, frameon=False, loc="outside right center")
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    return _write(path, figure)


def _limits(document: Mapping[str, Any]) -> tuple[float, float]:
    """Room for all runs, and for the intervals unless few runs make them very wide."""
    values = [100 * run["accuracy"] for run in document["runs"]]
    low, high = min(values), max(values)
    reach = max(4.0, high - low)
    ends = [
        100 * row["accuracy"][end]
        for row in document["rows"].values()
        for end in ("low", "high")
        if row["accuracy"][end] is not None
    ]
    return max([0.0, low - reach, min([low, *ends])]) - 0.5, min([100.0, high + reach, max([high, *ends])]) + 0.5


def _style(number: int) -> dict[str, Any]:
    dashes = ("-", "--", ":")[number // len(COLOURS) % 3]
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": dashes,
        "linewidth": 2.2,
        "markersize": 8,
    }


def _clean(axes: Any, *, grid: str) -> None:
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _write(path: Path, figure: Figure) -> Path:
    files.write_bytes(path, to_png(figure))
    return path
