"""history.csv of a run, read back as columns of numbers, and its curves. Trains nothing."""

import csv
import io
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentifuse import DataError
from sentifuse.data import files
from sentifuse.fuse.comparison.pictures import COLOURS
from sentifuse.fuse.run import HINT, HISTORY_FILE, RunDirectory

Columns = dict[str, list[float | None]]

WORDS = {"True": 1.0, "False": 0.0}
NO_CURVES = {"epoch", "seconds", "is_best"}
DASHES = ("-", "--", ":", "-.")
MARKERS = "os^D"
PANELS_PER_ROW = 2


def read_history(run: RunDirectory) -> Columns:
    """Column → a number per epoch (or per candidate, of a head with a closed fit); None for an empty cell.

    Raises
    ------
    DataError
        The file is gone, torn, or holds something else than numbers.
    """
    path = run.path / HISTORY_FILE
    try:
        rows = list(csv.reader(io.StringIO(files.read_bytes(path, hint=HINT).decode("utf-8")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a table of numbers, found {error}. {HINT}") from error
    if len(rows) < 2 or "epoch" not in rows[0]:
        raise DataError(f"{path}: expected a heading with `epoch` and a row per epoch, found {len(rows)} lines. {HINT}")
    expected = run.document.get("epochs_run", len(rows) - 1)
    if len(rows) - 1 != expected:
        raise DataError(f"{path}: expected {expected} rows as run.json says, found {len(rows) - 1}. {HINT}")
    columns: Columns = {name: [] for name in rows[0]}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise DataError(f"{path}: line {number}: expected {len(rows[0])} cells, found {len(row)}. {HINT}")
        for name, cell in zip(rows[0], row, strict=True):
            columns[name].append(_number(cell, path_and_line=f"{path}: line {number}, {name}"))
    return columns


def draw_history(history: Mapping[str, Sequence[float | None]], best_epoch: int) -> Figure | None:
    """Losses, accuracies, and every other column in a panel of its own; None where there is one row only.

    The chosen epoch is a vertical line. Of a head with a closed fit each row is a penalty tried, by its strength C.
    """
    epochs = [epoch for epoch in history["epoch"] if epoch is not None]
    if len(epochs) < 2:
        return None
    panels = panels_of(history)
    n_rows = -(-len(panels) // PANELS_PER_ROW)
    figure = Figure(figsize=(10.0, 3.7 * n_rows), layout="constrained")
    places = figure.subplots(n_rows, PANELS_PER_ROW, squeeze=False).ravel()
    xs: Sequence[float | None] = history["c"] if "c" in history else history["epoch"]
    best = xs[best_epoch - 1] if 1 <= best_epoch <= len(xs) else None
    for axes, (title, names) in zip(places, panels.items(), strict=False):
        for place, name in enumerate(names):
            _line(axes, xs, history[name], name.replace("_", " "), place)
        if best is not None:
            axes.axvline(best, color="#666666", linewidth=1.2, linestyle=(0, (2, 3)))
        axes.set_title(title, fontsize=14, loc="left")
        axes.set_xlabel("C, the inverse penalty" if "c" in history else "epoch", fontsize=13)
        axes.tick_params(labelsize=12)
        if "c" in history and all(x is not None and x > 0 for x in xs):
            axes.set_xscale("log")
        elif "c" not in history:
            axes.xaxis.get_major_locator().set_params(integer=True)
        if len(names) > 1:
            axes.legend(fontsize=12, frameon=False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    return figure


def panels_of(history: Mapping[str, Sequence[float | None]]) -> dict[str, tuple[str, ...]]:
    """Title → columns: losses together, accuracies together, each other column alone."""
    shown = [name for name in history if name not in NO_CURVES and name != "c"]
    losses = tuple(name for name in shown if name.endswith("loss"))
    accuracies = tuple(name for name in shown if name.endswith("accuracy"))
    panels = {"loss": losses, "accuracy on validation" if accuracies == ("val_accuracy",) else "accuracy": accuracies}
    panels |= {name.replace("_", " "): (name,) for name in shown if name not in (*losses, *accuracies)}
    return {title: names for title, names in panels.items() if names}


def _line(axes: Axes, xs: Sequence[float | None], ys: Sequence[float | None], label: str, place: int) -> None:
    found = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
    axes.plot(
        [x for x, _ in found],
        [y for _, y in found],
        label=label,
        color=COLOURS[place % len(COLOURS)],
        linestyle=DASHES[place % len(DASHES)],
        marker=MARKERS[place % len(MARKERS)],
        markersize=6,
        linewidth=2.2,
    )


def _number(cell: str, *, path_and_line: str) -> float | None:
    if not cell:
        return None
    if cell in WORDS:
        return WORDS[cell]
    try:
        return float(cell)
    except ValueError as error:
        raise DataError(f"{path_and_line}: expected a number, found {cell[:40]!r}. {HINT}") from error
