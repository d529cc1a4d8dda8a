"""Adds shards to a feature set so that a crash at any moment leaves whole shards or nothing. Knows nothing of models.

A shard is *staged* (written, forced to the disk, given its final name) by anyone, in any thread or process, and
*committed* (a journal line, then a new index) by the one writer that holds the lock.
"""

import contextlib
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType

from sentifuse.cache.errors import BadRow, CacheError, CorruptIndex, reading, writing
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.files import fsync_directory, make_directory, sha256_of
from sentifuse.cache.journal import (
    Index,
    ShardRecord,
    append_record,
    effective,
    journal_bytes,
    read_index,
    read_journal,
    replace_journal,
    write_index,
)
from sentifuse.cache.lock import WriterLock
from sentifuse.cache.shard import check_rows, corrupt, read_layout, size_estimate, write_shard_file
from sentifuse.cache.spec import Row

__all__ = ["FeatureWriter", "StagedShard", "commit_parts", "stage_shard"]

StagedShard = ShardRecord  # staged and not yet committed: the same few facts

_SHARD_NAME = re.compile(r"[0-9]{6,}-[0-9a-f]{12}\.h5")
_LEFT_OVER = re.compile(r"\.(index\.json|recipe\.json|journal[^/]*\.jsonl)\.[0-9a-f]{32}")
_PART = re.compile(r"(?:journal|lock)\.part-([0-9]+)-of-([0-9]+)(?:\.jsonl)?")
_GATE_S = 30.0  # how long a part waits for another part to get through the door


def stage_shard(feature_set: FeatureSet, number: int, rows: Sequence[Row]) -> StagedShard:
    """Write rows as a whole shard under its final name; it counts once a writer commits it.

    Needs no lock and no writer, so it may run in any process. May run twice: the same rows give the same file.

    Raises
    ------
    BadRow
        Something that must not be stored; nothing was written.
    DiskFull, Unwritable
        Nothing is left behind.
    """
    if type(number) is not int or number < 0:
        raise BadRow(f"{feature_set.directory}: shard number {number!r}, expected a whole number from 0")
    check_rows(feature_set, rows)
    temporary = feature_set.temporary / f"{number:06d}.{uuid.uuid4().hex}.h5"
    try:
        with writing(feature_set.directory, needed_bytes=size_estimate(feature_set, rows)):
            counts = write_shard_file(temporary, feature_set, number, rows)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            size_bytes = temporary.stat().st_size
            sha256 = sha256_of(temporary)
            name = f"{number:06d}-{sha256[:12]}.h5"
            temporary.replace(feature_set.shards / name)
            fsync_directory(feature_set.shards)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return StagedShard(
        file=f"shards/{name}",
        number=number,
        rows=len(rows),
        ok=counts.get("ok", 0),
        counts=counts,
        sha256=sha256,
        size_bytes=size_bytes,
    )


def commit_parts(feature_set: FeatureSet, *, timeout_s: float = 0.0) -> tuple[ShardRecord, ...]:
    """Merge the journals of parts (`FeatureWriter(part=…)`) into the set's own and return the shards that came in.

    A part still at work is merged as far as it has come, and keeps its journal. Opening any writer of the whole set
    does the same.
    """
    with FeatureWriter(feature_set, timeout_s=timeout_s) as writer:
        return writer.merged


class FeatureWriter:
    """The one committer of a feature set, or of one part of it. A context manager; opening it takes the lock.

    Opening the whole set also puts it in order: a torn journal line goes, journals of parts are merged, the index is
    made anew where the journal is ahead, and what was staged but never committed is removed.

    Parameters
    ----------
    feature_set : FeatureSet
    timeout_s : float
        How long to wait for another writer before raising Locked.
    part : (int, int), optional
        (i, n): commit into the journal of part i of n, which other parts do not touch; see `commit_parts`.

    Attributes
    ----------
    merged : tuple of ShardRecord
        Shards that came in from parts when this writer was opened.
    lost : tuple of ShardRecord
        Committed shards whose file has gone. Their lines were removed; their rows are to be computed again.
    """

    def __init__(self, feature_set: FeatureSet, *, timeout_s: float = 0.0, part: tuple[int, int] | None = None) -> None:
        if part is not None and not 0 <= part[0] < part[1]:
            raise CacheError(f"part {part[0]} of {part[1]}: expected 0 ≤ part < count")
        self.feature_set = feature_set
        self.part = part
        self.merged: tuple[ShardRecord, ...] = ()
        self.lost: tuple[ShardRecord, ...] = ()
        self._foreign: tuple[ShardRecord, ...] = ()  # of a part: what the whole set's journal has
        self._records: tuple[ShardRecord, ...] = ()  # lines of our journal that count, by number
        self._journal_size_bytes = 0
        self._generation = 0
        self._rows_of: dict[str, list[tuple[str, str, str]]] = {}  # file -> (id, digest, status)
        self._known: dict[str, tuple[str, str]] | None = None
        self._lock = WriterLock(feature_set.lock(part))
        self._open(timeout_s)

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._lock.release()

    @property
    def shard_numbers(self) -> frozenset[int]:
        """Numbers of the committed shards."""
        return frozenset(record.number for record in (*self._foreign, *self._records))

    @property
    def next_number(self) -> int:
        """The number above all committed ones: rows that replace older ones go into shards from here on."""
        return max(self.shard_numbers, default=-1) + 1

    @property
    def records(self) -> tuple[ShardRecord, ...]:
        """The committed shards by number."""
        return effective((*self._foreign, *self._records))

    @property
    def known(self) -> Mapping[str, tuple[str, str]]:
        """Id -> (digest, status) of the row that counts: the one in the shard with the highest number."""
        if self._known is None:
            known: dict[str, tuple[str, str]] = {}
            for record in self.records:
                if record.file not in self._rows_of:
                    layout = read_layout(self.feature_set, record)
                    self._rows_of[record.file] = list(zip(layout.ids, layout.digests, layout.statuses, strict=True))
                for row_id, digest, status in self._rows_of[record.file]:
                    known[row_id] = (digest, status)
            self._known = known
        return self._known

    def stage(self, number: int, rows: Sequence[Row]) -> StagedShard:
        """`stage_shard` of this feature set; may be called from another thread than commit."""
        return stage_shard(self.feature_set, number, rows)

    def commit(self, staged: StagedShard) -> None:
        """Make a staged shard count: journal line, forced to the disk, then the index replaced.

        A shard that is committed already is left alone, so a task may be done twice.

        Raises
        ------
        CacheError
            Another shard of this number is committed, the staged file is gone, or this writer is closed.
        DiskFull, Unwritable
            The shard does not count; all committed before do. When only the index could not be replaced, the next
            writer makes it anew.
        """
        journal = self.feature_set.journal(self.part)
        if not self._lock.is_held:
            raise CacheError(f"{journal}: this writer is closed; open a new one to commit")
        for record in (*self._foreign, *self._records):
            if record.number == staged.number:
                if record == staged:
                    return
                raise CacheError(
                    f"{self.feature_set.directory}: shard {staged.number} is committed as {record.file}, now "
                    f"{staged.file} came: the same task gave other numbers. Use the next free number for new rows."
                )
        if not self._is_there(staged):
            raise corrupt(self.feature_set.directory / staged.file, "staged, but no longer there")
        found = journal.stat().st_size if journal.exists() else 0
        if found != self._journal_size_bytes:
            raise CorruptIndex(
                f"{journal}: {found} bytes, expected {self._journal_size_bytes}: something else has written to it, or "
                "half a line could not be taken back. Run the same command again: opening the set puts it in order."
            )
        append_record(journal, staged)
        self._journal_size_bytes += len(journal_bytes([staged]))
        self._records = effective((*self._records, staged))
        self._known = None
        if self.part is None:
            self._generation += 1
            self._write_index()

    def close(self) -> None:
        """Bring the journal into the order of shard numbers, whatever order they were committed in; free the lock."""
        try:
            if self._lock.is_held:
                self._replace_journal()
        finally:
            self._lock.release()

    def _open(self, timeout_s: float) -> None:
        make_directory(self.feature_set.shards)
        make_directory(self.feature_set.temporary)
        try:
            if self.part is None:
                self._lock.acquire(timeout_s)
                self._put_in_order()
            else:
                # Parts come in through the door of the whole set, so that who holds that one can tell which parts
                # are at work, and can clear away what none of them needs.
                door = WriterLock(self.feature_set.lock())
                door.acquire(max(timeout_s, _GATE_S))
                try:
                    self._lock.acquire(timeout_s)
                finally:
                    door.release()
                self._open_part()
        except BaseException:
            self._lock.release()
            raise

    def _open_part(self) -> None:
        whole, _ = self._split(read_journal(self.feature_set.journal()))
        own, self.lost = self._split(read_journal(self.feature_set.journal(self.part)))
        self._foreign = effective(whole)
        taken = {record.number for record in self._foreign}
        self._records = tuple(record for record in effective(own) if record.number not in taken)
        self._replace_journal()

    def _put_in_order(self) -> None:
        committed = read_journal(self.feature_set.journal())
        index = self._old_index()
        if index is not None:
            # An index is written after the journal; lines it knows and the journal lacks were lost, not undone.
            numbers = {record.number for record in committed}
            committed = (*committed, *(record for record in index.shards if record.number not in numbers))
        present, self.lost = self._split(committed)
        numbers = {record.number for record in present}
        parts = self._parts()
        came: dict[int, ShardRecord] = {}
        for part in parts:
            for record in self._split(read_journal(self.feature_set.journal(part)))[0]:
                if record.number not in numbers:
                    came.setdefault(record.number, record)
        self.merged = effective(came.values())
        self._records = effective((*present, *self.merged))
        self._replace_journal()
        before = index.shards if index is not None else ()
        new = len(set(self._key(self._records)) - set(self._key(before)))
        self._generation = index.generation if index is not None else 0
        if before != self._records:
            self._generation += max(1, new)
        self._write_index()
        self._clear_away(parts)

    def _old_index(self) -> Index | None:
        try:
            return read_index(self.feature_set.index)
        except CorruptIndex:
            return None  # the journal has it all

    def _clear_away(self, parts: list[tuple[int, int]]) -> None:
        """Remove journals of finished parts and, when no part is at work, all that was never committed."""
        is_quiet = True
        directory = self.feature_set.directory
        with writing(directory):
            for part in parts:
                lock = WriterLock(self.feature_set.lock(part))
                if not lock.try_acquire():
                    is_quiet = False
                    continue
                # Nobody waits for this lock file: a part comes in only through the lock that we hold.
                self.feature_set.journal(part).unlink(missing_ok=True)
                lock.release()
                lock.path.unlink(missing_ok=True)
            if not is_quiet:
                return
            kept = {record.file for record in self._records}
            left_over = [path for path in directory.iterdir() if _LEFT_OVER.fullmatch(path.name)]
            left_over += self.feature_set.temporary.iterdir()
            left_over += [
                path
                for path in self.feature_set.shards.iterdir()
                if _SHARD_NAME.fullmatch(path.name) and f"shards/{path.name}" not in kept
            ]
            for path in left_over:
                path.unlink(missing_ok=True)

    def _parts(self) -> list[tuple[int, int]]:
        """The parts that have left a journal or a lock."""
        with reading(self.feature_set.directory):
            matches = (_PART.fullmatch(path.name) for path in self.feature_set.directory.iterdir())
            return sorted({(int(match[1]), int(match[2])) for match in matches if match})

    def _split(self, records: Sequence[ShardRecord]) -> tuple[tuple[ShardRecord, ...], tuple[ShardRecord, ...]]:
        """Records whose file is there, and those whose file has gone."""
        there = [self._is_there(record) for record in records]
        present = tuple(record for record, found in zip(records, there, strict=True) if found)
        gone = tuple(record for record, found in zip(records, there, strict=True) if not found)
        return present, tuple(record for record in gone if record.number not in {kept.number for kept in present})

    def _is_there(self, record: ShardRecord) -> bool:
        path = self.feature_set.directory / record.file
        with reading(path):
            try:
                size_bytes = path.stat().st_size
            except FileNotFoundError:
                return False
        if size_bytes != record.size_bytes:
            raise corrupt(path, f"{size_bytes} bytes, expected {record.size_bytes}")
        return True

    def _replace_journal(self) -> None:
        path = self.feature_set.journal(self.part)
        if self._records or path.exists():
            replace_journal(path, self._records)
        self._journal_size_bytes = len(journal_bytes(self._records))

    def _write_index(self) -> None:
        index = Index(fingerprint=self.feature_set.fingerprint, generation=self._generation, shards=self._records)
        write_index(self.feature_set.index, index)

    @staticmethod
    def _key(records: Sequence[ShardRecord]) -> list[str]:
        return [record.file for record in records]
