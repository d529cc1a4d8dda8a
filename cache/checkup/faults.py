"""What a check of a feature set found: faults by file, part and row, and remarks that are none. Checks nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FILE", "MANIFEST", "METADATA", "ROWS", "Fault", "Report"]

MANIFEST = (
    "manifest"  # takes the place of a file: nothing of the set is damaged, but the dataset asks for something else
)
# Parts of a shard file that are no dataset.
FILE = "file"
METADATA = "HDF5 metadata or padding"
ROWS = "rows"  # values of rows; which of their fields, a row's checksum cannot tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is not as it was written, or not as it must be.

    Attributes
    ----------
    file : str
        Path inside the feature set.
    part : str
        "file", "ids", "digests", "status", "fields/…/offsets" and so on, "rows", "HDF5 metadata or padding";
        "journal.jsonl line 3"; "recipe.json", "index.json".
    problem : str
        What was found and what was expected.
    shard : int, optional
        Number of the shard.
    rows : tuple of str
        Ids of the rows that are hit; "row 17" stands for one whose id is lost too.
    remedy : str
        "repair"; "extract" (nothing is damaged, something is not there yet or no longer right); "upgrade" (of a later
        version); "import" (damaged or missing, and made by another program: no encoder here can make it).
    """

    file: str
    part: str
    problem: str
    shard: int | None = None
    rows: tuple[str, ...] = ()
    remedy: str = "repair"

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "shard": self.shard,
            "part": self.part,
            "rows": list(self.rows),
            "problem": self.problem,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of `verify`.

    Attributes
    ----------
    faults : tuple of Fault
        Empty when everything is as it was written.
    remarks : tuple of str
        What a person may want to know and need not mend.
    shards, rows, ok : int
        How many were looked at; rows in all shards, those with values.
    bytes_read : int
        Of shard files: each byte once, those of rows again where a file is damaged.
    """

    directory: Path
    encoder: str
    is_deep: bool
    faults: tuple[Fault, ...]
    remarks: tuple[str, ...]
    shards: int
    rows: int
    ok: int
    bytes_read: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "directory": str(self.directory),
            "encoder": self.encoder,
            "deep": self.is_deep,
            "faults": [fault.to_json() for fault in self.faults],
            "remarks": list(self.remarks),
            "shards": self.shards,
            "rows": self.rows,
            "ok": self.ok,
            "bytes_read": self.bytes_read,
            "seconds": round(self.seconds, 3),
        }
