"""`sentifuse cache verify` and `sentifuse cache repair`: is every byte what was written, and make it so again."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentifuse.commands import options
from sentifuse.commands.output import Output

if TYPE_CHECKING:
    from sentifuse.cache.checkup.faults import Fault, Report
    from sentifuse.extract.job import ExtractRequest
    from sentifuse.extract.profile import Profile
    from sentifuse.extract.repair import SetRepair

VERIFY_EXAMPLE = "Examples: sentifuse cache verify · sentifuse cache verify --dataset mvsa_single --all --quick"
REPAIR_EXAMPLE = "Examples: sentifuse cache repair --dry-run · sentifuse cache repair --dataset mvsa_single"

FAULTY = 4
SHOWN_ROWS = 5
SHOWN_FAULTS = 50

Encoders = Annotated[
    str | None, typer.Option(help="Names separated by commas.", show_default="all that were last extracted")
]
AllSets = Annotated[bool, typer.Option("--all", help="Every feature set of the dataset, in use or not.")]

_SET_FOLDER = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{12}")


def verify(
    *,
    dataset: options.Dataset = None,
    encoders: Encoders = None,
    all_sets: AllSets = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Sizes, seals and HDF5 metadata only; do not read every byte.")
    ] = False,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Prove that features are what was written. Exit code 4 if not; says which file, part and rows."""
    from sentifuse.cache.checkup.verify import shard_bytes
    from sentifuse.commands.state import dataset_or_last
    from sentifuse.extract.repair import verify_set

    output = Output(as_json=as_json)
    name, why = dataset_or_last(artifacts, dataset)
    output.note(f"dataset {name} ({why})")
    reports = []
    for directory in _choose(output, artifacts / "cache" / name, encoders, all_sets=all_sets):
        total = 0 if quick else shard_bytes(directory)
        with _megabytes(output, f"verifying {directory.name}", total) as advance:
            reports.append(verify_set(artifacts, directory, deep=not quick, progress=advance))
    lines = [line for report in reports for line in report_lines(report)]
    is_whole = not any(report.faults for report in reports)
    document = {"dataset": name, "whole": is_whole, "feature_sets": [report.to_json() for report in reports]}
    output.result(document, [*lines, *_advice(name, [f for report in reports for f in report.faults])])
    if not is_whole:
        raise typer.Exit(FAULTY)


def repair(
    *,
    dataset: options.Dataset = None,
    encoders: Encoders = None,
    all_sets: AllSets = False,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="The one the features were made with.", show_default="that of the extraction"),
    ] = None,
    weights: options.Weights = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1; one is used.")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="The one the features were made with.", show_default="that of the extraction")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Loader threads; 0: one per core.")] = 0,
    offline: options.Offline = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")] = False,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Mend damaged features: recompute the batches of damaged rows, keep every other byte."""
    from sentifuse.commands.state import dataset_or_last
    from sentifuse.extract.job import ExtractRequest

    output = Output(as_json=as_json)
    name, why = dataset_or_last(artifacts, dataset)
    chosen, why_profile = _profile(artifacts, name, profile)
    output.note(f"dataset {name} ({why}), profile {chosen.name} ({why_profile})")
    request = ExtractRequest(
        artifacts=artifacts,
        dataset=name,
        profile=chosen,
        weights=tuple(weights or ()),
        device=device,
        loader_count=workers,
        is_offline=offline or dry_run,
    )
    folders = _choose(output, artifacts / "cache" / name, encoders, all_sets=all_sets)
    _finish(output, name, _repair_all(output, request, folders, precision, is_dry=dry_run), is_dry=dry_run)


def report_lines(report: "Report") -> list[str]:
    """A check's outcome for a person."""
    rate = f", {report.bytes_read / 1e6 / max(report.seconds, 1e-9):,.0f} MB/s" if report.bytes_read else ""
    read = f"{report.bytes_read / 1e6:,.1f} MB read" if report.is_deep else "metadata read"
    state = "whole" if not report.faults else _count(report.faults, "FAULT")
    shards = _count(range(report.shards), "shard")
    lines = [
        f"{report.directory.name}: {state}: {shards}, {report.rows:,} rows; {read} in {report.seconds:.2f} s{rate}"
    ]
    lines += [f"  {fault_line(fault)}" for fault in report.faults[:SHOWN_FAULTS]]
    if len(report.faults) > SHOWN_FAULTS:
        lines.append(f"  … and {len(report.faults) - SHOWN_FAULTS:,} more, in --json")
    return [*lines, *(f"  (remark) {remark}" for remark in report.remarks)]


def fault_line(fault: "Fault") -> str:
    """File, part, what is wrong and the first rows."""
    where = fault.file if fault.part in (fault.file, "") else f"{fault.file}, {fault.part}"
    shown = ", ".join(fault.rows[:SHOWN_ROWS])
    more = f" … ({len(fault.rows):,} in all)" if len(fault.rows) > SHOWN_ROWS else ""
    return f"{where}: {fault.problem}" + (f"; rows {shown}{more}" if shown else "")


def repair_lines(result: "SetRepair", *, is_dry: bool) -> list[str]:
    """A repair's outcome for a person: what was made anew, what stayed, what is still wrong."""
    done = result.repaired
    name = done.directory.name
    if not done.shards and not done.files and not result.after.faults:
        return [f"{name}: whole, nothing to repair"]
    lines = [f"{name}: {_count(done.before.faults, 'fault')} found"]
    lines += [f"  made anew: {file}" for file in done.files]
    for shard in done.shards:
        verb = "to recompute" if is_dry else "recomputed"
        batches = f"{shard.batches:,} {'batch' if shard.batches == 1 else 'batches'}"
        counts = f"{shard.kept:,} of {shard.rows:,} rows kept, {shard.recomputed:,} {verb} in {batches}"
        gone = f", {len(shard.gone):,} to be extracted anew" if shard.gone else ""
        reason = f" ({shard.reason})" if shard.reason else ""
        lines.append(f"  shard {shard.number} {shard.outcome}: {counts}{gone}{reason}")
    if is_dry:
        return [*lines, *(f"  {fault_line(fault)}" for fault in done.before.faults[:SHOWN_FAULTS])]
    if result.extracted:
        lines.append(f"  extracted: {result.extracted.computed:,} rows that could not come back as they were")
    if done.count("changed"):
        lines.append("  changed shards hold right rows with other last bits (another processor): journalled as such")
    state = "whole again" if not result.after.faults else f"{_count(result.after.faults, 'fault')} left"
    return [*lines, f"  {state}", *(f"  {fault_line(fault)}" for fault in result.after.faults[:SHOWN_FAULTS])]


def _count(things: Sequence[object], name: str) -> str:
    plural = "S" if name.isupper() else "s"
    return f"{len(things):,} {name}{'' if len(things) == 1 else plural}"


def _repair_all(
    output: Output, request: "ExtractRequest", folders: Sequence[Path], precision: str | None, *, is_dry: bool
) -> list["SetRepair"]:
    from sentifuse.cache.checkup.verify import shard_bytes
    from sentifuse.extract.repair import repair

    results = []
    for directory in folders:
        with _megabytes(output, f"checking {directory.name}", shard_bytes(directory)) as advance:
            results.append(repair(request, directory, precision=precision, is_dry=is_dry, progress=advance))
    return results


def _finish(output: Output, dataset: str, results: Sequence["SetRepair"], *, is_dry: bool) -> None:
    """Print what was done, and leave with the exit code of what is left to do."""
    errors = {result.repaired.directory.name: result.error for result in results if result.error}
    left = [fault for result in results for fault in result.after.faults]
    document = {
        "dataset": dataset,
        "dry_run": is_dry,
        "whole": not left,
        "feature_sets": [result.to_json() for result in results],
    }
    lines = [line for result in results for line in repair_lines(result, is_dry=is_dry)]
    output.result(document, lines if is_dry else [*lines, *_advice(dataset, left, is_repaired=True)])
    for name, error in errors.items():
        output.note(f"error: {name}: {error}", style="error")
    code = next((error.exit_code for error in errors.values()), FAULTY if left and not is_dry else 0)
    if code:
        raise typer.Exit(code)


def _advice(dataset: str, faults: Sequence["Fault"], *, is_repaired: bool = False) -> list[str]:
    """What to type next."""
    remedies = {fault.remedy for fault in faults}
    lines = []
    if "repair" in remedies and not is_repaired:
        lines.append(f"to mend this: sentifuse cache repair --dataset {dataset}")
    if "extract" in remedies and ("repair" not in remedies or is_repaired):
        lines.append(f"to bring rows up to date: sentifuse extract --dataset {dataset}")
    if "import" in remedies:
        lines.append("rows that another program made cannot be computed again here: sentifuse cache import, once more")
    if "upgrade" in remedies:
        lines.append("a later version wrote some of this: install a later sentifuse")
    return lines


def _choose(output: Output, cache_dir: Path, encoders: str | None, *, all_sets: bool) -> list[Path]:
    """The folders to look at; with --all also those that have lost their recipe or that nothing names any more."""
    from sentifuse.cache.current import read_current
    from sentifuse.cache.errors import CorruptIndex, NoFeatures

    names = list(options.split_names(encoders))
    folders = sorted(path for path in cache_dir.glob("*") if path.is_dir() and _SET_FOLDER.fullmatch(path.name))
    if not all_sets:
        try:
            current = read_current(cache_dir)
        except (CorruptIndex, NoFeatures) as error:
            if not folders:
                raise
            output.note(f"{error} All feature sets are looked at.", style="warning")
        else:
            return [_existing(current.directory(name)) for name in names or current.encoders]
    chosen = [path for path in folders if not names or path.name.rpartition("-")[0] in names]
    if not chosen:
        raise NoFeatures(f"{cache_dir}: no feature sets there. Run: sentifuse extract --dataset {cache_dir.name}")
    return chosen


def _existing(directory: Path) -> Path:
    from sentifuse.cache.errors import NoFeatures

    if not directory.is_dir():
        raise NoFeatures(
            f"{directory}: current.json names it, but there is no such folder. Run: sentifuse extract --dataset "
            f"{directory.parent.name}"
        )
    return directory


def _profile(artifacts: Path, dataset: str, name: str | None) -> tuple["Profile", str]:
    """The profile to make rows again with: as given, else that of the last extraction, else the chosen one."""
    from sentifuse import ConfigError
    from sentifuse.cache.current import read_current
    from sentifuse.cache.errors import CacheError
    from sentifuse.commands.state import profile_or_chosen
    from sentifuse.extract.profile import load_profile

    if name is None:
        try:
            return load_profile(read_current(artifacts / "cache" / dataset).profile), "of the last extraction"
        except (CacheError, ConfigError):  # a TOML file somewhere, which only its path finds
            pass
    found, why = profile_or_chosen(artifacts, name)
    return load_profile(found), why


@contextmanager
def _megabytes(output: Output, what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A progress bar in megabytes, told in bytes."""
    done_bytes = shown = 0
    with output.progress(what, total_bytes // 1_000_000, "MB") as advance:

        def told(count: int) -> None:
            nonlocal done_bytes, shown
            done_bytes += count
            whole = done_bytes // 1_000_000
            if whole > shown:
                advance(whole - shown)
                shown = whole

        yield told
