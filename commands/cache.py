"""`sentifuse cache`: look at the feature store, compare, commit, compact, prune. Checks and exchange are beside it."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentifuse import CacheError, ConfigError
from sentifuse.commands import cache_check, cache_interchange, options
from sentifuse.commands.output import Output, table

if TYPE_CHECKING:
    from sentifuse.cache.compact import Compaction
    from sentifuse.cache.featureset import FeatureSet
    from sentifuse.cache.survey import SetSurvey

app = typer.Typer(help="Tools of the feature cache.", no_args_is_help=True)

SHOWN = 60  # characters of a recipe's value in a line

Encoders = Annotated[
    str | None, typer.Option(help="Names separated by commas.", show_default="all that were last extracted")
]
Set = Annotated[str, typer.Argument(help="A folder, or the beginning of its name: regions-7f3a, sample/tokens-b.")]


@app.command("info", epilog="Examples: sentifuse cache info · sentifuse cache info mvsa_single --encoders regions")
def info(
    dataset: Annotated[str | None, typer.Argument(help="A dataset.", show_default="every dataset of the cache")] = None,
    *,
    encoders: Annotated[str | None, typer.Option(help="Show these encoders' recipes too; separated by commas.")] = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Sizes, rows, statuses, fingerprints and recipes of the stored feature sets."""
    chosen = options.split_names(encoders)
    found = [one for one in _surveys(artifacts, dataset) if not chosen or one.encoder in chosen]
    if not found:
        raise _nothing(artifacts, dataset, chosen)
    headings = ["feature set", "rows", "ok", "not ok", "superseded", "shards", "MB", "state"]
    rows = [
        [
            f"{one.dataset}/{one.directory.name}",
            one.rows,
            one.counts.get("ok", 0),
            one.rows - one.counts.get("ok", 0),
            one.superseded,
            one.shards,
            f"{one.size_bytes / 1e6:,.1f}",
            _state(one),
        ]
        for one in found
    ]
    output = Output(as_json=as_json)
    details = [line for one in found if chosen or one.problem or one.pending for line in _describe(one)]
    output.result({"feature_sets": [one.to_json() for one in found]}, [*table(headings, rows), *details])


@app.command("diff", epilog="Example: sentifuse cache diff tokens-84 tokens-1c")
def diff(
    left: Set,
    right: Set,
    *,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """What differs between the recipes, fields and rows of two feature sets, with both values."""
    from sentifuse.cache.survey import compare_sets, find_set

    ours, theirs = (find_set(artifacts / "cache", name) for name in (left, right))
    found = compare_sets(ours, theirs)
    document: dict[str, Any] = {
        "left": str(ours.directory),
        "right": str(theirs.directory),
        "same_recipe": ours.fingerprint == theirs.fingerprint,
        "differences": [{"key": key, "left": a, "right": b} for key, a, b in found.keys],
        "rows": {
            "shared": found.shared,
            "only_left": found.only_left,
            "only_right": found.only_right,
            "other_input": found.other_input,
            "other_status": found.other_status,
        },
    }
    lines = table(
        ["", ours.directory.name, theirs.directory.name], [[k, _short(a), _short(b)] for k, a, b in found.keys]
    )
    if not found.keys:
        lines = [f"the same recipe ({ours.fingerprint[:12]}) and the same fields"]
    lines.append(
        f"rows: {found.shared:,} in both, {found.only_left:,} only in the first, {found.only_right:,} only in the "
        f"second; of those in both {found.other_input:,} were made from another input, {found.other_status:,} have "
        "values in one of them only"
    )
    Output(as_json=as_json).result(document, lines)


@app.command("commit", epilog="Example: sentifuse cache commit --dataset mvsa_multiple (after extract --shards i/n)")
def commit(
    *,
    dataset: options.Dataset = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Take in what the parts of `extract --shards i/n` have finished; the next plain extract does the same."""
    from sentifuse.cache.order import find_parts
    from sentifuse.cache.writer import commit_parts
    from sentifuse.commands.state import remember

    output = Output(as_json=as_json)
    name = _dataset(output, artifacts, dataset)
    taken: dict[str, dict[str, int]] = {}
    for feature_set in _feature_sets(artifacts, name):
        if find_parts(feature_set.directory):
            merged = commit_parts(feature_set)
            taken[feature_set.directory.name] = {"shards": len(merged), "rows": sum(shard.rows for shard in merged)}
            if merged:
                _make_current(output, feature_set)
                remember(artifacts, dataset=name)
    lines = [f"{folder}: {one['shards']:,} shards with {one['rows']:,} rows came in" for folder, one in taken.items()]
    output.result({"dataset": name, "feature_sets": taken}, lines or ["no part has anything to commit"])


@app.command("compact", epilog="Example: sentifuse cache compact --dataset mvsa_single --dry-run")
def compact(
    *,
    dataset: options.Dataset = None,
    encoders: Encoders = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be gained; change nothing.")] = False,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Rewrite feature sets without the rows that later shards replaced. Recomputes nothing."""
    from sentifuse.cache.compact import compact as compact_set
    from sentifuse.cache.reader import FeatureReader
    from sentifuse.extract.plan import SHARD_ROWS

    output = Output(as_json=as_json)
    name = _dataset(output, artifacts, dataset)
    chosen = options.split_names(encoders) or _current_encoders(artifacts, name)
    done: dict[str, Any] = {}
    lines = []
    for feature_set in _feature_sets(artifacts, name, chosen):
        shard_rows = int(feature_set.details.get("shard_rows", SHARD_ROWS))
        total = 0 if dry_run else len(FeatureReader(feature_set))
        with output.progress(f"compacting {feature_set.encoder}", total, "rows") as advance:
            result = compact_set(feature_set, shard_rows=shard_rows, is_dry=dry_run, progress=advance)
        done[feature_set.directory.name] = {**asdict(result), "is_needed": result.is_needed}
        lines.append(f"{feature_set.directory.name}: {_gain(result, is_dry=dry_run)}")
    output.result({"dataset": name, "dry_run": dry_run, "feature_sets": done}, lines)


@app.command("prune", epilog="Example: sentifuse cache prune --dataset mvsa_single --yes")
def prune(
    *,
    dataset: Annotated[str | None, typer.Option(help="A dataset.", show_default="every dataset of the cache")] = None,
    also_unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Sets with fewer rows than those in use, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Remove whole feature sets that are neither in use nor named by any run. Lists them and asks first."""
    from sentifuse.cache.remove import prunable, remove_set
    from sentifuse.fuse.run import used_fingerprints

    output = Output(as_json=as_json)
    used = used_fingerprints(artifacts / "runs")
    unused, unfinished = [], 0
    for name in [dataset] if dataset else _datasets(artifacts):
        removable, kept = prunable(artifacts / "cache" / name, used, also_unfinished=also_unfinished)
        unused += removable
        unfinished += kept
    if unfinished:
        output.note(
            f"{unfinished} feature sets that nothing uses stay: half-made, or of a dataset of which no extraction has "
            "finished (--unfinished takes the half-made ones too)"
        )
    names = [f"{one.dataset}/{one.directory.name}" for one in unused]
    for one, name in zip(unused, names, strict=True):
        output.note(f"not used by anything: {name}  {one.rows:,} rows, {one.size_bytes / 1e6:,.1f} MB")
    if unused and not yes:
        _ask(f"Remove these {len(unused)} feature sets? Their features would have to be extracted again")
    for one in unused:
        remove_set(one.directory)
    freed = sum(one.size_bytes for one in unused)
    line = f"{len(unused)} feature sets removed, {freed / 1e6:,.1f} MB freed"
    if not unused:
        line = "nothing to remove" if unfinished else "every feature set is used"
    output.result({"removed": names, "freed_bytes": freed}, [line])


app.command("verify", epilog=cache_check.VERIFY_EXAMPLE)(cache_check.verify)
app.command("repair", epilog=cache_check.REPAIR_EXAMPLE)(cache_check.repair)
app.command("import", epilog=cache_interchange.IMPORT_EXAMPLE)(cache_interchange.import_features)
app.command("export", epilog=cache_interchange.EXPORT_EXAMPLE)(cache_interchange.export_features)


def _dataset(output: Output, artifacts: Path, dataset: str | None) -> str:
    from sentifuse.commands.state import dataset_or_last

    name, why = dataset_or_last(artifacts, dataset)
    output.note(f"dataset {name} ({why})")
    return name


def _current_encoders(artifacts: Path, dataset: str) -> tuple[str, ...]:
    from sentifuse.cache.current import read_current

    return tuple(read_current(artifacts / "cache" / dataset).encoders)


def _surveys(artifacts: Path, dataset: str | None) -> list["SetSurvey"]:
    from sentifuse.cache.survey import survey

    datasets = [dataset] if dataset else _datasets(artifacts)
    return [one for name in datasets for one in survey(artifacts / "cache" / name)]


def _datasets(artifacts: Path) -> list[str]:
    root = artifacts / "cache"
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _feature_sets(artifacts: Path, dataset: str, encoders: Sequence[str] = ()) -> list["FeatureSet"]:
    """The feature sets of a dataset, of these encoders the current ones; none given: all there are."""
    from sentifuse.cache.current import read_current
    from sentifuse.cache.featureset import list_feature_sets, open_feature_set

    cache_dir = artifacts / "cache" / dataset
    if not encoders:
        found = list_feature_sets(cache_dir)
        if not found:
            raise _nothing(artifacts, dataset, ())
        return found
    current = read_current(cache_dir)
    return [open_feature_set(current.directory(name)) for name in encoders]


def _make_current(output: Output, feature_set: "FeatureSet") -> None:
    """What was extracted in parts is what training takes, as after a plain extract."""
    from sentifuse.cache.current import write_current

    folder = feature_set.directory
    write_current(folder.parent, {feature_set.encoder: folder.name}, str(feature_set.details.get("profile", "")))
    output.note(f"{feature_set.encoder} features in use: {folder.name}")


def _nothing(artifacts: Path, dataset: str | None, encoders: Sequence[str]) -> CacheError:
    what = f"features of {', '.join(encoders)}" if encoders else "feature sets"
    where = artifacts / "cache" / (dataset or "")
    return CacheError(f"{where}: expected {what}, found none. Run: sentifuse extract --dataset {dataset or 'NAME'}")


def _state(one: "SetSurvey") -> str:
    if one.problem or one.pending:
        return "DAMAGED" if one.problem else "not committed"
    return "in use" if one.is_current else "not in use"


def _describe(one: "SetSurvey") -> list[str]:
    """A feature set in several lines: where it lies, its fields, its recipe."""
    lines = ["", str(one.directory)]
    if one.problem or one.pending:
        return [*lines, f"  damaged: {one.problem}" if one.problem else f"  {one.pending}"]
    lines.append(f"  fingerprint {one.fingerprint}, generation {one.generation}")
    lines.append(f"  rows        {', '.join(f'{count:,} {kind}' for kind, count in one.counts.items())}")
    lines += [f"  field       {name}: {size / 1e6:,.1f} MB" for name, size in one.values_bytes.items()]
    lines += [f"  recipe      {key} = {_short(value)}" for key, value in _flat(one.recipe)]
    return lines


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in sorted(value.items()):
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _gain(result: "Compaction", *, is_dry: bool) -> str:
    if not result.is_needed:
        return f"tidy already: {result.rows:,} rows in {result.shards_before:,} shards"
    verb = "would become" if is_dry else "became"
    gain = "" if is_dry else f", {result.bytes_before / 1e6:,.1f} MB {verb} {result.bytes_after / 1e6:,.1f} MB"
    return (
        f"{result.shards_before:,} shards {verb} {result.shards_after:,}{gain}; {result.superseded:,} replaced rows "
        f"{'would go' if is_dry else 'went'}"
    )


def _ask(question: str) -> None:
    """Go on only when the person at the terminal says so."""
    if not sys.stdin.isatty():
        raise ConfigError(f"{question}: nobody is at the terminal to say so. Give --yes")
    typer.confirm(question, abort=True, err=True)


def _short(value: Any) -> str:
    text = "(absent)" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
