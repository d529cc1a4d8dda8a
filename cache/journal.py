"""The journal, one line per committed shard, and the index made from it. Knows no HDF5.

A shard counts when its line is in the journal. The index is the journal in the order of shard numbers, replaced as a
whole, and is all that a reader looks at; what only `verify` and `repair` need stands in the journal alone. Neither
holds a clock, so equal stores have equal bytes, and each JSON object is sealed with a checksum of its own.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse.cache.checksum import parse_json, seal, unseal
from sentifuse.cache.errors import CorruptIndex, FutureVersion, reading, writing
from sentifuse.cache.files import replace_file
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.record import SHA256, ShardRecord, StagedShard, refuse_other_keys
from sentifuse.cache.spec import FORMAT_VERSION, Field, dataset_names

__all__ = [
    "Index",
    "Journal",
    "append_shard",
    "parse_index",
    "parse_line",
    "read_index",
    "read_journal",
    "replace_journal",
    "write_index",
]

_INDEX_ADVICE = "Run the same extract command again: it makes the index anew from the journal."


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The lines of a journal in the order they were committed.

    `rewritten` is the generation of the rewriting (`cache compact`) that made this journal, 0 when there was none: an
    index below it tells nothing about what was lost, since it names the shards of before.
    """

    rewritten: int = 0
    shards: tuple[StagedShard, ...] = ()

    def to_bytes(self) -> bytes:
        head = canonical_json(seal({"kind": "rewrite", "generation": self.rewritten})) + b"\n"
        return (head if self.rewritten else b"") + b"".join(shard.to_line() for shard in self.shards)


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
        return canonical_json(seal(value)) + b"\n"


def read_journal(path: Path, fields: Sequence[Field] | None = None) -> Journal:
    """What was committed; a torn last line never was and is left out.

    Parameters
    ----------
    fields
        Those of the feature set: each line must name the datasets that its shards have.

    Raises
    ------
    CorruptIndex
        A whole line cannot be believed.
    """
    with reading(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return Journal()
    rewritten, shards = 0, []
    # A crash while appending leaves a prefix of a line, which never ends with the newline.
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            found = parse_line(line, is_first=number == 1, fields=fields)
        except ValueError as error:
            raise CorruptIndex(
                f"{path}, line {number}: {error}. The journal was changed by something else or the disk is failing. "
                "Run: sentifuse cache repair, which makes it anew from the index and the shards."
            ) from error
        if isinstance(found, StagedShard):
            shards.append(found)
        else:
            rewritten = found
    return Journal(rewritten=rewritten, shards=tuple(shards))


def parse_line(line: bytes, *, is_first: bool, fields: Sequence[Field] | None = None) -> StagedShard | int:
    """The shard that a journal line is about; of the first line of a rewritten journal its generation.

    Parameters
    ----------
    fields
        As in `read_journal`.

    Raises
    ------
    ValueError
        It is not what a writer writes.
    """
    value = unseal(parse_json(line))
    if is_first and value.get("kind") == "rewrite":
        return _rewrite_generation(value)
    if value.get("kind") == "shard":
        shard = StagedShard.from_json(value)
        names = [dataset.name for dataset in shard.proof.datasets]
        if fields is not None and names != dataset_names(fields):
            raise ValueError(f"datasets {names}, expected {dataset_names(fields)}")
        return shard
    raise ValueError(f"unknown kind {value.get('kind')!r}")


def append_shard(path: Path, shard: StagedShard) -> int:
    """Add one line and force it to the disk: from here on the shard counts. Returns the journal's new size.

    Raises
    ------
    Unwritable, DiskFull
        The journal is as it was before.
    """
    line = shard.to_line()
    with writing(path.parent, needed_bytes=len(line)), path.open("ab") as file:
        length = file.seek(0, os.SEEK_END)
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, length)  # else the next line would be glued to half of this one
            raise
    return length + len(line)


def replace_journal(path: Path, journal: Journal) -> int:
    """Make the journal consist of these lines, in one step; untouched when it does already. Returns its size."""
    content = journal.to_bytes()
    with reading(path):
        is_same = path.is_file() and path.read_bytes() == content
    if not is_same:
        replace_file(path, content)
    return len(content)


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
    with reading(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise CorruptIndex(f"{path}: not there, expected the index of a feature set. {_INDEX_ADVICE}") from None
    return parse_index(path, content)


def parse_index(path: Path, content: bytes) -> Index:
    """The index that these bytes, found at `path`, are; raises as `read_index`."""
    try:
        value = parse_json(content)
        version = value["format"]
        if type(version) is int and version > FORMAT_VERSION:
            raise FutureVersion(
                f"{path}: format {version}, this program reads up to {FORMAT_VERSION}. Install a later sentifuse."
            )
        value = unseal(value)
        index = Index(
            fingerprint=value["fingerprint"],
            generation=value["generation"],
            shards=tuple(ShardRecord.from_json(shard) for shard in value["shards"]),
        )
        numbers = [record.number for record in index.shards]
        if index.to_bytes() != content or numbers != sorted(set(numbers)):
            raise ValueError("it is not what a writer writes")
        if not isinstance(index.fingerprint, str) or not SHA256.fullmatch(index.fingerprint):
            raise ValueError(f"fingerprint {index.fingerprint!r}")
        if type(index.generation) is not int or index.generation < 0:
            raise ValueError(f"generation {index.generation!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptIndex(f"{path}: {type(error).__name__}: {error}. {_INDEX_ADVICE}") from error
    return index


def _rewrite_generation(value: Mapping[str, Any]) -> int:
    refuse_other_keys(value, {"kind", "generation"})
    generation = value["generation"]
    if type(generation) is not int or generation < 1:
        raise ValueError(f"generation {generation!r}")
    return generation
