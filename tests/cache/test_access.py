"""Maps and handles of shards: limits of the system are met, and what vanished is said in words that help."""

import errno
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentifuse.cache import access, memory
from sentifuse.cache.access import merge_ranges
from sentifuse.cache.errors import CorruptShard, NotStored, Unreadable
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.reader import READERS, FeatureReader
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter

MakeRows = Callable[..., list[Row]]


def store(feature_set: FeatureSet, *shards: list[Row]) -> None:
    with FeatureWriter(feature_set) as writer:
        for rows in shards:
            writer.commit(writer.stage(writer.next_number, rows))


@pytest.fixture
def few_files() -> Iterator[int]:
    """A low soft limit of open files; the number that was there before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 4, hard))
    yield soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("kind", READERS)
def test_more_shards_than_files_may_be_open(
    feature_set: FeatureSet, make_rows: MakeRows, few_files: int, kind: str
) -> None:
    shards = [make_rows(5 * number, 5) for number in range(12)]
    store(feature_set, *shards)
    reader = FeatureReader(feature_set, reader=kind)
    for row_id in reader:
        if reader.has_value(row_id):
            assert reader.value(row_id, "grid").shape == (3, 4)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard


@pytest.mark.parametrize("kind", READERS)
def test_without_more_files_to_be_had_it_is_said(
    feature_set: FeatureSet, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    store(feature_set, make_rows(0, 5))
    reader = FeatureReader(feature_set, reader=kind)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(access, "_allow_more_files", lambda: False)
    monkeypatch.setattr(access.os, "open", refuse)
    with pytest.raises(Unreadable, match=r"too many open files.*ulimit -n.*compact"):
        reader.value("pair é0", "grid")


@pytest.mark.parametrize("kind", READERS)
def test_a_shard_gone_or_changed_since_asks_to_open_the_reader_again(
    feature_set: FeatureSet, make_rows: MakeRows, kind: str
) -> None:
    store(feature_set, make_rows(0, 5))
    path = feature_set.directory / FeatureReader(feature_set).shards[0].file
    content = path.read_bytes()
    reader = FeatureReader(feature_set, reader=kind)
    path.write_bytes(content + b"more")
    with pytest.raises(CorruptShard, match=r"changed since this reader was opened\. Open the reader .*again"):
        reader.value("pair é0", "grid")
    path.unlink()
    with pytest.raises(Unreadable, match=r"gone since this reader was opened; compact or repair .*again"):
        reader.value("pair é0", "grid")


@pytest.mark.parametrize("kind", READERS)
def test_reading_ahead_changes_no_answer(feature_set: FeatureSet, make_rows: MakeRows, kind: str) -> None:
    store(feature_set, make_rows(0, 12), make_rows(12, 12))
    reader, plain = FeatureReader(feature_set, reader=kind), FeatureReader(feature_set)
    reader.will_need(reader.ids)
    reader.will_need(["pair é0", "pair é3", "pair é12"], {"grid": 1, "states": 2, "count": None})
    for row_id in filter(reader.has_value, reader):
        for field in reader.fields:
            np.testing.assert_array_equal(reader.value(row_id, field.name), plain.value(row_id, field.name))
    with pytest.raises(NotStored, match="no row 'x'"):
        reader.will_need(["x"])


@pytest.mark.parametrize("kind", READERS)
def test_a_piece_is_the_beginning_of_the_value(feature_set: FeatureSet, make_rows: MakeRows, kind: str) -> None:
    store(feature_set, make_rows(0, 12))
    reader = FeatureReader(feature_set, reader=kind)
    for row_id in filter(reader.has_value, reader):
        (shard_index,), (position,) = reader.locate([row_id])
        for name in ("grid", "states", "pieces"):
            whole = reader.value(row_id, name)
            for limit in (0, 1, 2, 9, None):
                piece = reader.piece(name, int(shard_index), int(position), limit)
                np.testing.assert_array_equal(piece, whole[:limit])
                assert not piece.flags.writeable


@pytest.mark.parametrize("kind", READERS)
def test_proving_finds_damage_by_name_and_reads_each_row_once(
    feature_set: FeatureSet, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rows = make_rows(0, 12)
    store(feature_set, rows, make_rows(12, 3))
    reader = FeatureReader(feature_set, reader=kind)
    checked: list[str] = []
    check = FeatureReader.check
    monkeypatch.setattr(FeatureReader, "check", lambda self, row_id: (checked.append(row_id), check(self, row_id)))
    reader.prove(["pair é12", "pair é2", "pair é2", "pair é1", "pair é3"])
    assert sorted(checked) == ["pair é1", "pair é12", "pair é2", "pair é3"]
    assert checked.index("pair é1") < checked.index("pair é2") < checked.index("pair é12")
    reader.prove()
    assert sorted(checked) == sorted(reader.ids)
    path = feature_set.directory / reader.shards[0].file
    value = (rows[6].values or {})["states"].tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(value)] ^= 1
    del reader  # HDF5 would go on with the file as it has it open
    path.write_bytes(content)
    damaged = FeatureReader(feature_set, reader=kind)
    damaged.prove(["pair é5", "pair é7"])
    with pytest.raises(CorruptShard, match="pair é6"):
        damaged.prove()


def test_size_counts_the_values_of_the_rows(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    rows = make_rows(0, 12)
    store(feature_set, rows[:7], rows[7:])
    reader = FeatureReader(feature_set)
    sizes = {row.id: sum(np.asarray(value).nbytes for value in (row.values or {}).values()) for row in rows}
    assert reader.size_bytes() == sum(sizes.values())
    assert reader.size_bytes(["pair é1", "pair é3", "pair é7"]) == sizes["pair é1"] + sizes["pair é7"]


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 18)), max_size=20))
def test_merged_ranges_are_apart_in_order_and_cover_all(ranges: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in ranges], dtype=np.int64)
    stops = starts + np.array([size for _, size in ranges], dtype=np.int64)
    first, last = merge_ranges(starts, stops)
    assert (first < last).all()
    assert (first[1:] > last[:-1]).all()
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        assert start == stop or ((first <= start) & (stop <= last)).any()


def test_free_memory_is_what_the_narrower_of_machine_and_group_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    of_machine = memory.free_memory_bytes()
    assert of_machine is not None
    assert of_machine > 0
    (tmp_path / "memory.max").write_text("5000\n", encoding="ascii")
    (tmp_path / "memory.current").write_text("3000\n", encoding="ascii")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 700\nactive_file 300\n", encoding="ascii")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.free_memory_bytes() == 3000
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert memory.free_memory_bytes() != 3000
