"""Adds shards to a feature set so that a crash at any moment leaves whole shards or nothing. Knows nothing of models.

A shard is *staged* (`staging`) by anyone, in any thread or process, and *committed* (a journal line, then a new
index) by the one writer that holds the lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from sentifuse.cache.errors import CacheError, CorruptIndex, Locked, writing
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.files import make_directory
from sentifuse.cache.journal import Index, Journal, append_shard, read_journal, replace_journal, write_index
from sentifuse.cache.lock import WriterLock
from sentifuse.cache.order import Part, clear_away, find_order, find_parts, is_there, split_by_presence
from sentifuse.cache.record import ShardRecord, StagedShard, effective
from sentifuse.cache.shard import corrupt, read_layout
from sentifuse.cache.spec import Row
from sentifuse.cache.staging import stage_shard

__all__ = ["FeatureWriter", "StagedShard", "commit_parts", "stage_shard"]

_GATE_S = 30.0  # how long a part waits for another part to get through the door


def commit_parts(feature_set: FeatureSet, *, timeout_s: float = 0.0) -> tuple[StagedShard, ...]:
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
    accept_damage : bool
        For a repair: open although shard files are cut short; `replace` or `drop` them.

    Attributes
    ----------
    merged : tuple of StagedShard
        Shards that came in from parts when this writer was opened.
    lost : tuple of StagedShard
        Committed shards whose file has gone. Their lines were removed; their rows are to be computed again.
    """

    def __init__(
        self,
        feature_set: FeatureSet,
        *,
        timeout_s: float = 0.0,
        part: Part | None = None,
        accept_damage: bool = False,
    ) -> None:
        if part is not None and not 0 <= part[0] < part[1]:
            raise CacheError(f"part {part[0]} of {part[1]}: expected 0 ≤ part < count")
        self.feature_set = feature_set
        self.part = part
        self.merged: tuple[StagedShard, ...] = ()
        self.lost: tuple[StagedShard, ...] = ()
        self._accept_damage = accept_damage
        self._foreign: tuple[StagedShard, ...] = ()  # of a part: what the whole set's journal has
        self._shards: tuple[StagedShard, ...] = ()  # lines of our journal that count, by number
        self._journal_size_bytes = 0
        self._generation = 0
        self._rewritten = 0
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
    def shards(self) -> tuple[StagedShard, ...]:
        """The committed shards by number."""
        return effective((*self._foreign, *self._shards))

    @property
    def records(self) -> tuple[ShardRecord, ...]:
        """What the index says of the committed shards, by number."""
        return tuple(shard.record for shard in self.shards)

    @property
    def shard_numbers(self) -> frozenset[int]:
        """Numbers of the committed shards."""
        return frozenset(shard.number for shard in (*self._foreign, *self._shards))

    @property
    def next_number(self) -> int:
        """The number above all committed ones: rows that replace older ones go into shards from here on."""
        return max(self.shard_numbers, default=-1) + 1

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
        self._refuse_closed()
        for shard in (*self._foreign, *self._shards):
            if shard.number == staged.number:
                if shard == staged:
                    return
                raise CacheError(
                    f"{self.feature_set.directory}: shard {staged.number} is committed as {shard.file}, now "
                    f"{staged.file} came: the same task gave other numbers. Use the next free number for new rows."
                )
        self._append(staged)

    def replace(self, staged: StagedShard) -> None:
        """Let a staged shard count instead of the committed one of its number, whose file is removed: a repair.

        Raises
        ------
        CacheError, DiskFull, Unwritable
            As `commit`; the old shard still counts.
        """
        self._refuse_closed()
        old = next((shard for shard in self._shards if shard.number == staged.number), None)
        if old == staged:  # the very bytes are back under the very name; the line may have lost some of its proof
            self._shards = effective((*self._shards, staged))
            self._replace_journal()
            return
        self._append(staged)
        if old is not None and old.file != staged.file:
            with writing(self.feature_set.directory):
                (self.feature_set.directory / old.file).unlink(missing_ok=True)

    def drop(self, numbers: Iterable[int]) -> None:
        """Let shards count no longer, so that their rows are computed again; their files are removed."""
        self._refuse_closed()
        gone = frozenset(numbers)
        self._become(tuple(shard for shard in self._shards if shard.number not in gone))

    def rewrite(self, shards: Sequence[StagedShard]) -> None:
        """Let these staged shards be the whole set, in one step; the files of all others are removed.

        Raises
        ------
        Locked
            As `refuse_parts`.
        DiskFull, Unwritable
            Either the old shards count or the new ones, wherever it stopped.
        """
        self._refuse_closed()
        self.refuse_parts()
        self._rewritten = self._generation + 1
        self._become(effective(shards))

    def refuse_parts(self) -> None:
        """Refuse to go on beside parts: the numbers they have planned must keep their meaning.

        Raises
        ------
        Locked
            A part is at work, or has committed something since this writer was opened.
        """
        for number, count in find_parts(self.feature_set.directory):
            raise Locked(
                f"{self.feature_set.directory}: part {number} of {count} is at work or has shards to be taken in. Wait "
                "until it has finished, then run the same command again."
            )

    def close(self) -> None:
        """Bring the journal into the order of shard numbers, whatever order they were committed in; free the lock."""
        try:
            if self._lock.is_held:
                self._replace_journal()
        finally:
            self._lock.release()

    def _refuse_closed(self) -> None:
        if not self._lock.is_held:
            raise CacheError(f"{self.feature_set.journal(self.part)}: this writer is closed; open a new one to commit")

    def _append(self, staged: StagedShard) -> None:
        journal = self.feature_set.journal(self.part)
        if not is_there(self.feature_set, staged.record):
            raise corrupt(self.feature_set.directory / staged.file, "staged, but no longer there")
        found = journal.stat().st_size if journal.exists() else 0
        if found != self._journal_size_bytes:
            raise CorruptIndex(
                f"{journal}: {found} bytes, expected {self._journal_size_bytes}: something else has written to it, or "
                "half a line could not be taken back. Run the same command again: opening the set puts it in order."
            )
        self._journal_size_bytes = append_shard(journal, staged)
        self._shards = effective((*self._shards, staged))
        self._known = None
        if self.part is None:
            self._generation += 1
            self._write_index()

    def _become(self, shards: tuple[StagedShard, ...]) -> None:
        self._shards, self._known = shards, None
        self._generation += 1
        self._replace_journal()
        self._write_index()
        clear_away(self.feature_set, self._shards)

    def _open(self, timeout_s: float) -> None:
        make_directory(self.feature_set.shards)
        make_directory(self.feature_set.temporary)
        try:
            if self.part is None:
                self._lock.acquire(timeout_s)
                self._open_whole()
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
        fields = self.feature_set.fields
        of_all, of_part = (read_journal(self.feature_set.journal(part), fields) for part in (None, self.part))
        whole, _ = split_by_presence(self.feature_set, of_all.shards)
        own, self.lost = split_by_presence(self.feature_set, of_part.shards)
        self._foreign = effective(whole)
        taken = {shard.number for shard in self._foreign}
        self._shards = tuple(shard for shard in effective(own) if shard.number not in taken)
        self._replace_journal()

    def _open_whole(self) -> None:
        order = find_order(self.feature_set, accept_damage=self._accept_damage)
        self.merged, self.lost = order.merged, order.lost
        self._shards, self._generation, self._rewritten = order.shards, order.generation, order.rewritten
        self._replace_journal()
        self._write_index()
        clear_away(self.feature_set, self._shards)

    def _replace_journal(self) -> None:
        path = self.feature_set.journal(self.part)
        journal = Journal(rewritten=self._rewritten, shards=self._shards)
        if self._shards or self._rewritten or path.exists():
            self._journal_size_bytes = replace_journal(path, journal)

    def _write_index(self) -> None:
        index = Index(fingerprint=self.feature_set.fingerprint, generation=self._generation, shards=self.records)
        write_index(self.feature_set.index, index)
