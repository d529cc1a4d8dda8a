"""Laws of the reader: write then read is the identity, in every process, by mapping and by HDF5 alike."""

import dataclasses
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentifuse import ConfigError
from sentifuse.cache.errors import (
    CorruptIndex,
    CorruptShard,
    FingerprintMismatch,
    NoFeatures,
    NotStored,
)
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.journal import read_index, write_index
from sentifuse.cache.reader import READERS, FeatureReader
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter

MakeRows = Callable[..., list[Row]]
Holds = Callable[[object, list[Row]], None]


def store(feature_set: FeatureSet, *shards: list[Row]) -> list[Row]:
    """Commit these shards and return their rows that count, in the reader's order."""
    with FeatureWriter(feature_set) as writer:
        for rows in shards:
            writer.commit(writer.stage(writer.next_number, rows))
    return list({row.id: row for rows in shards for row in rows}.values())


@pytest.mark.parametrize("reader", READERS)
def test_what_was_written_is_read(feature_set: FeatureSet, make_rows: MakeRows, holds: Holds, reader: str) -> None:
    rows = store(feature_set, make_rows(0, 12), make_rows(12, 3), make_rows(15, 1))
    found = FeatureReader(feature_set, reader=reader)
    assert found.ids == tuple(row.id for row in rows)
    assert list(found) == list(found.ids)
    assert len(found) == len(rows)
    holds(found, rows)
    assert found.statuses() == {"ok": 10, "missing": 3, "unreadable: cut short": 3}
    assert (found.encoder, found.fingerprint) == ("tokens", feature_set.fingerprint)
    assert (found.recipe, found.fields) == (feature_set.recipe, feature_set.fields)
    holds(FeatureReader(feature_set.directory, reader=reader), rows)
    holds(FeatureReader(str(feature_set.directory), reader=reader), rows)


shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
fields = st.lists(
    st.tuples(st.sampled_from(["float16", "float32", "int32", "int64", "uint8"]), shapes, st.booleans()),
    min_size=1,
    max_size=3,
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@settings(derandomize=True, max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields, st.lists(st.tuples(texts, st.integers(-1, 3)), min_size=1, max_size=5, unique_by=lambda row: row[0]))
def test_write_then_read_is_the_identity_for_any_fields_and_lengths(
    tmp_path_factory: pytest.TempPathFactory,
    holds: Holds,
    kinds: list[tuple[str, tuple[int, ...], bool]],
    ids: list[tuple[str, int]],
) -> None:
    made = [
        Field(name=f"f{place}", dtype=dtype, shape=shape, is_ragged=is_ragged)
        for place, (dtype, shape, is_ragged) in enumerate(kinds)
    ]
    feature_set = create_feature_set(tmp_path_factory.mktemp("c"), encoder="any", recipe={}, fields=made)
    rng = np.random.default_rng(len(ids))
    rows = []
    for row_id, length in ids:
        values = {
            field.name: np.asarray(
                rng.integers(0, 200, size=(length, *field.shape) if field.is_ragged else field.shape)
            ).astype(field.numpy_dtype)
            for field in made
            if length >= 0
        }
        rows.append(Row(id=row_id, digest="", status="ok" if length >= 0 else "missing", values=values or None))
    store(feature_set, rows)
    for reader in READERS:
        holds(FeatureReader(feature_set, reader=reader), rows)


@pytest.mark.parametrize("reader", READERS)
def test_a_later_row_replaces_an_earlier_one_in_its_place(
    feature_set: FeatureSet, make_rows: MakeRows, make_row: Callable[..., Row], holds: Holds, reader: str
) -> None:
    gone = Row(id="pair é1", digest="", status="missing")
    rows = store(feature_set, make_rows(0, 5), [make_row("pair é3", 77, length=9), gone], [make_row("pair é0", 78)])
    found = FeatureReader(feature_set, reader=reader)
    assert found.ids == tuple(f"pair é{number}" for number in range(5))
    holds(found, rows)
    assert not found.has_value("pair é1")
    assert found.locate(["pair é0", "pair é1", "pair é2", "pair é3"])[0].tolist() == [2, 1, 0, 1]


def test_a_mapped_value_is_a_read_only_view_without_a_copy(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    store(feature_set, make_rows(0, 5))
    for kind in READERS:
        reader = FeatureReader(feature_set, reader=kind)
        for name in ("grid", "states", "count"):
            assert not reader.value("pair é2", name).flags.writeable
    reader = FeatureReader(feature_set)
    whole, offsets = reader.mapped("grid", 0)
    assert offsets is None
    assert np.shares_memory(reader.value("pair é2", "grid"), whole)
    assert whole.ctypes.data % 4096 == 0


@pytest.mark.parametrize("kind", READERS)
def test_locate_and_mapped_give_what_value_gives(feature_set: FeatureSet, make_rows: MakeRows, kind: str) -> None:
    store(feature_set, make_rows(0, 12), make_rows(12, 9))
    reader = FeatureReader(feature_set, reader=kind)
    ids = [row_id for row_id in reversed(reader.ids) if reader.has_value(row_id)]
    shard_indices, value_indices = reader.locate(ids)
    for row_id, shard_index, value_index in zip(ids, shard_indices, value_indices, strict=True):
        grid, _ = reader.mapped("grid", int(shard_index))
        np.testing.assert_array_equal(grid[value_index], reader.value(row_id, "grid"))
        states, offsets = reader.mapped("states", int(shard_index))
        assert offsets is not None
        part = states[offsets[value_index] : offsets[value_index + 1]]
        np.testing.assert_array_equal(part, reader.value(row_id, "states"))
    assert reader.locate(["pair é3"])[1].tolist() == [-1]
    assert reader.locate([])[0].tolist() == []


@pytest.mark.parametrize("kind", READERS)
def test_what_is_not_there_is_said(feature_set: FeatureSet, make_rows: MakeRows, kind: str) -> None:
    store(feature_set, make_rows(0, 5))
    reader = FeatureReader(feature_set, reader=kind)
    assert "pair é0" in reader
    assert "pair 0" not in reader
    assert not reader.has_value("pair 0")
    with pytest.raises(NotStored, match=r"no row 'pair 0' among its 5\. Was the pair added later"):
        reader.value("pair 0", "grid")
    with pytest.raises(NotStored, match="no row 'x'"):
        reader.locate(["pair é0", "x"])
    with pytest.raises(NotStored, match="row 'pair é4' has no values, its status is 'unreadable: cut short'"):
        reader.value("pair é4", "grid")
    with pytest.raises(NotStored, match="no field 'gird'; there are: grid, count, states, pieces"):
        reader.value("pair é0", "gird")
    with pytest.raises(NotStored, match="no field 'gird'"):
        reader.mapped("gird", 0)


def test_a_reader_sees_the_shards_there_were_when_it_was_opened(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    store(feature_set, make_rows(0, 5))
    reader = FeatureReader(feature_set)
    store(feature_set, make_rows(5, 5))
    assert (len(reader), reader.generation) == (5, 1)
    assert len(pickle.loads(pickle.dumps(reader))) == 5
    assert (len(FeatureReader(feature_set)), FeatureReader(feature_set).generation) == (10, 2)


@pytest.mark.parametrize("kind", READERS)
def test_a_reader_pickles_without_its_mappings(
    feature_set: FeatureSet, make_rows: MakeRows, holds: Holds, kind: str
) -> None:
    rows = store(feature_set, make_rows(0, 12))
    reader = FeatureReader(feature_set, reader=kind)
    fresh = pickle.dumps(reader)
    holds(reader, rows)
    assert len(pickle.dumps(reader)) == len(fresh)
    holds(pickle.loads(fresh), rows)


def _sums(reader: FeatureReader, answers: "multiprocessing.SimpleQueue[float]") -> None:
    answers.put(_sum(reader))


def _sum(reader: FeatureReader) -> float:
    return float(
        sum(reader.value(row_id, "grid").sum(dtype=np.float64) for row_id in reader if reader.has_value(row_id))
    )


@pytest.mark.parametrize("kind", READERS)
def test_a_reader_used_before_a_fork_works_in_parent_and_children(
    feature_set: FeatureSet, make_rows: MakeRows, kind: str
) -> None:
    store(feature_set, make_rows(0, 12))
    reader = FeatureReader(feature_set, reader=kind)
    expected = _sum(reader)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    children = [context.Process(target=_sums, args=(reader, answers)) for _ in range(3)]
    for child in children:
        child.start()
    assert [answers.get() for _ in children] == [expected] * 3
    for child in children:
        child.join()
    assert _sum(reader) == expected


@pytest.mark.parametrize("kind", READERS)
def test_a_reader_travels_to_a_spawned_process(feature_set: FeatureSet, make_rows: MakeRows, kind: str) -> None:
    rows = store(feature_set, make_rows(0, 12))
    reader = FeatureReader(feature_set, reader=kind)
    reader.value("pair é0", "grid")
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # calls methods only: they can be imported there
        found = pool.apply(reader.value, ("pair é0", "grid"))
        pool.close()
        pool.join()
    np.testing.assert_array_equal(found, (rows[0].values or {})["grid"])


@pytest.mark.parametrize("kind", READERS)
def test_threads_may_share_a_reader(feature_set: FeatureSet, make_rows: MakeRows, kind: str) -> None:
    store(feature_set, *[make_rows(10 * number, 10) for number in range(5)])
    reader = FeatureReader(feature_set, reader=kind)
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(_sum(reader))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [_sum(FeatureReader(feature_set))] * 4


@pytest.mark.parametrize("kind", READERS)
def test_check_finds_every_flipped_bit_of_a_value(feature_set: FeatureSet, make_rows: MakeRows, kind: str) -> None:
    rows = store(feature_set, make_rows(0, 5))
    path = feature_set.directory / read_index(feature_set.index).shards[0].file
    content = bytearray(path.read_bytes())
    for name in ("grid", "states", "pieces"):
        value = (rows[1].values or {})[name].tobytes()
        place = content.index(value)
        for position in (place, place + len(value) - 1):
            damaged = bytearray(content)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            reader = FeatureReader(feature_set, reader=kind)
            with pytest.raises(CorruptShard, match=r"row 'pair é1' has CRC32C .*, expected"):
                reader.check("pair é1")
            reader.check("pair é0")
    path.write_bytes(content)
    reader = FeatureReader(feature_set, reader=kind)
    for row in rows:
        reader.check(row.id)
    with pytest.raises(NotStored):
        reader.check("pair é99")


@pytest.mark.parametrize(
    ("column", "places"), [("ids", (0, 1)), ("digests", (0, 1)), ("ids", (0, 3)), ("status", (4, 9))]
)
def test_check_finds_rows_whose_names_were_exchanged(
    feature_set: FeatureSet, make_rows: MakeRows, column: str, places: tuple[int, int]
) -> None:
    rows = make_rows(0, 10)
    rows[9] = dataclasses.replace(rows[9], status="unreadable: empty file")
    store(feature_set, rows)
    path = feature_set.directory / read_index(feature_set.index).shards[0].file
    with h5py.File(path, "r+", locking=False) as file:
        texts = file[column][:]
        texts[list(places)] = texts[list(reversed(places))]
        file[column][:] = texts
    reader = FeatureReader(feature_set)
    for place in places:
        with pytest.raises(CorruptShard, match="has CRC32C"):
            reader.check(rows[place].id)


def test_a_set_of_another_kind_is_refused(feature_set: FeatureSet, make_rows: MakeRows, tmp_path: Path) -> None:
    with pytest.raises(CorruptIndex, match="not there"):
        FeatureReader(feature_set)
    store(feature_set, make_rows(0, 5))
    with pytest.raises(ConfigError, match="--reader: unknown reader 'pread'"):
        FeatureReader(feature_set, reader="pread")
    with pytest.raises(NoFeatures):
        FeatureReader(tmp_path)
    index = read_index(feature_set.index)
    path = feature_set.directory / index.shards[0].file
    path.rename(path.with_suffix(".away"))
    with pytest.raises(CorruptShard, match="cannot be found"):
        FeatureReader(feature_set)
    write_index(feature_set.index, dataclasses.replace(index, fingerprint="0" * 64))
    with pytest.raises(FingerprintMismatch, match="Files of two feature sets were mixed"):
        FeatureReader(feature_set)


@pytest.mark.parametrize("kind", READERS)
def test_a_shard_cut_after_opening_is_refused_before_it_is_touched(
    feature_set: FeatureSet, make_rows: MakeRows, kind: str
) -> None:
    store(feature_set, make_rows(0, 5))
    reader = FeatureReader(feature_set, reader=kind)
    path = feature_set.directory / reader.shards[0].file
    path.write_bytes(path.read_bytes()[:4096])
    with pytest.raises(CorruptShard, match="4096 bytes, expected"):
        reader.value("pair é0", "grid")


def test_no_file_stays_open_but_for_its_mapping(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    store(feature_set, make_rows(0, 5))
    reader = FeatureReader(feature_set)
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("open files cannot be listed here")

    def shards_open() -> int:
        links = [link.readlink() for link in open_files.iterdir() if link.is_symlink()]
        return sum(feature_set.shards in link.parents for link in links)

    assert shards_open() == 0
    reader.value("pair é0", "grid")
    assert shards_open() <= 1
