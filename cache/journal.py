"""The journal, one line per committed shard, and the index made from it. Knows no HDF5.

A shard counts when its line is in the journal. The index is the journal in the order of shard numbers, replaced as a
whole, and is all that a reader looks at. Neither holds a clock, so equal stores have equal bytes.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse.cache.errors import CorruptIndex, FutureVersion, reading, writing
from sentifuse.cache.files import replace_file
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.spec import FORMAT_VERSION, STATUS_KINDS

__all__ = [
    "Index",
    "ShardRecord",
    "append_record",
    "effective",
    "read_index",
    "read_journal",
    "replace_journal",
    "write_index",
]

_FILE = re.compile(r"shards/([0-9]{6,})-([0-9a-f]{12})\.h5")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """What the journal says of one shard; small and picklable, so that it can travel from the process that wrote it.

    Attributes
    ----------
    file : str
        Path inside the feature set, "shards/000012-0123456789ab.h5".
    number : int
        The shard's number; a later shard has a higher one.
    rows, ok : int
        How many rows, and how many of them have values.
    counts : mapping
        Rows by kind of status ("ok", "missing", "unreadable", "failed"); kinds that do not occur are left out.
    sha256 : str
        Of the whole file.
    size_bytes : int
        Of the whole file.
    """

    file: str
    number: int
    rows: int
    ok: int
    counts: Mapping[str, int]
    sha256: str
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "shard",
            "file": self.file,
            "number": self.number,
            "rows": self.rows,
            "ok": self.ok,
            "counts": dict(self.counts),
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
        }

    @classmethod
    def from_json(cls, value: Any) -> "ShardRecord":
        """Check a parsed line to the last key. Raises ValueError saying what is wrong with it."""
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
        if value.get("kind") != "shard":
            raise ValueError(f"unknown kind {value.get('kind')!r}")
        expected = {"kind", "file", "number", "rows", "ok", "counts", "sha256", "size_bytes"}
        if set(value) != expected:
            raise ValueError(f"keys {sorted(value)}, expected {sorted(expected)}")
        counts = value["counts"]
        if not isinstance(counts, dict) or not set(counts) <= set(STATUS_KINDS):
            raise ValueError(f"counts {counts!r}")
        whole = [value[key] for key in ("number", "rows", "ok", "size_bytes")] + list(counts.values())
        if not all(type(number) is int and number >= 0 for number in whole):
            raise ValueError("a count is no whole number")
        if sum(counts.values()) != value["rows"] or counts.get("ok", 0) != value["ok"]:
            raise ValueError(f"counts {counts!r} do not add up to {value['rows']} rows with {value['ok']} ok")
        name = _FILE.fullmatch(value["file"]) if isinstance(value["file"], str) else None
        if not isinstance(value["sha256"], str) or not _SHA256.fullmatch(value["sha256"]):
            raise ValueError(f"sha256 {value['sha256']!r}")
        if name is None or int(name[1]) != value["number"] or name[2] != value["sha256"][:12]:
            raise ValueError(f"file {value['file']!r} is not named after its number and SHA-256")
        return cls(**{key: value[key] for key in expected - {"kind"}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The shards a reader sees, in the order of their numbers, and how often the set has grown."""

    fingerprint: str
    generation: int
    shards: tuple[ShardRecord, ...]

    @property
    def rows(self) -> int:
        """Rows in all shards, superseded ones included."""
        return sum(record.rows for record in self.shards)

    def to_bytes(self) -> bytes:
        """The content of index.json."""
        value = {
            "format": FORMAT_VERSION,
            "fingerprint": self.fingerprint,
            "generation": self.generation,
            "rows": self.rows,
            "shards": [record.to_json() for record in self.shards],
        }
        return canonical_json(value) + b"\n"


def effective(records: Iterable[ShardRecord]) -> tuple[ShardRecord, ...]:
    """The records that count, by number: of two lines with one number the later one."""
    by_number = {record.number: record for record in records}
    return tuple(by_number[number] for number in sorted(by_number))


def journal_bytes(records: Sequence[ShardRecord]) -> bytes:
    """The journal that consists of these lines."""
    return b"".join(canonical_json(record.to_json()) + b"\n" for record in records)


def read_journal(path: Path) -> tuple[ShardRecord, ...]:
    """The records in the order they were committed; a torn last line was never committed and is left out.

    Raises
    ------
    CorruptIndex
        A line before the last, or a whole last line, cannot be believed.
    """
    with reading(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return ()
    records = []
    # A crash while appending leaves a prefix of a line, which never ends with the newline.
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            records.append(ShardRecord.from_json(json.loads(line)))
        except ValueError as error:
            raise CorruptIndex(
                f"{path}, line {number}: {error}. The journal was changed by something else or the disk is failing. "
                "Restore it from a copy, or delete the feature set's folder and extract again."
            ) from error
    return tuple(records)


def append_record(path: Path, record: ShardRecord) -> None:
    """Add one line and force it to the disk: from here on the shard counts.

    Raises
    ------
    Unwritable, DiskFull
        The journal is as it was before.
    """
    line = journal_bytes([record])
    with writing(path.parent, needed_bytes=len(line)), path.open("ab") as file:
        length = file.seek(0, os.SEEK_END)
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, length)  # else the next line would be glued to half of this one
            raise


def replace_journal(path: Path, records: Sequence[ShardRecord]) -> None:
    """Make the journal consist of these lines, in one step; untouched when it does already."""
    content = journal_bytes(records)
    with reading(path):
        if path.is_file() and path.read_bytes() == content:
            return
    replace_file(path, content)


def write_index(path: Path, index: Index) -> None:
    """Replace index.json in one step; untouched when it says the same already."""
    content = index.to_bytes()
    with reading(path):
        if path.is_file() and path.read_bytes() == content:
            return
    replace_file(path, content)


def read_index(path: Path) -> Index:
    """What index.json says, checked.

    Raises
    ------
    CorruptIndex
        Missing, not JSON, or not consistent with itself.
    FutureVersion
        Written by a later version.
    """
    advice = "Run the same extract command again: it makes the index anew from the journal."
    with reading(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise CorruptIndex(f"{path}: not there, expected the index of a feature set. {advice}") from None
    try:
        value = json.loads(content)
        version = value["format"]
        if type(version) is int and version > FORMAT_VERSION:
            raise FutureVersion(
                f"{path}: format {version}, this program reads up to {FORMAT_VERSION}. Install a later sentifuse."
            )
        index = Index(
            fingerprint=value["fingerprint"],
            generation=value["generation"],
            shards=tuple(ShardRecord.from_json(shard) for shard in value["shards"]),
        )
        if index.to_bytes() != content or index.shards != effective(index.shards):
            raise ValueError("it is not what a writer writes")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptIndex(f"{path}: {type(error).__name__}: {error}. {advice}") from error
    return index
