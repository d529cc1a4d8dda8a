"""Rewrites a feature set without the rows that later shards replaced. Recomputes nothing, changes no value.

Patches (rows whose input changed) and small shards pile up in a store that lives long; compaction writes the rows that
count once more, in the order in which their ids first came in, and lets the new shards count in one step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.shard import read_layout
from sentifuse.cache.spec import NO_BATCH, Row
from sentifuse.cache.writer import FeatureWriter

__all__ = ["Compaction", "compact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """What a compaction did, or would do.

    Attributes
    ----------
    rows : int
        Rows that count.
    superseded : int
        Stored rows that a later shard replaced; gone after it.
    shards_before, shards_after : int
    bytes_before, bytes_after : int
        Of all shard files; `bytes_after` equals `bytes_before` when nothing was to be done.
    """

    rows: int
    superseded: int
    shards_before: int
    shards_after: int
    bytes_before: int
    bytes_after: int

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to gain: rows to drop, or shards to join."""
        return bool(self.superseded) or self.shards_after < self.shards_before


def compact(
    feature_set: FeatureSet,
    *,
    shard_rows: int,
    is_dry: bool = False,
    timeout_s: float = 0.0,
    progress: Callable[[int], None] | None = None,
) -> Compaction:
    """Write the rows that count into shards of `shard_rows` and let them be the whole set; a tidy set is left alone.

    Every row is proved by its CRC32C on the way: damage is not carried over.

    Raises
    ------
    CorruptShard
        A damaged row; the set is as it was. `cache repair` first.
    Locked
        A writer is at work, or a part of one: its shards have numbers that mean something in the present order.
    DiskFull, Unwritable
        The set is as it was: room is needed for a second copy of its rows.
    """
    with FeatureWriter(feature_set, timeout_s=timeout_s) as writer:
        reader = FeatureReader(feature_set)
        stored = sum(record.rows for record in reader.shards)
        before = sum(record.size_bytes for record in reader.shards)
        plan = Compaction(
            rows=len(reader),
            superseded=stored - len(reader),
            shards_before=len(reader.shards),
            shards_after=-(-len(reader) // shard_rows),
            bytes_before=before,
            bytes_after=before,
        )
        if is_dry or not plan.is_needed:
            return plan
        writer.refuse_parts()
        batches = _batches(reader)
        staged = []
        for number, ids in enumerate(_cut(reader.ids, shard_rows)):
            staged.append(writer.stage(number, _rows(reader, batches, ids)))
            if progress is not None:
                progress(len(ids))
        writer.rewrite(staged)
    return replace(plan, bytes_after=sum(shard.record.size_bytes for shard in staged))


def _cut(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _batches(reader: FeatureReader) -> dict[str, tuple[int, int]]:
    """Id -> shard and batch of the row that counts."""
    found: dict[str, tuple[int, int]] = {}
    for record in reader.shards:
        layout = read_layout(reader.feature_set, record)
        found.update(zip(layout.ids, ((record.number, batch) for batch in layout.batch.tolist()), strict=True))
    return found


def _rows(reader: FeatureReader, batches: Mapping[str, tuple[int, int]], ids: Sequence[str]) -> list[Row]:
    """The rows of these ids, proved; batches keep their members and get new numbers in the order they come."""
    numbers: dict[tuple[int, int], int] = {}
    rows = []
    for row_id in ids:
        reader.check(row_id)
        values = None
        if reader.has_value(row_id):
            values = {field.name: reader.value(row_id, field.name) for field in reader.fields}
        batch = batches[row_id]
        rows.append(
            Row(
                id=row_id,
                digest=reader.digest(row_id),
                status=reader.status(row_id),
                values=values,
                batch=NO_BATCH if batch[1] == NO_BATCH else numbers.setdefault(batch, len(numbers)),
            )
        )
    return rows
