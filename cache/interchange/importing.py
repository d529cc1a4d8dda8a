"""Features from outside into a feature set: no row of the dataset and no row of the source goes unaccounted for.

Knows no format (those are in `interchange`) and no dataset: ids and digests are passed in. One shard of rows is in
memory at a time.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import ConfigError
from sentifuse.cache.errors import BadRow, BadSource, BadSourceRow, Unreadable
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.interchange import open_source
from sentifuse.cache.interchange.source import ImportOptions, Source
from sentifuse.cache.spec import Array, Field, Row, is_finite, status_kind, status_text
from sentifuse.cache.writer import FeatureWriter

__all__ = ["IMPORTER_VERSION", "NOT_IMPORTED", "ImportSummary", "import_features"]

IMPORTER_VERSION = 1  # raised when the same files give other numbers
SHARD_ROWS = 1024
NOT_IMPORTED = "failed: not in the imported files"
MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportSummary:
    """What became of the rows, in the dataset and in the source.

    Attributes
    ----------
    feature_set : FeatureSet
    source_rows : int
        Rows of the source: those written, those stored already and those unknown.
    written : int
        Rows written now, with or without values.
    stored : int
        Rows that the feature set had already; an import that is repeated writes nothing.
    statuses : mapping
        How many of the written rows have which kind of status.
    failed : mapping of id to status
        Written rows that have no values though the source has something for them.
    unknown : tuple of str
        Ids of the source that the dataset does not have; not stored.
    absent : tuple of str
        Ids of the dataset that the source does not have.
    outdated : tuple of str
        Rows of an export that were made from another input than the dataset has now; `extract` makes them again.
    """

    feature_set: FeatureSet
    source_rows: int
    written: int
    stored: int
    statuses: Mapping[str, int]
    failed: Mapping[str, str]
    unknown: tuple[str, ...]
    absent: tuple[str, ...]
    outdated: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "feature_set": str(self.feature_set.directory),
            "encoder": self.feature_set.encoder,
            "fingerprint": self.feature_set.fingerprint,
            "fields": [field.to_json() for field in self.feature_set.fields],
            "source_rows": self.source_rows,
            "written": self.written,
            "stored": self.stored,
            "statuses": dict(self.statuses),
            "failed": dict(self.failed),
            "unknown": list(self.unknown),
            "absent": list(self.absent),
            "outdated": list(self.outdated),
        }


def import_features(
    path: Path,
    *,
    format_name: str,
    cache_dir: Path,
    digests: Mapping[str, str],
    statuses: Mapping[str, str] | None = None,
    encoder: str | None = None,
    options: ImportOptions | None = None,
    skip_broken: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ImportSummary:
    """Import the features at `path` into a feature set of the dataset whose folder of caches `cache_dir` is.

    Parameters
    ----------
    digests
        Id to digest of the input ("" when there is none), in the order in which rows are to be stored.
    statuses
        Why there is no input, for some of the ids without one: "missing" or "unreadable: reason".
    encoder
        The encoder the features are to stand for. An export of this program knows its own.
    skip_broken
        Store a row that cannot be read as failed, instead of refusing the source.
    progress
        Called with the number of rows newly written.

    An export of this program comes back as what it was: its recipe, digests and statuses; rows that it lacks are left
    out, for `extract` to make. Of files made by others a row that is not there is stored as failed, or as missing
    where there is no input. A source that is refused leaves nothing behind; an import that was interrupted goes on
    when it is repeated.

    Raises
    ------
    ConfigError
        Unknown format, options of no use, no encoder or another than that of an export.
    BadSource, BadSourceRow, Unreadable
        What is wrong with the files.
    CacheError
        The feature set cannot be written, or holds something else.
    """
    source = open_source(format_name, path, options or ImportOptions())
    numbers = {row_id: number for number, row_id in enumerate(source.ids)}
    _refuse_strangers(path, source, digests)
    inputs = {row_id: (digest, (statuses or {}).get(row_id, MISSING)) for row_id, digest in digests.items()}
    rows = _Rows(source, numbers, inputs, skip_broken=skip_broken)
    feature_set = _feature_set(path, format_name, cache_dir, encoder, source)
    with FeatureWriter(feature_set) as writer:
        was_empty = not writer.records
        try:
            wanted = rows.left_over(writer.known)
            _write(writer, feature_set, rows, wanted, progress or (lambda count: None))
        except (BadSource, BadRow, Unreadable):
            if was_empty:
                shutil.rmtree(feature_set.directory, ignore_errors=True)
            raise
        known = writer.known
    written = Counter(status_kind(known[row_id][1]) for row_id in wanted)
    return ImportSummary(
        feature_set=feature_set,
        source_rows=len(source.ids),
        written=len(wanted),
        stored=len(rows.ids) - len(wanted),
        statuses=dict(sorted(written.items())),
        failed={
            row_id: known[row_id][1] for row_id in wanted if row_id in numbers and status_kind(known[row_id][1]) != "ok"
        },
        unknown=tuple(row_id for row_id in source.ids if row_id not in digests),
        absent=tuple(row_id for row_id in digests if row_id not in numbers),
        outdated=tuple(row_id for row_id in rows.ids if rows.is_outdated(row_id)),
    )


class _Rows:
    """The rows to be stored, in the dataset's order, made when asked for."""

    def __init__(
        self,
        source: Source,
        numbers: Mapping[str, int],
        inputs: Mapping[str, tuple[str, str]],
        *,
        skip_broken: bool,
    ) -> None:
        self._source = source
        self._numbers = numbers
        self._inputs = inputs
        self._skip_broken = skip_broken
        # A failed row under the recipe of a real encoder would keep `extract` from ever making it.
        self.ids = [row_id for row_id in inputs if row_id in numbers] if source.header else list(inputs)

    def left_over(self, known: Mapping[str, tuple[str, str]]) -> list[str]:
        """Rows that are not stored yet, then those that are stored for another input."""
        new = [row_id for row_id in self.ids if row_id not in known]
        return new + [row_id for row_id in self.ids if row_id in known and self._is_stale(row_id, known[row_id])]

    def is_outdated(self, row_id: str) -> bool:
        """Whether an export's row was made from another input than there is now."""
        if self._source.header is None or not self._inputs[row_id][0]:
            return False
        return self._source.records[self._numbers[row_id]][1] != self._inputs[row_id][0]

    def make(self, ids: Sequence[str]) -> list[Row]:
        """Rows by id, in this order. Raises BadSource."""
        # The source is read in its own order: it knows nothing faster.
        order = sorted(range(len(ids)), key=lambda place: self._numbers.get(ids[place], -1))
        rows: dict[str, Row] = {ids[place]: self._make_one(ids[place]) for place in order}
        return [rows[row_id] for row_id in ids]

    def _is_stale(self, row_id: str, stored: tuple[str, str]) -> bool:
        if self._source.header is not None:
            return False  # what is stored under its recipe may be newer than the export
        digest, reason = self._inputs[row_id]
        return stored[0] != digest or (not digest and row_id not in self._numbers and stored[1] != reason)

    def _make_one(self, row_id: str) -> Row:
        digest, reason = self._inputs[row_id]
        number = self._numbers.get(row_id)
        if number is None:
            return Row(id=row_id, digest=digest, status=NOT_IMPORTED if digest else reason)
        if self._source.header is not None:
            _, digest, status = self._source.records[number]
            return Row(
                id=row_id, digest=digest, status=status, values=self._source.read(number) if status == "ok" else None
            )
        try:
            values = self._source.read(number)
        except BadSourceRow as error:
            if not self._skip_broken:
                raise
            return Row(id=row_id, digest=digest, status=status_text("failed", str(error)))
        if problem := _problem(values, self._source.fields, row_id):
            return Row(id=row_id, digest=digest, status=status_text("failed", problem))
        return Row(id=row_id, digest=digest, status="ok", values=values)


def _write(
    writer: FeatureWriter, feature_set: FeatureSet, rows: _Rows, ids: Sequence[str], progress: Callable[[int], None]
) -> None:
    # Numbers above all that are committed: a row that replaces another must come later.
    for number, part in enumerate(_cut(ids), start=writer.next_number):
        made = rows.make(part)
        writer.commit(writer.stage(number, made))
        progress(len(made))


def _cut(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), SHARD_ROWS):
        yield ids[start : start + SHARD_ROWS]


def _feature_set(path: Path, format_name: str, cache_dir: Path, encoder: str | None, source: Source) -> FeatureSet:
    """The feature set to write into."""
    recipe: Mapping[str, Any]
    details: Mapping[str, Any]
    header = source.header
    if header is not None:
        if encoder not in (None, header.encoder):
            raise ConfigError(f"--encoder {encoder}: {path} is an export of {header.encoder!r}; leave the option out")
        name, recipe, details = header.encoder, header.recipe, header.details
    else:
        if encoder is None:
            raise ConfigError(
                "--encoder: say which encoder these features stand for, such as regions, context or tokens"
            )
        name = encoder
        imported = {
            "format": format_name,
            "version": IMPORTER_VERSION,
            "source_sha256": source.sha256,
            **source.options.given(),
        }
        recipe = {"encoder": encoder, "imported": imported}
        details = {"imported_from": str(path), "shard_rows": SHARD_ROWS}
    return create_feature_set(cache_dir, encoder=name, recipe=recipe, fields=source.fields, details=details)


def _refuse_strangers(path: Path, source: Source, digests: Mapping[str, str]) -> None:
    if any(row_id in digests for row_id in source.ids):
        return
    theirs = ", ".join(repr(row_id) for row_id in source.ids[:3])
    ours = ", ".join(repr(row_id) for row_id in list(digests)[:3])
    raise BadSource(
        f"{path}: none of its {len(source.ids):,} ids ({theirs}, …) is one of the dataset's {len(digests):,} "
        f"({ours}, …). Another dataset? If only a prefix is missing: --id-prefix; if the id is inside an .npz: "
        "--ids-from info"
    )


def _problem(values: Mapping[str, Array], fields: Sequence[Field], row_id: str) -> str:
    """Why a row's values cannot be stored; "" if they can."""
    names = [field.name for field in fields]
    if set(values) != set(names):
        return f"has {', '.join(sorted(values))}; the first row of the source has {', '.join(sorted(names))}"
    for field in fields:
        try:
            field.check(values[field.name], row_id)
        except BadRow as error:
            return str(error)
        if not is_finite(values[field.name]):
            return f"{field.name} has NaN or infinity"
    return ""
