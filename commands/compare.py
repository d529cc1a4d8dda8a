"""`sentifuse compare`: heads × seeds (× folds) → a table that can be believed, with everything it needs trained."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output

if TYPE_CHECKING:
    from sentifuse.fuse.comparison.compare import CompareRequest

EXAMPLE = (
    "Example: sentifuse compare --heads itin,itin:context_only,ctmwa,rnn_ca_embedding,logreg --seeds 5 "
    "--protocol grouped"
)
FAILED_EXIT = 6


def compare(
    *,
    heads: Annotated[
        str | None,
        typer.Option(
            "--heads", help="head or head:preset, commas between.", show_default="all heads and ITIN's ablations"
        ),
    ] = None,
    dataset: options.Dataset = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", help="How many (5: seeds 0 to 4), or which: 0,3,7.", show_default="5; 1 with folds"),
    ] = None,
    protocol: options.Protocol = None,
    folds: Annotated[
        str | None, typer.Option("--folds", help="all, or numbers from 1, commas between.", show_default="all")
    ] = None,
    rule: options.Rule = None,
    target: Annotated[str, typer.Option(help="label, text_label or image_label.")] = "label",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE for every head; may be given several times.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two seeds; without --heads the four main heads.")] = False,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", help="The row all others are compared with.", show_default="logreg, else the first"),
    ] = None,
    claim: Annotated[
        str | None, typer.Option("--claim", help="The row named beforehand, on validation: no Holm correction for it.")
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Also: without text, image, either, at 0 to 90 %.")
    ] = False,
    sweep: Annotated[
        str | None, typer.Option("--sweep", help="region_count=0..6 or visual_weight=0,0.2,...,1: a row per value.")
    ] = None,
    runs: Annotated[
        list[Path] | None, typer.Option("--runs", help="Exactly these runs instead of --heads; more may follow.")
    ] = None,
    more_runs: Annotated[list[Path] | None, typer.Argument(metavar="[RUN]...", help="More of --runs.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes.", show_default="one per core")
    ] = None,
    device: options.Device = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is there and what would be trained.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder.", show_default="under artifacts/comparisons")
    ] = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Train what is missing, measure on test, and write the table; finished runs are kept and used again."""
    from sentifuse.commands.state import dataset_or_last
    from sentifuse.fuse.config import parse_assignments

    output = Output(as_json=as_json)
    named = [*(runs or []), *(more_runs or [])]
    if more_runs and not runs:
        raise ConfigError(f"compare {more_runs[0]}: expected --runs before run folders. Type: compare --runs A B")
    if named and (heads or sweep):
        raise ConfigError("--runs: expected no --heads and no --sweep beside it. Leave one of them out")
    from sentifuse.fuse.comparison.compare import CompareRequest

    name, why = dataset_or_last(artifacts, dataset) if not named else ("", "")
    if not named:
        output.note(f"comparing on {name} ({why})")
    request = CompareRequest(
        artifacts=artifacts,
        dataset=name,
        heads=options.split_names(heads) if heads is not None else None,
        seeds=seeds,
        folds=folds,
        protocol=protocol,
        rule=rule,
        target=target,
        overrides=parse_assignments(settings or []),
        quick=quick,
        runs=tuple(run if run.exists() else artifacts / "runs" / run for run in named),
        baseline=baseline,
        claim=claim,
        missing=missing,
        sweep=sweep,
        workers=workers,
        device=device,
        command=("sentifuse", *sys.argv[1:]),
    )
    document, lines = _plan(request) if dry_run else _compare(request, output, out)
    output.result(document, lines)
    if not dry_run and document["failed"]:
        output.note(f"{len(document['failed'])} runs failed: the table is without them", style="error")
    if not dry_run and document["missing_failed"]:
        output.note(
            f"{len(document['missing_failed'])} runs without their missing modalities: type the command again",
            style="error",
        )
    if not dry_run and (document["failed"] or document["missing_failed"]):
        raise typer.Exit(FAILED_EXIT)


def _compare(request: "CompareRequest", output: Output, out: Path | None) -> tuple[dict[str, Any], list[str]]:
    from sentifuse.fuse.comparison.compare import compare as compare_heads
    from sentifuse.fuse.comparison.folder import check_out, write_comparison
    from sentifuse.fuse.comparison.grids import grids_of, heading_of
    from sentifuse.fuse.tables import plain_lines

    check_out(request.artifacts, out)
    document = compare_heads(request, note=output.note)
    paths = write_comparison(request.artifacts, document, out)
    lines = [heading_of(document), "", *plain_lines(grids_of(document)), ""]
    for found in document["differences"].values():
        lines.append(found["verdict"] + (" (claimed beforehand)" if found["is_claim"] else ""))
    lines += ["", *(f"{what}: {path}" for what, path in paths.items())]
    return document | {"files": {what: str(path) for what, path in paths.items()}}, lines


def _plan(request: "CompareRequest") -> tuple[dict[str, Any], list[str]]:
    from sentifuse.fuse.comparison.compare import prepare

    work = prepare(request, write_splits=False)
    seconds = work.expected_s()
    left_out = dict(work.plan.left_out) if work.plan else {}
    document: dict[str, Any] = {
        "dataset": work.dataset,
        "protocol": work.protocol,
        "rule": work.rule,
        "target": work.target,
        "baseline": work.baseline,
        "runs": [
            {"row": entry.row, "seed": entry.seed, "fold": entry.fold, "run": entry.run.name if entry.run else None}
            for entry in work.entries
        ],
        "to_train": len(work.missing),
        "expected_s": None if seconds is None else round(seconds, 1),
        "left_out": left_out,
    }
    lines = [f"{entry.name}: {entry.run.name if entry.run else 'to train'}" for entry in work.entries]
    lines += [f"{name}: left out: {reason}" for name, reason in left_out.items()]
    guess = "" if seconds is None else f", about {seconds:.0f} s of one process, by earlier runs of these heads"
    lines.append(f"{len(work.entries)} runs, {len(work.missing)} to train{guess}; nothing was written")
    return document, lines
