"""Laws of the writer: what is committed counts, what is only staged does not, and opening puts a set in order."""

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from sentifuse.cache.errors import CacheError, CorruptIndex, CorruptShard, Locked, Unwritable
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.journal import append_shard, read_index, read_journal, write_index
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter, StagedShard, stage_shard

MakeRows = Callable[..., list[Row]]
Snapshot = Callable[[Path], dict[str, bytes]]


def fill(feature_set: FeatureSet, make_rows: MakeRows, numbers: list[int]) -> list[StagedShard]:
    with FeatureWriter(feature_set) as writer:
        staged = [writer.stage(number, make_rows(10 * number, 10)) for number in numbers]
        for shard in staged:
            writer.commit(shard)
    return staged


def test_a_new_set_is_an_empty_one(feature_set: FeatureSet) -> None:
    with FeatureWriter(feature_set) as writer:
        assert (dict(writer.known), writer.shard_numbers, writer.next_number) == ({}, frozenset(), 0)
    index = read_index(feature_set.index)
    assert (index.generation, index.shards) == (0, ())
    assert len(FeatureReader(feature_set)) == 0


def test_a_committed_shard_counts_at_once(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    with FeatureWriter(feature_set) as writer:
        staged = writer.stage(4, make_rows(0, 10))
        assert (writer.shard_numbers, len(writer.known)) == (frozenset(), 0)
        writer.commit(staged)
        assert (writer.shard_numbers, writer.next_number) == (frozenset({4}), 5)
        assert writer.known["pair é0"] == (make_rows(0, 1)[0].digest, "ok")
        assert writer.known["pair é3"] == ("", "missing")
        assert len(FeatureReader(feature_set)) == 10
    assert read_index(feature_set.index).generation == 1


def test_the_row_in_the_shard_with_the_highest_number_counts(
    feature_set: FeatureSet, make_rows: MakeRows, make_row: Callable[..., Row]
) -> None:
    fill(feature_set, make_rows, [0, 1])
    new = make_row("pair é3", 99)
    with FeatureWriter(feature_set) as writer:
        assert writer.known["pair é3"] == ("", "missing")
        writer.commit(writer.stage(writer.next_number, [new]))
        assert writer.known["pair é3"] == (new.digest, "ok")
        assert len(writer.known) == 20


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_stores_are_equal_whatever_the_order_of_commits(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot, tmp_path: Path, order: list[int]
) -> None:
    other = create_feature_set(
        tmp_path / "other",
        encoder=feature_set.encoder,
        recipe=feature_set.recipe,
        fields=feature_set.fields,
        details=feature_set.details,
    )
    fill(other, make_rows, [0])
    fill(other, make_rows, [1, 2])
    fill(feature_set, make_rows, order)
    assert snapshot(feature_set.directory) == snapshot(other.directory)


def test_opening_again_changes_nothing(feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot) -> None:
    fill(feature_set, make_rows, [0, 1])
    before = snapshot(feature_set.directory)
    with FeatureWriter(feature_set) as writer:
        assert len(writer.known) == 20
    assert snapshot(feature_set.directory) == before


def test_committing_the_same_shard_twice_is_committing_it_once(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, make_rows(0, 10)))
        writer.commit(writer.stage(0, make_rows(0, 10)))
    assert len(read_journal(feature_set.journal()).shards) == 1


def test_another_shard_of_a_committed_number_is_refused(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, make_rows(0, 10)))
        with pytest.raises(CacheError, match=r"shard 0 is committed as .* the same task gave other numbers"):
            writer.commit(writer.stage(0, make_rows(0, 10, seed=1)))
    assert len(read_journal(feature_set.journal()).shards) == 1


def test_a_staged_shard_that_has_gone_is_not_committed(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    with FeatureWriter(feature_set) as writer:
        staged = writer.stage(0, make_rows(0, 10))
        (feature_set.directory / staged.file).unlink()
        with pytest.raises(CorruptShard, match="no longer there"):
            writer.commit(staged)
        assert writer.shard_numbers == frozenset()


def test_the_second_writer_is_refused_with_the_name_of_the_first(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    with FeatureWriter(feature_set) as writer:
        with pytest.raises(Locked, match=r"another writer is at work \(process \d+ on .* since"):
            FeatureWriter(feature_set)
        writer.commit(writer.stage(0, make_rows(0, 10)))
    FeatureWriter(feature_set).close()


def test_a_closed_writer_commits_nothing(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    with FeatureWriter(feature_set) as writer:
        staged = writer.stage(0, make_rows(0, 10))
    with pytest.raises(CacheError, match="this writer is closed"):
        writer.commit(staged)


def test_an_error_in_the_block_frees_the_lock_and_keeps_what_was_committed(
    feature_set: FeatureSet, make_rows: MakeRows
) -> None:
    def work() -> None:
        with FeatureWriter(feature_set) as writer:
            writer.commit(writer.stage(1, make_rows(10, 10)))
            writer.commit(writer.stage(0, make_rows(0, 10)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    with FeatureWriter(feature_set) as writer:
        assert writer.shard_numbers == {0, 1}


def test_shards_may_be_staged_in_another_thread(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    staged: list[StagedShard] = []
    with FeatureWriter(feature_set) as writer:
        thread = Thread(target=lambda: staged.append(writer.stage(0, make_rows(0, 10))))
        thread.start()
        thread.join()
        writer.commit(staged[0])
    assert len(FeatureReader(feature_set)) == 10


def test_opening_removes_what_was_never_committed_and_nothing_else(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot
) -> None:
    fill(feature_set, make_rows, [0])
    before = snapshot(feature_set.directory)
    stage_shard(feature_set, 1, make_rows(10, 10))
    (feature_set.temporary / "000002.half.h5").write_bytes(b"half")
    (feature_set.directory / f".index.json.{'0' * 32}").write_bytes(b"{")
    (feature_set.shards / "notes.txt").write_text("mine", encoding="utf-8")
    FeatureWriter(feature_set).close()
    assert snapshot(feature_set.directory) == {**before, "shards/notes.txt": b"mine"}


def test_opening_cuts_a_torn_line(feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot) -> None:
    fill(feature_set, make_rows, [0])
    before = snapshot(feature_set.directory)
    with feature_set.journal().open("ab") as file:
        file.write(b'{"counts":{"ok":1')
    assert len(FeatureReader(feature_set)) == 10
    FeatureWriter(feature_set).close()
    assert snapshot(feature_set.directory) == before


@pytest.mark.parametrize("damage", ["older", "missing", "torn"])
def test_opening_makes_the_index_anew_from_the_journal(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot, damage: str
) -> None:
    fill(feature_set, make_rows, [0])
    old = feature_set.index.read_bytes()
    fill(feature_set, make_rows, [1])
    before = snapshot(feature_set.directory)
    if damage == "older":
        feature_set.index.write_bytes(old)
    elif damage == "missing":
        feature_set.index.unlink()
    else:
        feature_set.index.write_bytes(before["index.json"][:50])
    FeatureWriter(feature_set).close()
    if damage == "older":
        assert snapshot(feature_set.directory) == before
    committed = read_journal(feature_set.journal()).shards
    assert read_index(feature_set.index).shards == tuple(shard.record for shard in committed)


def test_a_line_that_the_index_knows_and_the_journal_lost_comes_back(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot
) -> None:
    fill(feature_set, make_rows, [0, 1])
    before = snapshot(feature_set.directory)
    feature_set.journal().unlink()
    with FeatureWriter(feature_set) as writer:
        assert writer.shard_numbers == {0, 1}
    assert snapshot(feature_set.directory) == before


def test_a_shard_whose_file_has_gone_is_told_and_made_again(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot
) -> None:
    staged = fill(feature_set, make_rows, [0, 1])
    before = snapshot(feature_set.directory)
    (feature_set.directory / staged[0].file).unlink()
    with FeatureWriter(feature_set) as writer:
        assert writer.lost == (staged[0],)
        assert set(writer.known) == {row.id for row in make_rows(10, 10)}
        writer.commit(writer.stage(0, make_rows(0, 10)))
    after = snapshot(feature_set.directory)
    assert {name for name in after if after[name] != before[name]} == {"index.json"}  # its generation has risen
    assert json.loads(after["index.json"])["generation"] > json.loads(before["index.json"])["generation"]


def test_a_shard_of_another_size_is_refused_and_not_removed(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    staged = fill(feature_set, make_rows, [0])
    path = feature_set.directory / staged[0].file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptShard, match=r"bytes, expected .* cache repair"):
        FeatureWriter(feature_set)
    assert path.exists()
    path.unlink()
    FeatureWriter(feature_set).close()  # the refused writer has given the lock back


def test_of_two_lines_with_one_number_the_later_counts_and_the_other_file_goes(
    feature_set: FeatureSet, make_rows: MakeRows
) -> None:
    old = fill(feature_set, make_rows, [0])[0]
    new = stage_shard(feature_set, 0, make_rows(0, 10, seed=7))
    append_shard(feature_set.journal(), new)
    with FeatureWriter(feature_set) as writer:
        assert writer.shards == (new,)
    assert not (feature_set.directory / old.file).exists()
    assert FeatureReader(feature_set).digest("pair é0") == make_rows(0, 1, seed=7)[0].digest


def test_a_journal_changed_under_the_writer_is_noticed(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, make_rows(0, 10)))
        staged = writer.stage(1, make_rows(10, 10))
        with feature_set.journal().open("ab") as file:
            file.write(b"half a li")
        with pytest.raises(CorruptIndex, match="something else has written to it"):
            writer.commit(staged)


def test_a_damaged_journal_is_refused_and_kept(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    fill(feature_set, make_rows, [0, 1])
    content = feature_set.journal().read_bytes().replace(b'"rows":10', b'"rows":11', 1)
    feature_set.journal().write_bytes(content)
    with pytest.raises(CorruptIndex, match="line 1: its crc32c is"):
        FeatureWriter(feature_set)
    assert feature_set.journal().read_bytes() == content


def test_a_folder_that_may_not_be_written_says_so(feature_set: FeatureSet, monkeypatch: pytest.MonkeyPatch) -> None:
    feature_set.temporary.rmdir()
    feature_set.temporary.write_text("", encoding="utf-8")
    with pytest.raises(Unwritable, match=r"cannot be written: .*Choose a folder you may write to"):
        FeatureWriter(feature_set)


def test_generations_never_fall(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    fill(feature_set, make_rows, [0, 1, 2])
    index = read_index(feature_set.index)
    write_index(feature_set.index, dataclasses.replace(index, generation=40))
    fill(feature_set, make_rows, [3])
    assert read_index(feature_set.index).generation == 41


def test_a_record_is_small_and_survives_pickling(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    staged = stage_shard(feature_set, 0, make_rows(0, 10))
    content = pickle.dumps(staged)
    assert pickle.loads(content) == staged
    assert pickle.loads(content).proof.to_json() == staged.proof.to_json()
    assert len(content) < 3000
