"""What is said of a committed shard: its record, for readers, and its proof, for those who check and mend it.

Both are JSON objects checked to the last key. Knows no file and no HDF5.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sentifuse.cache.checksum import pack, seal, unpack
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.spec import DIGEST_BYTES, MAX_ID_BYTES, MAX_STATUS_BYTES, STATUS_KINDS, Array

__all__ = [
    "SHA256",
    "SHARD_NAME",
    "DatasetProof",
    "ShardProof",
    "ShardRecord",
    "StagedShard",
    "effective",
    "refuse_other_keys",
]

SHARD_NAME = re.compile(r"([0-9]{6,})-([0-9a-f]{12})\.h5")  # number, and the first digits of the SHA-256
# Columns of a shard -> how many bytes each row may take in them.
_ROW_BYTES: Mapping[str, tuple[int, int | None]] = {
    "ids": (1, MAX_ID_BYTES),
    "digests": (1, DIGEST_BYTES),
    "status": (1, MAX_STATUS_BYTES),
    "value_index": (8, 8),
    "batch": (4, 4),
    "crc32c": (4, 4),
}
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """What the index says of one shard; small and picklable, so that it can travel from the process that wrote it.

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
        """Check a parsed object to the last key. Raises ValueError saying what is wrong with it."""
        refuse_other_keys(value, {"file", "number", "rows", "ok", "counts", "sha256", "size_bytes"})
        counts = value["counts"]
        if not isinstance(counts, dict) or not set(counts) <= set(STATUS_KINDS):
            raise ValueError(f"counts {counts!r}")
        whole = [value[key] for key in ("number", "rows", "ok", "size_bytes")] + list(counts.values())
        if not all(type(number) is int and number >= 0 for number in whole):
            raise ValueError("a count is no whole number")
        if value["rows"] < 1 or 0 in counts.values():
            raise ValueError(f"{value['rows']} rows, counts {counts!r}: expected at least one row, and no zeros")
        if sum(counts.values()) != value["rows"] or counts.get("ok", 0) != value["ok"]:
            raise ValueError(f"counts {counts!r} do not add up to {value['rows']} rows with {value['ok']} ok")
        folder, _, file = value["file"].partition("/") if isinstance(value["file"], str) else ("", "", "")
        name = SHARD_NAME.fullmatch(file) if folder == "shards" else None
        if not isinstance(value["sha256"], str) or not SHA256.fullmatch(value["sha256"]):
            raise ValueError(f"sha256 {value['sha256']!r}")
        if name is None or int(name[1]) != value["number"] or name[2] != value["sha256"][:12]:
            raise ValueError(f"file {value['file']!r} is not named after its number and SHA-256")
        return cls(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetProof:
    """Where a dataset's bytes lie in the shard file, so that they can be read when HDF5 no longer can.

    `crc32c` is that of all its bytes; None for a field's values, which the rows' checksums cover.
    """

    name: str
    offset_bytes: int
    size_bytes: int
    crc32c: int | None

    @classmethod
    def from_json(cls, value: Any) -> "DatasetProof":
        if not isinstance(value, list) or len(value) != 4 or not isinstance(value[0], str):
            raise ValueError(f"dataset {value!r}, expected [name, offset, size, crc32c]")
        if not all(type(number) is int and number >= 0 for number in value[1:3]):
            raise ValueError(f"dataset {value!r}: offset and size must be whole numbers")
        if value[3] is not None and (type(value[3]) is not int or not 0 <= value[3] < 1 << 32):
            raise ValueError(f"dataset {value!r}: crc32c must be a whole number below 2^32, or null")
        return cls(name=value[0], offset_bytes=value[1], size_bytes=value[2], crc32c=value[3])

    def check(self, record: ShardRecord) -> None:
        """Refuse a place that cannot be in the file of this record. Raises ValueError."""
        if self.offset_bytes + self.size_bytes > record.size_bytes:
            wrong = f"bytes {self.offset_bytes} + {self.size_bytes} of a file of {record.size_bytes}"
            raise ValueError(f"dataset {self.name!r}: {wrong}")
        least, most = _ROW_BYTES.get(self.name, (0, None))
        if most is not None and self.size_bytes not in range(least * record.rows, most * record.rows + 1, record.rows):
            expected = f"{least} to {most} for each of {record.rows} rows"
            raise ValueError(f"dataset {self.name!r}: {self.size_bytes} bytes, expected {expected}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardProof:
    """What it takes to tell which bytes of a shard are damaged, and to make them again.

    Attributes
    ----------
    datasets : tuple of DatasetProof
        In the order in which they were written; fields in the order of the feature set.
    row_crc32c : (N,) uint32
        As in the shard: `checksum.row_crc32c` of each row.
    row_batch : (N,) int32
        As in the shard: rows of one number were encoded together; -1 for the others.
    """

    datasets: tuple[DatasetProof, ...]
    row_crc32c: Array
    row_batch: Array

    def to_json(self) -> dict[str, Any]:
        return {
            "datasets": [[d.name, d.offset_bytes, d.size_bytes, d.crc32c] for d in self.datasets],
            "row_crc32c": pack(self.row_crc32c.astype("<u4", copy=False)),
            "row_batch": pack(self.row_batch.astype("<i4", copy=False)),
        }

    @classmethod
    def from_json(cls, value: Any, record: ShardRecord) -> "ShardProof":
        """Check a parsed object beside the record of its line. Raises ValueError."""
        refuse_other_keys(value, {"datasets", "row_crc32c", "row_batch"})
        crcs, batches = unpack(value["row_crc32c"], np.dtype("<u4")), unpack(value["row_batch"], np.dtype("<i4"))
        if len(crcs) != record.rows or len(batches) != record.rows:
            raise ValueError(f"{len(crcs)} checksums and {len(batches)} batch numbers for {record.rows} rows")
        if not isinstance(value["datasets"], list):
            raise ValueError(f"datasets {value['datasets']!r}")
        datasets = tuple(DatasetProof.from_json(item) for item in value["datasets"])
        if len({place.name for place in datasets}) != len(datasets):
            raise ValueError("a dataset twice")
        for place in datasets:
            place.check(record)
        return cls(datasets=datasets, row_crc32c=crcs, row_batch=batches)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedShard:
    """A whole shard file and everything the journal will say of it. Equal when the files are."""

    record: ShardRecord
    proof: ShardProof = field(compare=False, repr=False)

    @property
    def number(self) -> int:
        return self.record.number

    @property
    def file(self) -> str:
        return self.record.file

    @property
    def rows(self) -> int:
        return self.record.rows

    @property
    def ok(self) -> int:
        return self.record.ok

    def to_line(self) -> bytes:
        """The journal's line."""
        value = {"kind": "shard", **self.record.to_json(), **self.proof.to_json()}
        return canonical_json(seal(value)) + b"\n"

    @classmethod
    def from_json(cls, value: Any) -> "StagedShard":
        """Check a parsed line, already unsealed. Raises ValueError."""
        proof_keys = ("datasets", "row_crc32c", "row_batch")
        record = ShardRecord.from_json({k: v for k, v in value.items() if k != "kind" and k not in proof_keys})
        proof = ShardProof.from_json({key: value[key] for key in proof_keys if key in value}, record)
        return cls(record=record, proof=proof)


def effective(shards: Iterable[StagedShard]) -> tuple[StagedShard, ...]:
    """The shards that count, by number: of two lines with one number the later one."""
    by_number = {shard.number: shard for shard in shards}
    return tuple(by_number[number] for number in sorted(by_number))


def refuse_other_keys(value: Any, expected: set[str]) -> None:
    """Raise ValueError unless it is an object with exactly these keys."""
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    if set(value) != expected:
        raise ValueError(f"keys {sorted(value)}, expected {sorted(expected)}")
