"""Puts a feature set in order after whatever happened to its last writer. Called by the writer, under its lock.

What counts is what the journals say and the disk has. What nobody committed goes; what was committed and has gone is
named, so that it is made again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sentifuse.cache.errors import CorruptIndex, CorruptShard, reading, writing
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.journal import Index, Journal, read_index, read_journal
from sentifuse.cache.lock import WriterLock
from sentifuse.cache.record import SHARD_NAME, ShardRecord, StagedShard, effective
from sentifuse.cache.shard import corrupt, prove_shard

__all__ = ["PART_FILE", "Order", "clear_away", "find_order", "find_parts", "is_there", "split_by_presence"]

_LEFT_OVER = re.compile(r"\.(index\.json|recipe\.json|journal[^/]*\.jsonl)\.[0-9a-f]{32}")
PART_FILE = re.compile(r"(?:journal|lock)\.part-([0-9]+)-of-([0-9]+)(?:\.jsonl)?")

Part = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a feature set comes to.

    Attributes
    ----------
    shards : tuple of StagedShard
        Those that count, by number.
    generation : int
        For the index that says so.
    rewritten : int
        As in `Journal`.
    merged, lost : tuple of StagedShard
        What came in from parts; whose file has gone.
    """

    shards: tuple[StagedShard, ...]
    generation: int
    rewritten: int
    merged: tuple[StagedShard, ...]
    lost: tuple[StagedShard, ...]


def find_order(feature_set: FeatureSet, *, accept_damage: bool = False) -> Order:
    """Read journals, parts and index and decide what counts; changes nothing.

    Parameters
    ----------
    accept_damage
        For a repair: a shard of another size than its record says counts nevertheless; a damaged one that only the
        index still names does not.
    """
    journal = read_journal(feature_set.journal(), feature_set.fields)
    index = _old_index(feature_set, journal)
    committed = (*journal.shards, *_forgotten(feature_set, journal, index, accept_damage=accept_damage))
    present, lost = split_by_presence(feature_set, committed, accept_damage=accept_damage)
    numbers = {shard.number for shard in present}
    came: dict[int, StagedShard] = {}
    for part in find_parts(feature_set.directory):
        shards = read_journal(feature_set.journal(part), feature_set.fields).shards
        for shard in split_by_presence(feature_set, shards, accept_damage=accept_damage)[0]:
            if shard.number not in numbers:
                came.setdefault(shard.number, shard)
    merged = effective(came.values())
    kept = effective((*present, *merged))
    generation, before = index.generation, index.shards
    if before != tuple(shard.record for shard in kept):
        new = {shard.file for shard in kept} - {record.file for record in before}
        generation += max(1, len(new))
    return Order(shards=kept, generation=generation, rewritten=journal.rewritten, merged=merged, lost=lost)


def clear_away(feature_set: FeatureSet, kept: Sequence[StagedShard]) -> None:
    """Remove journals of finished parts and, when no part is at work, all that was never committed."""
    is_quiet = True
    numbers = {shard.number for shard in kept}
    directory = feature_set.directory
    with writing(directory):
        for part in find_parts(feature_set.directory):
            lock = WriterLock(feature_set.lock(part))
            if not lock.try_acquire():
                is_quiet = False
                continue
            # It may have committed after its journal was read here, and finished since: then the next one merges it.
            committed = read_journal(feature_set.journal(part)).shards
            if {shard.number for shard in committed if (directory / shard.file).exists()} <= numbers:
                # Nobody waits for this lock file: a part comes in only through the lock that we hold.
                feature_set.journal(part).unlink(missing_ok=True)
                lock.release()
                lock.path.unlink(missing_ok=True)
            else:
                is_quiet = False
                lock.release()
        if not is_quiet:
            return
        files = {shard.file for shard in kept}
        left_over = [path for path in directory.iterdir() if _LEFT_OVER.fullmatch(path.name)]
        left_over += feature_set.temporary.iterdir()
        left_over += [
            path
            for path in feature_set.shards.iterdir()
            if SHARD_NAME.fullmatch(path.name) and f"shards/{path.name}" not in files
        ]
        for path in left_over:
            path.unlink(missing_ok=True)


def find_parts(directory: Path) -> tuple[Part, ...]:
    """The parts that have left a journal or a lock in the folder of a feature set."""
    with reading(directory):
        matches = (PART_FILE.fullmatch(path.name) for path in directory.iterdir())
        return tuple(sorted({(int(match[1]), int(match[2])) for match in matches if match}))


def split_by_presence(
    feature_set: FeatureSet, shards: Sequence[StagedShard], *, accept_damage: bool = False
) -> tuple[tuple[StagedShard, ...], tuple[StagedShard, ...]]:
    """Shards whose file is there, and those whose file has gone and for which no other of their number is there."""
    there = [is_there(feature_set, shard.record, accept_damage=accept_damage) for shard in shards]
    present = tuple(shard for shard, found in zip(shards, there, strict=True) if found)
    numbers = {shard.number for shard in present}
    gone = tuple(shard for shard, found in zip(shards, there, strict=True) if not found)
    return present, tuple(shard for shard in gone if shard.number not in numbers)


def is_there(feature_set: FeatureSet, record: ShardRecord, *, accept_damage: bool = False) -> bool:
    """Whether a shard's file is there. Raises CorruptShard when it has another size and damage is not accepted."""
    path = feature_set.directory / record.file
    size_bytes = _size_of(path)
    if size_bytes is not None and size_bytes != record.size_bytes and not accept_damage:
        raise corrupt(path, f"{size_bytes} bytes, expected {record.size_bytes}")
    return size_bytes is not None


def _size_of(path: Path) -> int | None:
    with reading(path):
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None


def _old_index(feature_set: FeatureSet, journal: Journal) -> Index:
    try:
        index = read_index(feature_set.index)
    except CorruptIndex as error:  # the journal has it all
        if not journal.shards and not find_parts(feature_set.directory):
            _refuse_to_forget(feature_set, error)
        return Index(fingerprint=feature_set.fingerprint, generation=journal.rewritten, shards=())
    if index.generation >= journal.rewritten:
        return index
    # It names the shards of before a rewriting, which are no loss: this is what the rewriting was about to put there.
    records = tuple(shard.record for shard in effective(journal.shards))
    return Index(fingerprint=feature_set.fingerprint, generation=journal.rewritten, shards=records)


def _refuse_to_forget(feature_set: FeatureSet, error: CorruptIndex) -> None:
    """With the journal gone as well, whole shards would pass for what nobody committed, and be cleared away."""
    with reading(feature_set.shards):
        names = [path.name for path in feature_set.shards.iterdir() if SHARD_NAME.fullmatch(path.name)]
    if names:
        raise CorruptIndex(
            f"{feature_set.directory}: {len(names)} shards, but journal.jsonl and index.json are both lost. "
            "Run: sentifuse cache repair, which recognises whole shards by their names."
        ) from error


def _forgotten(
    feature_set: FeatureSet, journal: Journal, index: Index, *, accept_damage: bool = False
) -> list[StagedShard]:
    """Shards that the index knows and the journal lacks: their lines were lost, for the journal is written first."""
    numbers = {shard.number for shard in journal.shards}
    found = []
    for record in index.shards:
        if record.number not in numbers and _size_of(feature_set.directory / record.file) is not None:
            try:
                found.append(prove_shard(feature_set, record))
            except CorruptShard:
                # Or a repair was killed while it dropped this one: with neither line nor proof its rows are computed
                # again.
                if not accept_damage:
                    raise
    return found
