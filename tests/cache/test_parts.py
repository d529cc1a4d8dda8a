"""Laws of parts: n writers side by side give the store that one writer gives."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse.cache.errors import CacheError, Locked
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.journal import append_shard, read_index, read_journal
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter, commit_parts, stage_shard

MakeRows = Callable[..., list[Row]]
Snapshot = Callable[[Path], dict[str, bytes]]


def run_part(feature_set: FeatureSet, make_rows: MakeRows, part: tuple[int, int], *, shards: int = 5) -> None:
    with FeatureWriter(feature_set, part=part) as writer:
        for number in range(shards)[part[0] :: part[1]]:
            if number not in writer.shard_numbers:
                writer.commit(writer.stage(number, make_rows(10 * number, 10)))


@pytest.fixture
def undisturbed(feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot, tmp_path: Path) -> dict[str, bytes]:
    """What one writer makes of five shards."""
    other = create_feature_set(
        tmp_path / "other",
        encoder=feature_set.encoder,
        recipe=feature_set.recipe,
        fields=feature_set.fields,
        details=feature_set.details,
    )
    with FeatureWriter(other) as writer:
        for number in range(5):
            writer.commit(writer.stage(number, make_rows(10 * number, 10)))
    return snapshot(other.directory)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_parts_give_the_store_of_one_writer(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot, undisturbed: dict[str, bytes], order: list[int]
) -> None:
    for part in order:
        run_part(feature_set, make_rows, (part, 3))
    assert not feature_set.journal().exists()
    assert [record.number for record in commit_parts(feature_set)] == [0, 1, 2, 3, 4]
    assert snapshot(feature_set.directory) == undisturbed
    assert not list(feature_set.directory.glob("*part*"))


def test_the_next_writer_merges_too_and_n_may_change(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot, undisturbed: dict[str, bytes]
) -> None:
    run_part(feature_set, make_rows, (1, 3))
    with FeatureWriter(feature_set) as writer:
        assert [record.number for record in writer.merged] == [1, 4]
        assert writer.shard_numbers == {1, 4}
    run_part(feature_set, make_rows, (0, 2))
    run_part(feature_set, make_rows, (1, 2))
    assert [record.number for record in commit_parts(feature_set)] == [0, 2, 3]
    assert commit_parts(feature_set) == ()
    assert snapshot(feature_set.directory) == undisturbed


def test_a_part_knows_the_whole_and_itself_but_not_others(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, make_rows(0, 10)))
    run_part(feature_set, make_rows, (1, 3))
    with FeatureWriter(feature_set, part=(2, 3)) as writer:
        assert writer.shard_numbers == {0}
        writer.commit(writer.stage(2, make_rows(20, 10)))
        assert set(writer.known) == {row.id for row in [*make_rows(0, 10), *make_rows(20, 10)]}
    with FeatureWriter(feature_set, part=(1, 3)) as writer:
        assert writer.shard_numbers == {0, 1, 4}
    assert len(FeatureReader(feature_set)) == 10  # the index is the whole set's


def test_parts_run_side_by_side_and_one_part_only_once(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    with FeatureWriter(feature_set, part=(0, 2)) as first, FeatureWriter(feature_set, part=(1, 2)) as second:
        with pytest.raises(Locked):
            FeatureWriter(feature_set, part=(1, 2))
        second.commit(second.stage(1, make_rows(10, 10)))
        first.commit(first.stage(0, make_rows(0, 10)))
    assert [record.number for record in commit_parts(feature_set)] == [0, 1]


def test_merging_while_a_part_works_takes_what_is_there_and_disturbs_nothing(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot, undisturbed: dict[str, bytes]
) -> None:
    with FeatureWriter(feature_set, part=(0, 1)) as writer:
        writer.commit(writer.stage(0, make_rows(0, 10)))
        staged = writer.stage(1, make_rows(10, 10))
        half = feature_set.temporary / "000002.half.h5"
        half.write_bytes(b"half")
        assert [record.number for record in commit_parts(feature_set)] == [0]
        assert half.exists()
        writer.commit(staged)
        for number in (2, 3, 4):
            writer.commit(writer.stage(number, make_rows(10 * number, 10)))
    assert [record.number for record in commit_parts(feature_set)] == [1, 2, 3, 4]
    assert snapshot(feature_set.directory) == undisturbed


def test_a_torn_line_of_a_part_and_a_lost_file_are_done_again(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Snapshot, undisturbed: dict[str, bytes]
) -> None:
    run_part(feature_set, make_rows, (0, 1))
    journal = feature_set.journal((0, 1))
    journal.write_bytes(journal.read_bytes()[:-9])
    (feature_set.directory / read_journal(journal).shards[0].file).unlink()
    with FeatureWriter(feature_set, part=(0, 1)) as writer:
        assert [record.number for record in writer.lost] == [0]
        assert writer.shard_numbers == {1, 2, 3}
    run_part(feature_set, make_rows, (0, 1))
    commit_parts(feature_set)
    assert snapshot(feature_set.directory) == undisturbed


def test_of_one_number_made_twice_the_committed_one_stays(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, make_rows(0, 10)))
    other = stage_shard(feature_set, 0, make_rows(0, 10, seed=3))
    append_shard(feature_set.journal((0, 2)), other)
    assert commit_parts(feature_set) == ()
    assert read_index(feature_set.index).shards[0].sha256 != other.record.sha256
    assert not (feature_set.directory / other.file).exists()


def test_a_part_waits_outside_while_the_whole_set_is_written(
    feature_set: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentifuse.cache.writer._GATE_S", 0.05)
    with FeatureWriter(feature_set), pytest.raises(Locked):
        FeatureWriter(feature_set, part=(0, 2))
    with contextlib.closing(FeatureWriter(feature_set, part=(0, 2))):
        pass


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_is_none_is_refused(feature_set: FeatureSet, part: tuple[int, int]) -> None:
    with pytest.raises(CacheError, match="expected 0 ≤ part < count"):
        FeatureWriter(feature_set, part=part)
