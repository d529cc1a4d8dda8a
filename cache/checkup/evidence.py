"""What can still be believed of a feature set, whatever has happened to its files. Changes nothing, raises nothing.

Recipe, journal, index and shards say much of it twice, and each says of itself whether it is whole. What one of them
lost is taken from the others; each loss is a fault in the list.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sentifuse.cache.checksum import parse_json, unseal
from sentifuse.cache.checkup.faults import FILE, Fault
from sentifuse.cache.checkup.recognise import adopt, adopt_damaged, feature_set_of
from sentifuse.cache.checkup.unflip import unflip
from sentifuse.cache.errors import CacheError
from sentifuse.cache.featureset import RECIPE_FILE, FeatureSet, parse_recipe
from sentifuse.cache.journal import Index, parse_index, parse_line
from sentifuse.cache.order import PART_FILE, find_parts
from sentifuse.cache.record import SHARD_NAME, ShardProof, ShardRecord, StagedShard
from sentifuse.cache.spec import FORMAT_VERSION, Field

__all__ = ["Evidence", "Witness", "reason_of", "weigh"]

JOURNAL, INDEX = "journal.jsonl", "index.json"

# Where two lines met before one bit of the newline was turned: their keys are sorted, and a line has "counts" first.
_SEAM = re.compile(rb'\}[\x02\x08\x0b\x0e\x1a*J\x8a](?=\{"counts":)')
_TRIES = 8
_READINGS = 5  # a writer at work replaces the index with every shard

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A committed shard: what must be in it, and the proof of its rows where the journal still has that."""

    record: ShardRecord
    proof: ShardProof | None = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What a feature set is known to be.

    Attributes
    ----------
    feature_set : FeatureSet or None
        None when neither recipe.json nor any shard says what it is.
    shards : tuple of Witness
        What was committed, by number; the files may be damaged or gone.
    index : Index or None
        As it was written; None when it is lost.
    rewritten : int
        As in `Journal`.
    nameless : tuple of (int, str)
        Numbers and files of shards that nothing names any more and that are not whole.
    part_journals : mapping
        Name of a damaged journal of a part to the shards it still names.
    faults, remarks
        Of recipe, journal and index; the shards were not looked at.
    """

    directory: Path
    feature_set: FeatureSet | None
    shards: tuple[Witness, ...]
    index: Index | None
    rewritten: int
    nameless: tuple[tuple[int, str], ...]
    part_journals: Mapping[str, tuple[StagedShard, ...]]
    faults: tuple[Fault, ...]
    remarks: tuple[str, ...]


def weigh(directory: Path, *, details: Mapping[str, Any] | None = None) -> Evidence:
    """Read recipe, journals and index of the feature set in a folder, each as far as it can be believed.

    Parameters
    ----------
    details
        For the recipe.json of a set whose own is lost for good: shards do not have them.
    """
    for _ in range(_READINGS):
        before = _read_bytes(directory / INDEX)
        found = _Scales(directory, before, details).weigh()
        if _read_bytes(directory / INDEX) == before:
            break
    return found


def reason_of(error: Exception) -> str:
    """An error of the cache without the path in front and the advice behind, which a fault has on its own."""
    text = str(error)
    first, colon, rest = text.partition(": ")
    text = rest if colon and "/" in first else text
    return text.partition(" Run: sentifuse cache repair")[0].partition(" Run the same extract command")[0].rstrip(". ")


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


class _Scales:
    """One weighing; faults and remarks are gathered on the way."""

    def __init__(self, directory: Path, index_content: bytes | None, details: Mapping[str, Any] | None) -> None:
        self.directory = directory
        self.index_content = index_content
        self.details = dict(details or {})
        self.faults: list[Fault] = []
        self.remarks: list[str] = []
        self.rewritten = 0
        self.nameless: list[tuple[int, str]] = []

    def weigh(self) -> Evidence:
        content = _read_bytes(self.directory / JOURNAL)
        index = self._index()
        feature_set = self._recipe()
        entries, has_gaps = self._entries(JOURNAL, content or b"", feature_set)
        if index is not None and feature_set is not None and index.fingerprint != feature_set.fingerprint:
            self._fault(INDEX, f"fingerprint {index.fingerprint[:12]}, recipe {feature_set.fingerprint[:12]}")
            index = None
        shards = self._shards(entries, index)
        named = {witness.record.number for witness in shards}
        forgotten = self._forgotten(index, named, has_gaps=has_gaps)
        # A whole journal says all there is: an index that is lost is made from it, and other files never counted.
        is_whole = not has_gaps and bool(entries or self.rewritten)
        if index is None and feature_set is not None and not is_whole and (has_gaps or not find_parts(self.directory)):
            forgotten += self._adopted(feature_set, named)
        if (forgotten or self.nameless) and not any(fault.file == JOURNAL for fault in self.faults):
            self._fault(JOURNAL, "missing" if content is None else "names none of the shards")
        if self.index_content is None and (shards or forgotten or self.nameless):
            self._fault(INDEX, "missing")
        shards = sorted([*shards, *forgotten], key=lambda witness: witness.record.number)
        part_journals = self._parts({witness.record.file for witness in shards}, feature_set)
        self._look_around({witness.record.file for witness in shards})
        return Evidence(
            directory=self.directory,
            feature_set=feature_set,
            shards=tuple(shards),
            index=index,
            rewritten=self.rewritten,
            nameless=tuple(self.nameless),
            part_journals=part_journals,
            faults=tuple(self.faults),
            remarks=tuple(self.remarks),
        )

    def _fault(self, file: str, problem: str, *, part: str = "", remedy: str = "repair") -> None:
        self.faults.append(Fault(file=file, part=part or file, problem=problem, remedy=remedy))

    def _entries(self, name: str, content: bytes, feature_set: FeatureSet | None) -> tuple[list[StagedShard], bool]:
        """The shards of a journal, and whether whole lines of it are lost."""
        *lines, tail = content.split(b"\n")
        shards: list[StagedShard] = []
        has_gaps = False
        fields = feature_set.fields if feature_set is not None else None
        if tail and _healed(tail, is_first=not lines, fields=fields):
            lines.append(tail)  # it was whole: one changed bit, perhaps that of its newline
        for number, line in enumerate(lines, start=1):
            try:
                found = [parse_line(line, is_first=number == 1, fields=fields)]
            except ValueError as error:
                healed = _healed(line, is_first=number == 1, fields=fields)
                has_gaps = has_gaps or not healed
                what = "one flipped bit" if healed else f"not what was written ({error})"
                self._fault(name, what, part=f"{name} line {number}")
                found = healed
            for entry in found:
                if isinstance(entry, StagedShard):
                    shards.append(entry)
                elif name == JOURNAL:
                    self.rewritten = entry
        return shards, has_gaps

    def _index(self) -> Index | None:
        path = self.directory / INDEX
        if self.index_content is None:
            return None

        def parse(text: bytes) -> Index:
            return parse_index(path, text)

        return self._parsed(INDEX, self.index_content, parse)

    def _recipe(self) -> FeatureSet | None:
        content = _read_bytes(self.directory / RECIPE_FILE)

        def parse(text: bytes) -> FeatureSet:
            return parse_recipe(self.directory, text)

        found = None
        if content is None:
            self._fault(RECIPE_FILE, "missing")
        else:
            found = self._parsed(RECIPE_FILE, content, parse)
        if found is None and not any(fault.remedy == "upgrade" for fault in self.faults):
            found = self._recipe_of_shards()
        return found

    def _parsed(self, name: str, content: bytes, parse: Callable[[bytes], Parsed]) -> Parsed | None:
        try:
            return parse(content)
        except CacheError as error:
            if _is_of_later_version(content):
                self._fault(name, reason_of(error), remedy="upgrade")
                return None
            healed = unflip(content, parse)
            self._fault(name, reason_of(error) if healed is None else "one flipped bit")
            return None if healed is None else healed[1]

    def _recipe_of_shards(self) -> FeatureSet | None:
        entries = self._quietly(self.directory / JOURNAL)
        names = [place.name for place in entries[0].proof.datasets] if entries else []
        order = list(dict.fromkeys(name.split("/")[1] for name in names if name.startswith("fields/")))
        for path in self._shard_paths():
            found = feature_set_of(path, self.directory, order, self.details)
            if found is not None:
                return found
        return None

    def _shards(self, entries: Sequence[StagedShard], index: Index | None) -> list[Witness]:
        """Of lines with one number the last one whose file is there."""
        chosen: dict[int, StagedShard] = {}
        for entry in entries:
            if entry.number not in chosen or (self.directory / entry.file).exists():
                chosen[entry.number] = entry
        if index is not None and index.generation >= self.rewritten:
            of_index = {record.number: record for record in index.shards}
            behind = [shard.number for shard in chosen.values() if of_index.get(shard.number) != shard.record]
            if behind:
                self.remarks.append(
                    f"shards {_list(behind)} are committed and not in the index yet: a writer is at work, or one was "
                    "stopped there; the next extract brings them in"
                )
        return [Witness(record=shard.record, proof=shard.proof) for shard in chosen.values()]

    def _forgotten(self, index: Index | None, named: set[int], *, has_gaps: bool) -> list[Witness]:
        # An index from before a rewriting names the shards of before; that they are not in the journal is no loss.
        if index is None or index.generation < self.rewritten:
            return []
        lost = [record for record in index.shards if record.number not in named]
        if lost and not has_gaps:
            numbers = _list([record.number for record in lost])
            self._fault(JOURNAL, f"no line for shards {numbers}, which the index names: it was cut short")
        return [Witness(record=record, proof=None) for record in lost]

    def _adopted(self, feature_set: FeatureSet, named: set[int]) -> list[Witness]:
        """Shards that nothing names any more: a file whose SHA-256 is its name is what some writer made.

        Of a damaged one that can still be opened the rows prove themselves.
        """
        found: dict[int, Witness] = {}
        damaged: list[tuple[int, Path]] = []
        for path in self._shard_paths():
            number = int(path.name.partition("-")[0])
            if number in named:
                continue
            shard = adopt(feature_set, path)
            if shard is not None:
                found.setdefault(number, Witness(record=shard.record, proof=shard.proof))
            else:
                damaged.append((number, path))
        if found:
            self.remarks.append(f"shards {_list(sorted(found))} were recognised by the SHA-256 in their names")
        for number, path in damaged:
            shard = adopt_damaged(feature_set, path)
            if shard is not None:
                found.setdefault(number, Witness(record=shard.record, proof=shard.proof))
            elif number not in found:
                self._nameless(number, f"shards/{path.name}")
        return list(found.values())

    def _nameless(self, number: int, file: str) -> None:
        self.nameless.append((number, file))
        problem = "damaged, and neither journal nor index says any more what was in it"
        self.faults.append(Fault(file=file, part=FILE, shard=number, problem=problem))

    def _parts(self, named: set[str], feature_set: FeatureSet | None) -> dict[str, tuple[StagedShard, ...]]:
        damaged: dict[str, tuple[StagedShard, ...]] = {}
        for path in self._part_journals():
            before = len(self.faults)
            shards, _ = self._entries(path.name, _read_bytes(path) or b"", feature_set)
            if len(self.faults) > before:
                damaged[path.name] = tuple(shards)
            waiting = [shard.number for shard in shards if shard.file not in named]
            if waiting:
                self.remarks.append(f"{path.name} has {len(waiting)} shards that `cache commit` would bring in")
        return damaged

    def _part_journals(self) -> list[Path]:
        found = sorted(self.directory.glob("journal.part-*.jsonl"))
        return [path for path in found if PART_FILE.fullmatch(path.name)]

    def _look_around(self, named: set[str]) -> None:
        parts = {shard.file for path in self._part_journals() for shard in self._quietly(path)}
        staged = [path.name for path in self._shard_paths() if f"shards/{path.name}" not in named | parts]
        if staged:
            self.remarks.append(f"{len(staged)} shard files that were never committed; the next writer removes them")
        folder = self.directory / ".tmp"
        temporary = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        if temporary:
            self.remarks.append(f"{len(temporary)} unfinished files in .tmp; the next writer removes them")

    def _quietly(self, path: Path) -> list[StagedShard]:
        found = []
        for line in (_read_bytes(path) or b"").split(b"\n")[:-1]:
            try:
                entry = parse_line(line, is_first=False)
            except ValueError:
                continue
            found += [entry] if isinstance(entry, StagedShard) else []
        return found

    def _shard_paths(self) -> list[Path]:
        folder = self.directory / "shards"
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return [path for path in found if SHARD_NAME.fullmatch(path.name)]


def _healed(line: bytes, *, is_first: bool, fields: Sequence[Field] | None) -> list[StagedShard | int]:
    """What a journal's line, or two that a changed newline made one, says with one bit turned back; [] if nothing."""

    def parse(text: bytes) -> StagedShard | int:
        return parse_line(text, is_first=is_first, fields=fields)

    if line and (line[-1] ^ 0x0A).bit_count() == 1:
        try:
            return [parse(line[:-1])]
        except ValueError:
            pass
    for seam in islice(_SEAM.finditer(line), _TRIES):
        try:
            return [parse(line[: seam.end() - 1]), parse_line(line[seam.end() :], is_first=False, fields=fields)]
        except ValueError:
            continue
    found = unflip(line, parse)
    return [] if found is None else [found[1]]


def _is_of_later_version(content: bytes) -> bool:
    """Whether a text says that it is of a later version and its seal bears that out: else a digit was damaged."""
    try:
        value = unseal(parse_json(content))
        return type(value["format"]) is int and value["format"] > FORMAT_VERSION
    except (ValueError, KeyError):
        return False


def _list(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return shown if len(numbers) <= 8 else f"{shown} … ({len(numbers)})"
