"""`sentifuse cache import` and `cache export`: features from other programs, and for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output

if TYPE_CHECKING:
    from sentifuse.cache.interchange.importing import ImportSummary
    from sentifuse.cache.spec import Field
    from sentifuse.data.manifest import Manifest

IMPORT_EXAMPLE = (
    "Examples: sentifuse cache import bottom/ --format npz --encoder regions --ids-from info · "
    "sentifuse cache import vectors.npy --format npy --ids ids.txt --encoder context · "
    "sentifuse cache import exported/ --format parquet"
)
EXPORT_EXAMPLE = "Example: sentifuse cache export regions-for-others --format safetensors --encoder regions"
SHOWN = 20  # ids named in a summary for a person; --json has all

FORMATS_IN = "tsv, npz, npy or pickle; parquet, safetensors or webdataset (and npz) as `cache export` wrote them."


def import_features(
    path: Annotated[Path, typer.Argument(help="The file or folder to import.")],
    *,
    format_name: Annotated[str, typer.Option("--format", help=FORMATS_IN)],
    dataset: options.Dataset = None,
    encoder: Annotated[
        str | None, typer.Option(help="What the features stand for.", show_default="that of an export of ours")
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(help="What they were made from: image, text or both.", show_default="what the encoder reads"),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Convert the features: float32 or float16.", show_default="as they are")
    ] = None,
    ids: Annotated[Path | None, typer.Option(help="npy: text file with one id a line.")] = None,
    ids_from: Annotated[
        str | None, typer.Option(help="npz: take ids from the file's name or from the info in it.", show_default="name")
    ] = None,
    id_prefix: Annotated[str | None, typer.Option(help="Put before each id of the files.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="npy: NAME of the field. pickle: NAME=ARRAY, which array becomes which field; repeatable."),
    ] = None,
    lengths: Annotated[
        str | None, typer.Option(help="pickle: array with the real lengths of padded sequences.")
    ] = None,
    splits: Annotated[str | None, typer.Option(help="pickle: only these splits, separated by commas.")] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Store rows that cannot be read as failed instead of stopping.")
    ] = False,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Take in features that other programs made, or an export of this one; each pair of the dataset gets a row."""
    from sentifuse.cache.interchange.importing import import_features
    from sentifuse.cache.interchange.source import ImportOptions
    from sentifuse.commands.state import dataset_or_last, remember
    from sentifuse.extract.plan import list_inputs

    output = Output(as_json=as_json)
    name, why = dataset_or_last(artifacts, dataset)
    output.note(f"dataset {name} ({why}); reading {path} once to name its bytes, then row by row")
    inputs = list_inputs(_manifest(artifacts, name), _inputs_of(modality, encoder, path))
    chosen = ImportOptions(
        dtype=dtype,
        ids_file=ids,
        ids_from=ids_from,
        id_prefix=id_prefix,
        arrays=tuple(_named(text) for text in field or ()),
        lengths=lengths,
        splits=options.split_names(splits),
    )
    with output.progress(f"importing into {name}", len(inputs), "rows") as advance:
        summary = import_features(
            path,
            format_name=format_name,
            cache_dir=artifacts / "cache" / name,
            digests={row.id: row.digest for row in inputs},
            statuses={row.id: row.status for row in inputs if row.status != "ok"},
            encoder=encoder,
            options=chosen,
            skip_broken=skip_broken,
            progress=advance,
        )
    is_used = _use(output, summary, {row.id: row.digest for row in inputs})
    remember(artifacts, dataset=name)
    document = {"dataset": name, "format": format_name, **summary.to_json(), "is_used": is_used}
    output.result(document, import_lines(summary))


def export_features(
    out: Annotated[Path, typer.Argument(help="The folder to write; must not exist.")],
    *,
    format_name: Annotated[str, typer.Option("--format", help="npz, parquet, safetensors or webdataset.")],
    encoder: Annotated[str, typer.Option(help="Whose features: regions, context, tokens …")],
    dataset: options.Dataset = None,
    field: Annotated[
        list[str] | None, typer.Option(help="Only this field; may be given several times.", show_default="all fields")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that is there.")] = False,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Write a feature set into files that other programs read, and `cache import` takes back exactly."""
    from sentifuse.cache.current import read_current
    from sentifuse.cache.interchange.exporting import export_features
    from sentifuse.cache.reader import FeatureReader
    from sentifuse.commands.state import dataset_or_last

    output = Output(as_json=as_json)
    name, why = dataset_or_last(artifacts, dataset)
    reader = FeatureReader(read_current(artifacts / "cache" / name).directory(encoder))
    output.note(f"dataset {name} ({why}), feature set {reader.feature_set.directory.name}")
    with output.progress(f"exporting {encoder}", len(reader), "rows") as advance:
        summary = export_features(
            reader, out, format_name=format_name, fields=field or (), is_forced=force, progress=advance
        )
    line = f"{summary.folder}: {summary.rows:,} rows, {summary.ok:,} with values ({', '.join(summary.fields)})"
    output.result({"dataset": name, **summary.to_json()}, [f"{line}; {summary.size_bytes / 1e6:,.1f} MB"])


def import_lines(summary: "ImportSummary") -> list[str]:
    """An import's outcome for a person: every row of dataset and source accounted for."""
    counts = ", ".join(f"{count:,} {kind}" for kind, count in summary.statuses.items()) or "nothing new"
    lines = [
        f"{summary.feature_set.directory}: {summary.written:,} rows written ({counts}), {summary.stored:,} were there",
        "fields: " + ", ".join(f"{field.name} {field.dtype} {_shape(field)}" for field in summary.feature_set.fields),
    ]
    if summary.failed:
        lines.append(f"{len(summary.failed):,} failed:")
        lines += [f"  {row_id}: {status}" for row_id, status in list(summary.failed.items())[:SHOWN]]
    what = {
        "rows of the files whose id the dataset does not have, left out": summary.unknown,
        "pairs of the dataset that the files do not have": summary.absent,
        "rows made from another input than the dataset has now; extract makes them again": summary.outdated,
    }
    lines += [f"{len(ids):,} {text}: {_first(ids)}" for text, ids in what.items() if ids]
    return lines


def _manifest(artifacts: Path, dataset: str) -> "Manifest":
    from sentifuse.data.manifest import read_manifest
    from sentifuse.data.prepare import dataset_dir

    return read_manifest(dataset_dir(artifacts, dataset))


def _inputs_of(modality: str | None, encoder: str | None, path: Path) -> tuple[str, ...]:
    """What the features were made from: said, or what the encoder of that name reads."""
    from sentifuse.cache.interchange.header import has_header, peek_header
    from sentifuse.extract.encoders import ENCODERS, encoder_class

    known: Mapping[str, tuple[str, ...]] = {"image": ("image",), "text": ("text",), "both": ("image", "text")}
    if modality is not None:
        if modality not in known:
            raise ConfigError.unknown("modality", modality, known, where="--modality")
        return known[modality]
    if encoder is None and has_header(path):
        encoder = peek_header(path).encoder
    if encoder is None:
        raise ConfigError("--encoder: say which encoder these features stand for, such as regions, context or tokens")
    if encoder not in ENCODERS:
        raise ConfigError(f"--modality: {encoder!r} is no encoder of ours; say what it read: image, text or both")
    return encoder_class(encoder, {}).inputs


def _use(output: Output, summary: "ImportSummary", digests: Mapping[str, str]) -> bool:
    """Make the imported set the one that training reads, if any pair has features in it; other encoders keep theirs."""
    from sentifuse.cache.current import read_current, write_current
    from sentifuse.cache.errors import NoFeatures
    from sentifuse.cache.reader import FeatureReader

    encoder, folder = summary.feature_set.encoder, summary.feature_set.directory
    try:
        current = read_current(folder.parent)
        before, profile = current.encoders.get(encoder, ""), current.profile
    except NoFeatures:
        before, profile = "", "imported"
    reader = FeatureReader(summary.feature_set)
    usable = sum(reader.has_value(id_) and reader.digest(id_) == digest for id_, digest in digests.items())
    if not usable:
        output.note(f"not taken into use: no pair of {folder.parent.name} has features in it", style="warning")
        return False
    instead = (
        f", instead of {before} (the next extract of {encoder} takes it back)"
        if before not in ("", folder.name)
        else ""
    )
    output.note(f"{encoder} features in use now: {folder.name}, for {usable:,} of {len(digests):,} pairs{instead}")
    write_current(folder.parent, {encoder: folder.name}, profile)
    return True


def _named(text: str) -> tuple[str, str]:
    """NAME or NAME=ARRAY as field and array."""
    name, equals, array = text.partition("=")
    if not name or (equals and not array):
        raise ConfigError(f"--field: found {text!r}, expected NAME or NAME=ARRAY, such as vector=image")
    return name, array or name


def _shape(field: "Field") -> str:
    return "×".join(["n"] * field.is_ragged + [str(side) for side in field.shape]) or "scalar"


def _first(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (f", … and {len(ids) - SHOWN:,} more, in --json" if len(ids) > SHOWN else "")
