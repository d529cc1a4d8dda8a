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
    run: Annotated[
        Path | None, typer.Option("--run", help="A run directory or its name.", show_default="last trained")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="test, val or train.")] = "test",
    missing: Annotated[
        str | None, typer.Option("--missing", help="Instead: by share of pairs without text, image, or random.")
    ] = None,
    rates: Annotated[
        str | None, typer.Option("--rates", help="With --missing: shares, as 0.3,0.5.", show_default="0 to 1 by 0.1")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    reader: options.Reader = "mmap",
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Accuracy, weighted and macro F1, per-class figures and the confusion matrix, as table, JSON and picture."""
    from sentifuse.commands.state import run_or_last

    output = Output(as_json=as_json)
    directory, why = run_or_last(artifacts, run)
    output.note(f"evaluating {directory.name} ({why}) on {split}")
    if rates is not None and missing is None:
        raise ConfigError("--rates: expected --missing text, image or random beside it, found none")
    if missing is not None:
        rows = _evaluate_missing(directory, missing, rates, split=split, artifacts=artifacts, device=device)
        output.result({"run": str(directory), "split": split, "missing": missing, "rows": rows}, _by_rate(rows))
        return
    from sentifuse.fuse.evaluate import evaluate as evaluate_run

    metrics = evaluate_run(directory, split=split, artifacts=artifacts, device=device, reader=reader)
    classes: list[str] = metrics["classes"]
    per_class = [
        [name, figures["precision"], figures["recall"], figures["f1"], figures["support"]]
        for name, figures in metrics["per_class"].items()
    ]
    confusion = [[f"true {name}", *row] for name, row in zip(classes, metrics["confusion"], strict=True)]
    lines = [
        f"{metrics['head']} on {metrics['dataset']} {split} ({metrics['protocol']}, seed {metrics['seed']}, "
        f"rule {metrics['rule']}): n = {metrics['n']}, {len(metrics['excluded'])} excluded",
        f"accuracy {metrics['accuracy']:.4f}   weighted F1 {metrics['f1_weighted']:.4f}   "
        f"macro F1 {metrics['f1_macro']:.4f}   balanced accuracy {metrics['balanced_accuracy']:.4f}",
        "",
        *table(["class", "precision", "recall", "F1", "n"], per_class),
        "",
        *table(["", *(f"said {name}" for name in classes)], confusion),
        "",
        f"files: {', '.join(str(file) for file in metrics['files'].values())}",
    ]
    output.result(metrics, lines)


def _evaluate_missing(run: Path, missing: str, rates: str | None, **options: Any) -> list[dict[str, Any]]:
    from sentifuse.fuse.missing import RATES, evaluate_missing

    try:
        wanted = RATES if rates is None else tuple(float(rate) for rate in rates.split(","))
    except ValueError as error:
        raise ConfigError(f"--rates {rates}: expected numbers with commas between them, as in 0.3,0.5") from error
    return evaluate_missing(run, missing=missing, rates=wanted, **options)


def _by_rate(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per rate: accuracy and weighted F1 of every filling."""
    fillings = list(dict.fromkeys(row["filling"] for row in rows))
    cells: dict[float, list[Any]] = {}
    for row in rows:
        cells.setdefault(row["rate"], [row["rate"], row["n_missing"]]).append(
            f"{row['accuracy']:.4f} / {row['f1_weighted']:.4f}"
        )
    return ["accuracy / weighted F1", "", *table(["rate", "missing", *fillings], list(cells.values()))]
