"""`sentifuse extract`: stage 1, images and texts → feature cache."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output, spoken_rate, table

if TYPE_CHECKING:
    from sentifuse.extract.job import Job
    from sentifuse.extract.runner import Summary
    from sentifuse.extract.worker import ShardTask

EXAMPLE = "Example: sentifuse extract --dataset mvsa_single --profile offline --weights weights/"


def extract(
    *,
    dataset: options.Dataset = None,
    root: Annotated[
        Path | None, typer.Option(help="Prepare the dataset from this folder first, if it is not prepared yet.")
    ] = None,
    profile: options.ProfileName = None,
    encoders: Annotated[
        str | None, typer.Option(help="Names separated by commas.", show_default="the profile's default")
    ] = None,
    engine: Annotated[str, typer.Option(help="How shards are run: local.")] = "local",
    workers: Annotated[int, typer.Option(min=0, help="Loader threads per device; 0: one per core.")] = 0,
    shards: Annotated[str | None, typer.Option(help="Only part i of n of the shards, as i/n (0/4 … 3/4).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda (all GPUs) or cuda:0,cuda:1.")] = "auto",
    precision: Annotated[str, typer.Option(help="exact, fast or fastest.")] = "exact",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows per forward pass.")] = 16,
    weights: options.Weights = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Run the encoders whose models are there.")
    ] = False,
    offline: options.Offline = False,
    max_failures: options.MaxFailures = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and touch nothing.")] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Print what is done and what is left; start nothing.")
    ] = False,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Turn images and texts into features, once. The same command again does only what is missing."""
    from sentifuse.commands.state import dataset_or_last, profile_or_chosen, remember
    from sentifuse.engines import ENGINES
    from sentifuse.extract.job import ExtractRequest, resolve
    from sentifuse.extract.profile import load_profile
    from sentifuse.extract.runner import TooManyFailures

    output = Output(as_json=as_json)
    if engine not in ENGINES:
        raise ConfigError.unknown("engine", engine, ENGINES, where="--engine")
    name, why_dataset = dataset_or_last(artifacts, dataset)
    profile_name, why_profile = profile_or_chosen(artifacts, profile)
    chosen = load_profile(profile_name)
    output.note(f"dataset {name} ({why_dataset}), profile {chosen.name} ({why_profile}), precision {precision}")
    if chosen.notice:
        output.note(chosen.notice, style="warning")
    _prepare_if_needed(output, artifacts, name, root, may_write=not (dry_run or status))
    request = ExtractRequest(
        artifacts=artifacts,
        dataset=name,
        profile=chosen,
        encoders=options.split_names(encoders),
        weights=tuple(weights or ()),
        device=device,
        precision=precision,
        engine=engine,
        loader_count=workers,
        batch_rows=batch,
        is_offline=offline or dry_run or status,  # looking at a plan downloads nothing
        skip_missing=skip_missing,
        part=_part(shards),
        max_failures=max_failures,
    )
    job = resolve(request)
    for left_out, reason in job.left_out.items():
        output.note(f"left out: {left_out}: {reason}", style="warning")
    for encoder in job.encoders.values():
        if encoder.encoder.note:
            output.note(f"{encoder.name}: {encoder.encoder.note}", style="warning")
    if dry_run or status:
        output.result(plan_document(job), plan_lines(job))
        return
    try:
        summary = _run(output, job)
    except TooManyFailures as error:
        remember(artifacts, dataset=name)
        for line in summary_lines(error.summary):
            output.note(line)
        raise
    remember(artifacts, dataset=name)
    output.result(summary.to_json(), summary_lines(summary))
    output.note(f"next: sentifuse train --head itin --dataset {name}", style="dim")


def _run(output: Output, job: "Job") -> "Summary":
    from sentifuse.extract.runner import make_tasks, only_part, run

    tasks = make_tasks(
        {name: encoder.inputs for name, encoder in job.encoders.items()},
        {name: only_part(encoder.plan, job.request.part) for name, encoder in job.encoders.items()},
    )
    if job.has_work:
        output.note(work_line(tasks))
    with output.progress(f"extracting {job.request.dataset}", sum(len(t.rows) for t in tasks), "inputs") as advance:
        return run(job, progress=advance, say=None if sys.stderr.isatty() else output.note)


def work_line(tasks: "Sequence[ShardTask]") -> str:
    """What there is to do. Encoders that plan the same rows share their inputs: of these there are fewer."""
    rows = sum(len(task.rows) * len(task.targets) for task in tasks)
    inputs = sum(len(task.rows) for task in tasks)
    count = f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}"
    return f"{rows:,} rows to compute from {inputs:,} inputs (images or texts), in {count} of a shard each"


def _prepare_if_needed(output: Output, artifacts: Path, name: str, root: Path | None, *, may_write: bool) -> None:
    """`--root`/`ROOT=` prepares a dataset that is not prepared yet; a prepared one is left as it is."""
    from sentifuse.data.card import FILE_NAME
    from sentifuse.data.files import is_file
    from sentifuse.data.prepare import dataset_dir, prepare

    if is_file(dataset_dir(artifacts, name) / FILE_NAME):
        return
    if root is None or not may_write:
        raise ConfigError(
            f"dataset {name} is not prepared in {artifacts}. Type: sentifuse data prepare {name} "
            f"--root {root or 'FOLDER'} (with make: make extract DATASET={name} ROOT={root or 'FOLDER'})"
        )
    from sentifuse.commands.data import card_lines

    for line in card_lines(prepare(name, artifacts=artifacts, root=root)):
        output.note(line)


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, slash, second = text.partition("/")
    if not slash or not first.isdigit() or not second.isdigit():
        raise ConfigError(f"--shards: found {text!r}, expected i/n such as 0/4")
    return int(first), int(second)


def plan_document(job: "Job") -> dict[str, object]:
    return {
        "dataset": job.request.dataset,
        "profile": job.request.profile.name,
        "left_out": dict(job.left_out),
        "encoders": {
            name: {
                "feature_set": str(encoder.directory),
                "rows": len(encoder.inputs),
                "stored": encoder.plan.stored_rows,
                "new": encoder.plan.new_rows,
                "stale": encoder.plan.stale_rows,
                "shards_to_write": len(encoder.plan.shards),
            }
            for name, encoder in job.encoders.items()
        },
    }


def plan_lines(job: "Job") -> list[str]:
    rows = [
        [name, e.plan.stored_rows, e.plan.new_rows, e.plan.stale_rows, len(e.plan.shards), str(e.directory)]
        for name, e in job.encoders.items()
    ]
    return table(["encoder", "stored", "new", "stale", "shards to write", "feature set"], rows)


def summary_lines(summary: "Summary") -> list[str]:
    """An extraction's outcome for a person: every row accounted for, what failed by name."""
    rows = [
        [name, e.computed, e.reused, *(e.statuses.get(kind, 0) for kind in ("ok", "missing", "unreadable", "failed"))]
        for name, e in summary.encoders.items()
    ]
    lines = table(["encoder", "computed", "reused", "ok", "missing", "unreadable", "failed"], rows)
    failed: dict[str, str] = {}
    for encoder in summary.encoders.values():
        failed |= encoder.quarantined
    shown = [f"  {row_id}: {reason}" for row_id, reason in list(failed.items())[:20]]
    if failed:
        lines += [f"{len(failed):,} quarantined by name:", *shown]
    if len(failed) > len(shown):
        lines.append(f"  … and {len(failed) - len(shown):,} more, in --json and in the stats files")
    for name in summary.left_out:
        lines.append(f"left out: {name} (--skip-missing)")
    rate = ", nothing to recompute"
    if summary.computed:
        rate = f", {spoken_rate(summary.computed / summary.seconds)} rows/s"
    lines.append(
        f"{summary.pairs:,} pairs, {summary.complete_pairs:,} complete in all encoders; {summary.seconds:.1f} s{rate}"
    )
    return lines
