"""`sentifuse benchmark`: a visual model on image benchmarks with human labels, beside what the paper published."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output

EXAMPLE = (
    "Example: sentifuse benchmark --model MY_STUDENT --on 5agree,4agree,3agree --root dataset/benchmark --five-fold; "
    "sentifuse benchmark --published"
)


def benchmark(
    *,
    model: Annotated[
        str | None,
        typer.Option("--model", help="A folder (ViT of transformers, or a student), or the name of one in artifacts."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            help="5agree, 4agree, 3agree, twitter_testing_2, FI_complete, emotion_ROI_test, …; commas between.",
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="The folder with EmotionROI, FI, Twitter Testing Dataset I and II.")
    ] = None,
    five_fold: Annotated[
        bool, typer.Option("--five-fold", help="Also: fine-tune on four fifths, answer the fifth, five times.")
    ] = False,
    fi_splits: Annotated[
        bool, typer.Option("--fi-splits", help="Also: fine-tune on each of FI's five published splits.")
    ] = False,
    published: Annotated[bool, typer.Option("--published", help="Print the published numbers alone.")] = False,
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="Order of the model's outputs, where its config.json does not name its classes."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE of the fine-tuning, over its preset; may be given several times."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the fine-tuning; the five folds have their own.")] = 0,
    device: options.Device = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images per forward pass.")] = 16,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="A new folder, or one where the same command was stopped.",
            show_default="under artifacts/crowd/benchmarks",
        ),
    ] = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Score a model by the binary rule, save its answers, and print them beside the published numbers."""
    output = Output(as_json=as_json)
    if published:
        if model is not None or on is not None or five_fold or fi_splits:
            raise ConfigError("--published prints the published numbers alone; leave --model, --on and protocols out")
        output.result(*_published())
        return
    if model is None or root is None:
        absent = "--model" if model is None else "--root"
        raise ConfigError(f"benchmark: expected {absent}, found none. Type: {EXAMPLE.removeprefix('Example: ')}")
    from sentifuse.crowd.benchmarks.run import BenchmarkRequest, run_benchmarks
    from sentifuse.crowd.benchmarks.table import grids_of
    from sentifuse.fuse.config import parse_assignments
    from sentifuse.fuse.tables import plain_lines

    request = BenchmarkRequest(
        artifacts=artifacts,
        model=model,
        root=root,
        names=options.split_names(on),
        labels=options.split_names(labels),
        with_five_fold=five_fold,
        with_fi_splits=fi_splits,
        overrides=parse_assignments(settings or []),
        device=device,
        batch_rows=batch,
        seed=seed,
        out=out,
        command=("sentifuse", *sys.argv[1:]),
    )
    document = run_benchmarks(request, progress=output.progress, note=output.note)
    _warn(document, output)
    lines = [*plain_lines(grids_of(document)), "", *(f"{what}: {path}" for what, path in document["files"].items())]
    output.result(document, lines)


def _warn(document: dict[str, Any], output: Output) -> None:
    """What a person must not miss, on stderr."""
    from sentifuse.crowd.benchmarks.table import entries_of

    for name, entry in entries_of(document):
        if entry["problems"]:
            named = ", ".join(f"{one['path']} ({one['status']})" for one in entry["problems"][:3])
            output.note(f"{name}: {len(entry['problems'])} images without an answer: {named}", style="warning")
        if entry["n_seen"]:
            output.note(f"{name}: the model was trained on {entry['n_seen']} of its images", style="warning")


def _published() -> tuple[dict[str, Any], list[str]]:
    from sentifuse.crowd.benchmarks.published import read_published
    from sentifuse.crowd.benchmarks.table import published_grid
    from sentifuse.fuse.tables import plain_lines

    return {"published": read_published().to_json()}, plain_lines([published_grid()])
