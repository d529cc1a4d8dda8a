"""`sentifuse distil evaluate`: students against what people said of the images of a split's part."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sentifuse.commands import options
from sentifuse.commands.output import Output

EXAMPLE = "Example: sentifuse distil evaluate --student NAME --student OTHER --protocol grouped --seed 0"


def evaluate(
    *,
    student: Annotated[
        list[Path],
        typer.Option("--student", help="A student folder, or its name; several: each is compared with the first."),
    ],
    dataset: options.Dataset = None,
    split: Annotated[str, typer.Option("--split", help="test, or val.")] = "test",
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Of the split.", show_default="the dataset's own")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split.")] = 0,
    fold: options.Fold = None,
    rule: options.Rule = None,
    device: options.Device = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images per forward pass.")] = 16,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder.", show_default="under artifacts/crowd/benchmarks")
    ] = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Score students by what people said of the images, beside their teacher's labels and the most frequent class."""
    from sentifuse.commands.state import dataset_or_last
    from sentifuse.crowd.benchmarks.own_pairs import EvaluateRequest, evaluate_students
    from sentifuse.crowd.benchmarks.own_pairs_table import grids_of
    from sentifuse.fuse.tables import plain_lines

    output = Output(as_json=as_json)
    chosen, why = dataset_or_last(artifacts, dataset)
    output.note(f"evaluating {len(student)} students on {chosen} ({why}), {split} part")
    request = EvaluateRequest(
        artifacts=artifacts,
        dataset=chosen,
        students=tuple(student),
        split=split,
        protocol=protocol,
        split_seed=seed,
        fold=fold or 0,
        rule=rule,
        device=device,
        batch_rows=batch,
        out=out,
        command=("sentifuse", *sys.argv[1:]),
    )
    with output.counter(f"answering {chosen}", "images") as counted:
        document = evaluate_students(request, progress=counted)
    output.result(document, [*plain_lines(grids_of(document)), "", f"folder: {document['files']['folder']}"])
