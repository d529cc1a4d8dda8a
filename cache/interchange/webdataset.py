"""tar files of an export by the naming convention of webdataset: members of one row share what stands before the dot.

A row is `0000000000.json` (id, digest, status) and, if it has values, `0000000000.<field>.npy` for each field; no two
rows of an export share a key. Nothing is ever unpacked to the disk; a member of any other name or kind is refused.
"""

import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sentifuse.cache.errors import BadSource, reading
from sentifuse.cache.interchange.arrays import MAX_VALUE_BYTES, npy_bytes, read_npy
from sentifuse.cache.interchange.exported import ExportedSource
from sentifuse.cache.interchange.source import ImportOptions, RowRecord, Source
from sentifuse.cache.spec import Array, Field, Row

__all__ = ["TarRows", "open_source", "write_rows"]

_MEMBER = re.compile(r"([0-9]{10,})\.(json|[a-z][a-z0-9_]*\.npy)")


def open_source(path: Path, options: ImportOptions) -> Source:
    """A folder that `write_rows` filled. Raises BadSource, Unreadable."""
    return ExportedSource(path, "webdataset", TarRows, options)


def write_rows(folder: Path, piece: int, fields: Sequence[Field], rows: Sequence[Row]) -> list[str]:
    """Write rows as one tar. Raises OSError."""
    name = f"{piece:06d}.tar"
    with (folder / name).open("xb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for place, row in enumerate(rows):
            key = f"{piece:06d}{place:04d}"
            record = {"id": row.id, "digest": row.digest, "status": row.status}
            _add(tar, f"{key}.json", json.dumps(record, ensure_ascii=False).encode("utf-8"))
            if row.values is None:
                continue
            for field in fields:
                _add(tar, f"{key}.{field.name}.npy", npy_bytes(row.values[field.name]))
    return [name]


class TarRows:
    """One tar; see `RowFile`. Keeps where each member lies and reads it when asked."""

    def __init__(self, path: Path, fields: Sequence[Field]) -> None:
        self._path = path
        self._fields = fields
        self._places: dict[str, dict[str, tuple[int, int]]] = {}  # key -> suffix -> start and size
        try:
            with reading(path), path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    self._note(member)
        except tarfile.TarError as error:
            raise BadSource(f"{path}: no tar, or a damaged one ({error}). Copy or export it again") from error
        self._keys = sorted(self._places)

    def records(self) -> list[RowRecord]:
        with reading(self._path), self._path.open("rb") as file:
            return [self._record(file, key) for key in self._keys]

    def read(self, place: int) -> Mapping[str, Array]:
        key = self._keys[place]
        with reading(self._path), self._path.open("rb") as file:
            return {
                field.name: read_npy(
                    self._content(file, key, f"{field.name}.npy"), f"{self._path}: {key}.{field.name}.npy"
                )
                for field in self._fields
            }

    def _note(self, member: tarfile.TarInfo) -> None:
        match = _MEMBER.fullmatch(member.name)
        if match is None or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise BadSource(
                f"{self._path}: a member {member.name!r} that no export has; expected plain files such as "
                "0000000000.json and 0000000000.features.npy"
            )
        if member.size > MAX_VALUE_BYTES:
            raise BadSource(
                f"{self._path}: {member.name} has {member.size:,} bytes, expected at most {MAX_VALUE_BYTES:,}"
            )
        members = self._places.setdefault(match[1], {})
        if match[2] in members:
            raise BadSource(f"{self._path}: two members {member.name!r}")
        members[match[2]] = (member.offset_data, member.size)

    def _record(self, file: io.BufferedReader, key: str) -> RowRecord:
        try:
            record = json.loads(self._content(file, key, "json"))
            return record["id"], record["digest"], record["status"]
        except (ValueError, KeyError, TypeError) as error:
            raise BadSource(f"{self._path}: {key}.json is no row ({error})") from error

    def _content(self, file: io.BufferedReader, key: str, suffix: str) -> bytes:
        if suffix not in self._places[key]:
            raise BadSource(f"{self._path}: no member {key}.{suffix}")
        start, size_bytes = self._places[key][suffix]
        file.seek(start)
        return file.read(size_bytes)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # its clock stands at zero: the same rows give the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
