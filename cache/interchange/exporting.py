"""A feature set into files of another format, from which it can be imported again exactly. Knows no format.

An export is a folder with an export.json. It is written under another name and renamed when it is whole.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import ConfigError
from sentifuse.cache.errors import CacheError, DiskFull, Unwritable, has_no_room
from sentifuse.cache.files import fsync_directory, sha256_of
from sentifuse.cache.fingerprint import fingerprint as fingerprint_of
from sentifuse.cache.interchange import find_writer
from sentifuse.cache.interchange.header import ExportedFile, ExportHeader, has_header, write_header
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Field, Row

__all__ = ["ExportSummary", "export_features"]

PIECE_ROWS = 1024
PIECE_BYTES = 256 << 20  # of values; a piece may be in memory as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSummary:
    """What was written.

    Attributes
    ----------
    fingerprint : str
        That of the export's recipe; another than the feature set's if fields were left out.
    rows, ok : int
        Rows written, and those of them with values.
    """

    folder: Path
    format_name: str
    encoder: str
    fingerprint: str
    fields: tuple[str, ...]
    rows: int
    ok: int
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "format": self.format_name,
            "encoder": self.encoder,
            "fingerprint": self.fingerprint,
            "fields": list(self.fields),
            "rows": self.rows,
            "ok": self.ok,
            "size_bytes": self.size_bytes,
        }


def export_features(
    reader: FeatureReader,
    folder: Path,
    *,
    format_name: str,
    fields: Sequence[str] = (),
    is_forced: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ExportSummary:
    """Write every row of a feature set into a new folder.

    Each row's values are proved by their checksum on the way.

    Parameters
    ----------
    fields
        Only these fields, in the set's order. The export then has a recipe of its own, which says so: a feature set
        that lacks fields must not pass for the one it came from.
    is_forced
        Replace an export that lies at `folder`. Anything else there is never replaced.
    progress
        Called with the number of rows newly written.

    Raises
    ------
    ConfigError
        Unknown format, or something is at `folder`.
    CacheError
        No rows, no such field, a damaged row, no room or no permission; nothing is left behind.
    """
    write_rows = find_writer(format_name)
    chosen = _chosen(reader, fields)
    if not len(reader):
        raise CacheError(f"{reader.feature_set.directory}: no rows to export. Run the extract command first")
    _refuse_existing(folder, is_forced=is_forced)
    recipe = reader.recipe if chosen == reader.fields else {**reader.recipe, "only_fields": [f.name for f in chosen]}
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    files: list[ExportedFile] = []
    ok = 0
    try:
        with _writing(folder):
            temporary.mkdir(parents=True)
            for piece, rows in enumerate(_pieces(reader, chosen)):
                names = write_rows(temporary, piece, chosen, rows)
                files += [ExportedFile(file=n, rows=len(rows), sha256=sha256_of(temporary / n)) for n in names]
                ok += sum(row.values is not None for row in rows)
                (progress or (lambda count: None))(len(rows))
            header = ExportHeader(
                layout=format_name,
                encoder=reader.encoder,
                fingerprint=fingerprint_of(recipe),
                recipe=recipe,
                fields=chosen,
                details=reader.feature_set.details,
                files=tuple(files),
            )
            write_header(temporary, header)
            size_bytes = _force_to_disk(temporary)
            _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ExportSummary(
        folder=folder,
        format_name=format_name,
        encoder=reader.encoder,
        fingerprint=header.fingerprint,
        fields=tuple(field.name for field in chosen),
        rows=header.row_count,
        ok=ok,
        size_bytes=size_bytes,
    )


def _chosen(reader: FeatureReader, names: Sequence[str]) -> tuple[Field, ...]:
    for name in names:
        reader.field(name)  # raises with the names there are
    return tuple(field for field in reader.fields if not names or field.name in names)


def _refuse_existing(folder: Path, *, is_forced: bool) -> None:
    if not os.path.lexists(folder):
        return
    if not has_header(folder) or folder.is_symlink():
        raise ConfigError(f"{folder}: there already, and no export; choose a name that is free")
    if not is_forced:
        raise ConfigError(f"{folder}: there is an export already. Choose another name, or replace it with --force")


def _pieces(reader: FeatureReader, fields: Sequence[Field]) -> Iterator[list[Row]]:
    """Runs of rows in the set's order, small enough to be in memory."""
    rows: list[Row] = []
    size_bytes = 0
    for row_id in reader.ids:
        values = None
        if reader.has_value(row_id):
            reader.check(row_id)
            values = {field.name: reader.value(row_id, field.name) for field in fields}
            size_bytes += sum(value.nbytes for value in values.values())
        rows.append(Row(id=row_id, digest=reader.digest(row_id), status=reader.status(row_id), values=values))
        if len(rows) == PIECE_ROWS or size_bytes >= PIECE_BYTES:
            yield rows
            rows, size_bytes = [], 0
    if rows:
        yield rows


def _force_to_disk(folder: Path) -> int:
    """fsync every file and folder of an export; its size in bytes."""
    size_bytes = 0
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                size_bytes += os.fstat(file.fileno()).st_size
    for path in [*(path for path in paths if path.is_dir()), folder]:
        fsync_directory(path)
    return size_bytes


def _put_in_place(temporary: Path, folder: Path) -> None:
    old = temporary.with_name(temporary.name + ".old")
    if has_header(folder):
        folder.rename(old)
    temporary.rename(folder)
    fsync_directory(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if has_no_room(error):
            raise DiskFull(f"{folder}: no room on the disk ({reason}). Nothing is left of this export") from error
        raise Unwritable(f"{folder}: cannot be written: {reason}. Choose a folder you may write to") from error
