"""Files appear whole or not at all: written under a temporary name, flushed, fsynced, renamed.

Knows bytes, JSON and Parquet tables. Knows nothing of what stands in them.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import get_ident
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentifuse import DataError

METADATA_KEY = b"sentifuse"


def digest(content: bytes) -> str:
    """SHA-256 in hex.

    >>> digest(b"")[:12]
    'e3b0c44298fc'
    """
    return hashlib.sha256(content).hexdigest()


def write_bytes(path: Path, content: bytes) -> bool:
    """Put `content` at `path`; False when it is there already, so that a second run changes nothing.

    Raises
    ------
    DataError
        The folder or the file cannot be written (permissions, full disk); what was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.tmp")
    try:
        if path.is_file() and path.read_bytes() == content:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}. What was there before is untouched; "
            "free some space or mend the permissions (or name another folder with --artifacts), then run it again"
        ) from error
    return True


def check_writable(folder: Path, *, hint: str) -> None:
    """Refuse, before any work, a folder (there, or to be made) that nothing could be put into; leaves nothing behind.

    Raises
    ------
    DataError
        No file can be made in it, or in the nearest folder above it that is there; with `hint`, what to do.
    """
    try:
        place = folder.absolute()
        there = next(path for path in (place, *place.parents) if path.exists())
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}. {hint}") from error


def is_file(path: Path) -> bool:
    """Whether there is a file; `DataError` when the folder does not let us look."""
    try:
        return path.is_file()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}. "
            "Mend the permissions or name another folder with --artifacts"
        ) from error


def remove(path: Path) -> None:
    """Remove a file if it is there; `DataError` when that is not allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be removed: {error.strerror or error}. Mend the permissions") from error


def read_bytes(path: Path, *, hint: str) -> bytes:
    """The whole file; `DataError` with `hint` (what to do) when it is not there or cannot be opened."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: not there. {hint}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}. Mend the permissions. {hint}") from error


def write_json(path: Path, value: object) -> bool:
    """`value` as readable JSON, written atomically."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    return write_bytes(
        path, text.encode("utf-8", "backslashreplace")
    )  # a file's odd name: half a surrogate pair, escaped


def read_json(path: Path, *, hint: str) -> dict[str, Any]:
    """One JSON object from a file; `DataError` when there is none in it."""
    try:
        value = json.loads(read_bytes(path, hint=hint))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}). Delete it. {hint}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(value).__name__}. Delete it. {hint}")
    return value


def write_table(path: Path, columns: Mapping[str, tuple[str, Sequence[Any]]], metadata: Mapping[str, Any]) -> bool:
    """Columns (name -> (pyarrow type name, values)) as a Parquet file with JSON `metadata`; same values, same bytes."""
    return write_bytes(path, table_bytes(columns, metadata))


def table_bytes(columns: Mapping[str, tuple[str, Sequence[Any]]], metadata: Mapping[str, Any]) -> bytes:
    """What `write_table` writes."""
    schema = pa.schema(
        [(name, pa.type_for_alias(kind)) for name, (kind, _) in columns.items()],
        metadata={METADATA_KEY: json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode()},
    )
    table = pa.table([pa.array(values, type=schema.field(name).type) for name, (_, values) in columns.items()], schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_table(
    path: Path, columns: Sequence[str], *, hint: str, where: Mapping[str, Sequence[Any]] | None = None
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The named columns as lists, and the metadata that `write_table` was given.

    Parameters
    ----------
    where
        Column -> values: only rows that have one of them in each of these columns.

    Raises
    ------
    DataError
        No such file, not a Parquet file of ours, or a column is missing.
    """
    content = read_bytes(path, hint=hint)
    try:
        table = read_parquet(content)
        metadata = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"null"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}). Delete it. {hint}") from error
    absent = [name for name in columns if name not in table.column_names]
    if absent or not isinstance(metadata, dict):
        raise DataError(f"{path}: expected the columns {list(columns)}, found {table.column_names}. Delete it. {hint}")
    for name, values in (where or {}).items():
        wanted = pa.array(values, type=table.schema.field(name).type)
        table = table.filter(pc.is_in(table.column(name), value_set=wanted))
    return {name: table.column(name).to_pylist() for name in columns}, metadata


def read_metadata(path: Path, *, hint: str) -> dict[str, Any]:
    """The metadata alone that `write_table` was given; refuses what `read_table` refuses, but for missing columns."""
    content = read_bytes(path, hint=hint)
    try:
        metadata = json.loads((pq.read_schema(pa.BufferReader(content)).metadata or {}).get(METADATA_KEY, b"null"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}). Delete it. {hint}") from error
    if not isinstance(metadata, dict):
        raise DataError(f"{path}: expected a table of this program, found no metadata. Delete it. {hint}")
    return metadata


def read_parquet(content: bytes) -> pa.Table:
    """A whole Parquet file, read in this thread.

    Not by `pq.read_table`: its threads may outlive the call holding `content`, and letting go of a Python object while
    the interpreter ends aborts the process (exit 134 instead of ours).
    """
    return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)


def _sync_folder(folder: Path) -> None:
    # Without this a power cut may undo the rename. Some file systems refuse it; the file itself is safe by then.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
