"""Laws of compaction: the same rows in fewer bytes, in one step, and damage is not carried over."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse.cache.compact import compact
from sentifuse.cache.errors import CorruptShard, Locked
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.journal import read_index, read_journal
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.shard import read_layout
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter

MakeRows = Callable[..., list[Row]]
Snapshot = Callable[[Path], dict[str, bytes]]
Holds = Callable[[object, list[Row]], None]


def fill(feature_set: FeatureSet, *shards: list[Row]) -> None:
    with FeatureWriter(feature_set) as writer:
        for rows in shards:
            writer.commit(writer.stage(writer.next_number, rows))


def patched(rows: list[Row], make_row: Callable[..., Row]) -> tuple[list[Row], list[Row]]:
    """Rows that replace some of `rows`, and what counts then."""
    new = [make_row(rows[place].id, 70 + place) for place in (1, 3, 6)]
    by_id = {row.id: row for row in new}
    return new, [by_id.get(row.id, row) for row in rows]


def test_superseded_rows_go_and_all_others_stay(
    feature_set: FeatureSet, make_rows: MakeRows, make_row: Callable[..., Row], holds: Holds
) -> None:
    rows = make_rows(0, 20)
    new, counting = patched(rows, make_row)
    fill(feature_set, rows[:10], rows[10:], new)
    before = FeatureReader(feature_set)
    done = compact(feature_set, shard_rows=8)
    after = FeatureReader(feature_set)
    assert (done.rows, done.superseded, done.shards_before, done.shards_after) == (20, 3, 3, 3)
    assert done.bytes_after == sum(path.stat().st_size for path in feature_set.shards.iterdir())
    assert after.ids == before.ids
    assert sum(record.rows for record in after.shards) == 20
    assert after.generation == before.generation + 1
    holds(after, counting)
    for row in counting:
        after.check(row.id)


def test_a_compacted_store_goes_on_growing(feature_set: FeatureSet, make_rows: MakeRows, holds: Holds) -> None:
    rows = make_rows(0, 30)
    fill(feature_set, rows[:5], rows[5:10], rows[10:20])
    compact(feature_set, shard_rows=10)
    fill(feature_set, rows[20:])
    reader = FeatureReader(feature_set)
    assert [record.rows for record in reader.shards] == [10, 10, 10]
    holds(reader, rows)


def test_a_tidy_set_is_left_alone_and_so_is_a_dry_run(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot
) -> None:
    fill(feature_set, make_rows(0, 10), make_rows(10, 5))
    before = snapshot(feature_set.directory)
    assert not compact(feature_set, shard_rows=10).is_needed
    planned = compact(feature_set, shard_rows=100, is_dry=True)
    assert (planned.is_needed, planned.shards_after) == (True, 1)
    assert snapshot(feature_set.directory) == before


def test_two_stores_of_the_same_rows_are_compacted_to_the_same_shards(
    feature_set: FeatureSet, make_rows: MakeRows, tmp_path: Path
) -> None:
    other = dataclasses.replace(feature_set, directory=tmp_path / "other")
    rows = make_rows(0, 20)
    fill(feature_set, rows[:10], rows[10:15], rows[15:])
    fill(other, *(rows[place : place + 2] for place in range(0, 20, 2)))
    compact(feature_set, shard_rows=20)
    compact(other, shard_rows=20)
    assert read_index(feature_set.index).shards == read_index(other.index).shards


def test_rows_of_one_batch_stay_together(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    shards = [
        [dataclasses.replace(row, batch=batch) for row, batch in zip(make_rows(10 * k, 4), (1, 0, 1, -1), strict=True)]
        for k in range(2)
    ]
    fill(feature_set, *shards)
    compact(feature_set, shard_rows=100)
    layout = read_layout(feature_set, read_index(feature_set.index).shards[0])
    assert layout.batch.tolist() == [0, 1, 0, -1, 2, 3, 2, -1]


def test_a_damaged_row_stops_it_and_nothing_has_changed(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot
) -> None:
    rows = make_rows(0, 10)
    fill(feature_set, rows[:5], rows[5:])
    path = feature_set.directory / read_index(feature_set.index).shards[1].file
    content = path.read_bytes()
    place = content.index((rows[6].values or {})["grid"].tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    before = snapshot(feature_set.directory)
    with pytest.raises(CorruptShard, match="row 'pair é6' has CRC32C"):
        compact(feature_set, shard_rows=10)
    assert len(FeatureReader(feature_set)) == 10
    FeatureWriter(feature_set).close()  # takes away the shards that were staged
    assert snapshot(feature_set.directory) == before


@pytest.mark.parametrize("step", ["replace_journal", "write_index", "clear_away"])
def test_stopped_at_any_step_the_rows_are_the_same(
    feature_set: FeatureSet, make_rows: MakeRows, holds: Holds, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    rows = make_rows(0, 10)
    new = make_rows(0, 3, seed=4)
    fill(feature_set, rows[:5], rows[5:], new)
    compacted = step != "replace_journal"

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        writer = FeatureWriter
        whole = writer.rewrite

        def rewrite(self: FeatureWriter, shards: object) -> None:
            patch.setattr(f"sentifuse.cache.writer.{step}", stop)
            whole(self, shards)  # type: ignore[arg-type]

        patch.setattr(writer, "rewrite", rewrite)
        with pytest.raises(KeyboardInterrupt):
            compact(feature_set, shard_rows=10)
    FeatureWriter(feature_set).close()
    reader = FeatureReader(feature_set)
    holds(reader, [*new, *rows[3:]])
    assert len(reader.shards) == (1 if compacted else 3)
    assert len(list(feature_set.shards.iterdir())) == len(reader.shards)
    assert read_journal(feature_set.journal()).rewritten == (reader.generation if compacted else 0)


def test_while_a_writer_is_at_work_it_waits_outside(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    fill(feature_set, make_rows(0, 5), make_rows(5, 5))
    with FeatureWriter(feature_set), pytest.raises(Locked):
        compact(feature_set, shard_rows=10)


def test_beside_a_part_it_is_refused_because_numbers_would_change_their_meaning(
    feature_set: FeatureSet, make_rows: MakeRows, holds: Holds
) -> None:
    rows = make_rows(0, 20)
    fill(feature_set, rows[:5], rows[5:10])
    with FeatureWriter(feature_set, part=(0, 2)) as part:
        part.commit(part.stage(2, rows[10:15]))
        with pytest.raises(Locked, match=r"part 0 of 2 is at work"):
            compact(feature_set, shard_rows=20)
        part.commit(part.stage(4, rows[15:]))
    done = compact(feature_set, shard_rows=20)
    assert (done.rows, done.shards_after) == (20, 1)
    holds(FeatureReader(feature_set), rows)


def test_a_part_that_died_and_lost_a_file_does_not_keep_it_out_for_ever(
    feature_set: FeatureSet, make_rows: MakeRows
) -> None:
    rows = make_rows(0, 15)
    fill(feature_set, rows[:5], rows[5:10])
    with FeatureWriter(feature_set, part=(0, 2)) as part:
        staged = part.stage(2, rows[10:])
        part.commit(staged)
    (feature_set.directory / staged.file).unlink()
    assert compact(feature_set, shard_rows=20).rows == 10
