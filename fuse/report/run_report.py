"""The report of one run on one part of its split: everything that a reader needs to believe or doubt its numbers.

Measures nothing itself. A report shows single pairs, so writing one is a look at the part, and is counted.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sentifuse
from sentifuse.data import files
from sentifuse.fuse.explain.errors import rank_errors
from sentifuse.fuse.explain.typeset import drawable
from sentifuse.fuse.figures import draw_confusion
from sentifuse.fuse.measure.resampling import TITLES
from sentifuse.fuse.report.attention import explain_some
from sentifuse.fuse.report.diagrams import draw_reliability, draw_subsets, shown_subsets
from sentifuse.fuse.report.examples import show_pairs
from sentifuse.fuse.report.history import draw_history, read_history
from sentifuse.fuse.report.numbers import by_subset, digits, ends, measures, per_class
from sentifuse.fuse.report.page import check_out, render, write_page
from sentifuse.fuse.report.picture import Picture, from_drawn, from_figure
from sentifuse.fuse.report.provenance import (
    command_line,
    data_card,
    feature_sets,
    making,
    parts_of_split,
    recipe,
)
from sentifuse.fuse.report.recorded import Recorded, read_recorded
from sentifuse.fuse.run import HINT, RUN_FILE, RunDirectory

MOST_ERRORS = 8
CHOSEN = {
    "test": "The weights that the run keeps were chosen on validation.",
    "val": "The weights that the run keeps were chosen on this very part: its numbers flatter the head.",
    "train": "The head was trained on this very part: its numbers say nothing about other pairs.",
}
Note = Callable[[str], None]


def report_run(
    run: Path | RunDirectory,
    *,
    split: str = "test",
    out: Path | None = None,
    artifacts: Path | None = None,
    device: str = "auto",
    reader: str = "mmap",
    note: Note = lambda line: None,
) -> dict[str, Any]:
    """Write the report of a run.

    Parameters
    ----------
    split
        "test", "val" or "train"; evaluated first if it was not yet.
    out
        The file; None: `report-<split>.html` in the run.
    artifacts
        Where dataset and cache lie; None: the artefacts folder that the run lies in.
    note
        Hears what is done and what had to be left out, a line at a time.

    Returns
    -------
    dict
        html (path), size_bytes, run, split, is_evaluated_now, evaluations (how often the part was opened, this time
        included), left_out (what could not be shown, and why).

    Raises
    ------
    ConfigError
        No run there, no such part, or `out` is a file that is no report.
    DataError, CacheError
        What `read_recorded` refuses; or a file that cannot be written.
    """
    run = run if isinstance(run, RunDirectory) else RunDirectory.open(run)
    path = run.path / f"report-{split}.html" if out is None else out
    check_out(path)
    history = read_history(run)
    recorded = read_recorded(run, split, artifacts=artifacts, device=device, reader=reader)
    if recorded.is_measured_now:
        note(f"the {split} part was not evaluated yet: evaluated now, and counted in run.json")
    attention = explain_some(recorded, device=device, reader=reader)
    if attention.problem:
        note(f"no attention figures: {attention.problem}")
    opened = _count(recorded, is_counted=attention.is_counted)
    errors = rank_errors(recorded.predictions)
    examples = show_pairs(recorded, errors[:MOST_ERRORS])
    gone = [one for one in examples if one.thumbnail is None]
    if gone:
        note(f"{len(gone)} of {len(examples)} images cannot be shown: {gone[0].id}: {gone[0].problem}")
    metrics, document = recorded.metrics, recorded.run.document
    best_epoch = int(document["best"]["epoch"])
    view = {
        "title": title_of(recorded),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": sentifuse.__version__,
        "split": split,
        "headline": _headline(metrics),
        "opened": opened_sentence(recorded, opened),
        "data_card": data_card(recorded),
        "parts": parts_of_split(recorded),
        "features": feature_sets(recorded),
        "recipe": recipe(recorded),
        "making": making(recorded),
        "command": command_line(list(document["command"])),
        "curves": _curves(history, best_epoch),
        "best_epoch": best_epoch,
        "history": _history_rows(history),
        "measures": measures(metrics),
        "per_class": per_class(metrics),
        "confusion": _confusion(metrics),
        "by_subset": by_subset(metrics),
        "subsets": _subsets(metrics),
        "reliability": _reliability(metrics),
        "errors": examples,
        "n_errors": len(errors),
        "attention": attention,
        "metrics_file": f"metrics-{split}.json",
    }
    size_bytes = write_page(path, render("run.html", view))
    left_out = {"attention": attention.problem} if attention.problem else {}
    left_out |= {f"image of {one.id}": one.problem for one in gone}
    return {
        "html": str(path),
        "size_bytes": size_bytes,
        "run": str(recorded.run.path),
        "split": split,
        "is_evaluated_now": recorded.is_measured_now,
        "evaluations": opened,
        "left_out": left_out,
    }


def title_of(recorded: Recorded) -> str:
    """Head, dataset, part, protocol."""
    document, facts = recorded.run.document, recorded.facts
    preset = "" if document["preset"] == "default" else f" ({document['preset']})"
    fold = f", fold {facts.fold} of {facts.k}" if facts.k else ""
    return (
        f"{document['head']}{preset} on {document['dataset']}: {recorded.split} part, protocol {document['protocol']}"
        f"{fold}, seed {document['seed']}"
    )


def opened_sentence(recorded: Recorded, opened: int) -> str:
    """How often the part was opened, and whether this report had to measure."""
    times = "once" if opened == 1 else f"{opened:,} times"
    now = " It was evaluated for this report." if recorded.is_measured_now else ""
    return (
        f"The {recorded.split} part was opened {times} for this run, this report included (counted in run.json). "
        f"{CHOSEN[recorded.split]}{now}"
    )


def _count(recorded: Recorded, *, is_counted: bool) -> int:
    """How often the part was opened; the errors below are a look at it, too."""
    if not is_counted:
        return recorded.run.count_evaluation(recorded.split)
    counts = files.read_json(recorded.run.path / RUN_FILE, hint=HINT)["evaluations"]
    return int(counts[recorded.split])


def _headline(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Title, value, interval."""
    intervals = metrics["intervals"]
    shown = [(title, digits(metrics[name]), ends(intervals[name])) for name, title in TITLES.items()]
    return [*shown, ("pairs", f"{metrics['n']:,}", f"{len(metrics['excluded']):,} excluded")]


def _curves(history: Mapping[str, list[float | None]], best_epoch: int) -> Picture | None:
    figure = draw_history(history, best_epoch)
    if figure is None:
        return None
    n = len(history["epoch"])
    last = ", ".join(
        f"{name.replace('_', ' ')} {values[best_epoch - 1]:.4g}"
        for name, values in history.items()
        if name not in ("epoch", "is_best", "seconds") and values[best_epoch - 1] is not None
    )
    what = "penalties tried" if "c" in history else "epochs"
    return from_figure(
        figure,
        alt=f"Curves over {n} {what}. At the chosen one, number {best_epoch}: {last}. The table below has all of them.",
        caption=f"Dotted line: row {best_epoch}, the best on validation, whose weights the run keeps.",
    )


def _history_rows(history: Mapping[str, list[float | None]]) -> dict[str, Any]:
    shown = [name for name in history if name != "is_best"]
    rows = [["" if value is None else f"{value:.5g}" for value in row] for row in zip(*history.values(), strict=True)]
    keep = [list(history).index(name) for name in shown]
    return {"headings": [name.replace("_", " ") for name in shown], "rows": [[row[i] for i in keep] for row in rows]}


def _confusion(metrics: Mapping[str, Any]) -> Picture:
    names = [drawable(name).replace("$", r"\$") for name in metrics["classes"]]
    rows = "; ".join(
        f"of {sum(row):,} {true}: " + ", ".join(f"{n:,} said {said}" for said, n in zip(names, row, strict=True))
        for true, row in zip(names, metrics["confusion"], strict=True)
    )
    return from_drawn(
        lambda path: draw_confusion(path, metrics["confusion"], names, ""),
        alt=f"Confusion matrix: {rows}.",
        caption="Rows: what is true, with its number of pairs. Columns: what was said. Each cell: pairs, share of row.",
    )


def _subsets(metrics: Mapping[str, Any]) -> Picture | None:
    figure = draw_subsets(metrics)
    if figure is None:
        return None
    bars = "; ".join(
        f"{one['title']}: {digits(one['accuracy'])} {ends(one['intervals']['accuracy'])} of {one['n']:,}"
        for one in shown_subsets(metrics).values()
    )
    return from_figure(
        figure,
        alt=f"Accuracy by subset: all pairs {digits(metrics['accuracy'])}; {bars}.",
        caption="Bars: accuracy; black lines: 95 % intervals; dotted: all pairs.",
    )


def _reliability(metrics: Mapping[str, Any]) -> Picture:
    bins = "; ".join(
        f"confidence {one['confidence']:.2f}: accuracy {one['accuracy']:.2f} of {one['n']:,}"
        for one in metrics["reliability"]
        if one["n"]
    )
    return from_figure(
        draw_reliability(metrics),
        alt=f"Reliability diagram, ECE {digits(metrics['ece'])}: {bins}.",
        caption=f"Accuracy against confidence in {metrics['bins']} equal bins; below, the pairs of each bin.",
    )
