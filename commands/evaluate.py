"""`sentifuse evaluate`: metrics of a run on one part of its split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output, table

EXAMPLE = "Example: sentifuse evaluate --split test --json"


def evaluate(
    *,
    run: options.Run = None,
    split: Annotated[str, typer.Option("--split", help="test, val or train.")] = "test",
    missing: Annotated[
        str | None, typer.Option("--missing", help="Instead: by share of pairs without text, image, or random.")
    ] = None,
    rates: Annotated[
        str | None, typer.Option("--rates", help="With --missing: shares, as 0.3,0.5.", show_default="0 to 1 by 0.1")
    ] = None,
    device: options.Device = "auto",
    reader: options.Reader = "mmap",
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Accuracy, weighted and macro F1 with 95 % intervals, calibration, classes, subsets, the confusion matrix."""
    from sentifuse.commands.state import run_or_last

    output = Output(as_json=as_json)
    directory, why = run_or_last(artifacts, run)
    output.note(f"evaluating {directory.name} ({why}) on {split}")
    if rates is not None and missing is None:
        raise ConfigError("--rates: expected --missing text, image or random beside it, found none")
    if missing is not None:
        rows = _evaluate_missing(
            directory, missing, rates, split=split, artifacts=artifacts, device=device, reader=reader
        )
        output.result({"run": str(directory), "split": split, "missing": missing, "rows": rows}, _by_rate(rows))
        return
    from sentifuse.fuse.evaluate import evaluate as evaluate_run

    metrics = evaluate_run(directory, split=split, artifacts=artifacts, device=device, reader=reader)
    output.result(metrics, _report(metrics))


def _report(metrics: Mapping[str, Any]) -> list[str]:
    from sentifuse.fuse.measure.resampling import TITLES

    classes: list[str] = metrics["classes"]
    intervals: Mapping[str, Mapping[str, Any]] = metrics["intervals"]
    per_class = [
        [name, figures["precision"], figures["recall"], figures["f1"], figures["support"]]
        for name, figures in metrics["per_class"].items()
    ]
    confusion = [[f"true {name}", *row] for name, row in zip(classes, metrics["confusion"], strict=True)]
    numbers = [f"{TITLES[name]} {metrics[name]:.4f} {_ends(interval)}" for name, interval in intervals.items()]
    drawn = intervals["accuracy"]
    fold = f"fold {metrics['fold']}, " if metrics["fold"] else ""
    return [
        f"{metrics['head']} on {metrics['dataset']} {metrics['split']} ({metrics['protocol']}, seed {metrics['seed']}, "
        f"{fold}rule {metrics['rule']}): n = {metrics['n']}, {len(metrics['excluded'])} excluded",
        *("   ".join(numbers[i : i + 2]) for i in range(0, len(numbers), 2)),
        f"in brackets: {drawn['level']:.0%} intervals, bootstrap over {drawn['units']:,} {drawn['unit']}",
        *_about_probabilities(metrics),
        "",
        *table(["class", "precision", "recall", "F1", "n"], per_class),
        *(f"no pair is labelled {name}" for name in metrics["absent"]["labels"]),
        *(f"{name} was never predicted" for name in metrics["absent"]["predictions"]),
        "",
        *table(["", *(f"said {name}" for name in classes)], confusion),
        "",
        *_by_subset(metrics["subsets"]),
        f"the {metrics['split']} part was opened {_times(metrics['evaluations'])} for this run (counted in run.json)",
        f"files: {', '.join(str(file) for file in metrics['files'].values())}",
    ]


def _about_probabilities(metrics: Mapping[str, Any]) -> list[str]:
    area = f"none ({metrics['auroc_reason']})" if metrics["auroc"] is None else f"{metrics['auroc']:.4f}"
    by_chance = metrics["ece_if_calibrated"]
    return [
        f"AUROC {area}   negative log-likelihood {metrics['nll']:.4f}   Brier score {metrics['brier']:.4f}",
        f"calibration error (ECE, {metrics['bins']} bins) {metrics['ece']:.4f}; a calibrated head would show "
        f"{by_chance['mean']:.4f} on average, seldom more than {by_chance['q95']:.4f}",
    ]


def _by_subset(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A table of the subsets with pairs, and a line for each without."""
    rows = [
        [
            figures["title"],
            figures["n"],
            figures["accuracy"],
            _ends(figures["intervals"]["accuracy"]),
            figures["f1_weighted"],
        ]
        for figures in found.values()
        if figures["n"]
    ]
    lines = table(["subset", "n", "accuracy", "95% interval", "weighted F1"], rows) if rows else []
    lines += [f"no pair: {figures['title']}" for figures in found.values() if not figures["n"]]
    return [*lines, ""] if lines else []


def _ends(interval: Mapping[str, Any]) -> str:
    return "[unknown]" if interval["low"] is None else f"[{interval['low']:.4f}, {interval['high']:.4f}]"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _evaluate_missing(run: Path, missing: str, rates: str | None, **options: Any) -> list[dict[str, Any]]:
    from sentifuse.fuse.missing import RATES, evaluate_missing

    try:
        wanted = RATES if rates is None else tuple(float(rate) for rate in rates.split(","))
    except ValueError as error:
        raise ConfigError(f"--rates {rates}: expected numbers with commas between them, as in 0.3,0.5") from error
    return evaluate_missing(run, kinds=(missing,), rates=wanted, **options)


def _by_rate(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per rate: accuracy, half of its interval, and weighted F1 of every filling."""
    fillings = list(dict.fromkeys(row["filling"] for row in rows))
    cells: dict[float, list[Any]] = {}
    for row in rows:
        cells.setdefault(row["rate"], [row["rate"], row["n_missing"]]).append(
            f"{row['accuracy']:.4f}{_half(row)} / {row['f1_weighted']:.4f}"
        )
    heading = f"accuracy ± half of its 95% interval / weighted F1; n = {rows[0]['n']:,}" if rows else "no rates"
    return [heading, "", *table(["rate", "missing", *fillings], list(cells.values()))]


def _half(row: Mapping[str, Any]) -> str:
    low, high = row["accuracy_low"], row["accuracy_high"]
    return "" if low is None else f" ± {(high - low) / 2:.4f}"
