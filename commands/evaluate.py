"""`sentifuse evaluate`: metrics of a run on one part of its split."""

from pathlib import Path
from typing import Annotated

import typer

from sentifuse.commands import options
from sentifuse.commands.output import Output, table

EXAMPLE = "Example: sentifuse evaluate --split test --json"


def evaluate(
    *,
    run: Annotated[
        Path | None, typer.Option("--run", help="A run directory or its name.", show_default="last trained")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="test, val or train.")] = "test",
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
