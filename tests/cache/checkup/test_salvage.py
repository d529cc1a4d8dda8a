"""Laws of salvage: what a checksum proves is kept, whatever else is damaged; nothing else is ever believed."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse.cache.checkup.salvage import Salvage
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.record import StagedShard
from sentifuse.cache.spec import NO_BATCH, Row
from sentifuse.cache.writer import FeatureWriter


def first(store: Any) -> tuple[str, StagedShard]:
    name = min(store.shards)
    return name, store.shards[name]


def spoil(store: Any, *places: str, keep: int = 0) -> None:
    """Zero whole datasets of the first shard, but for their first `keep` bytes."""
    name, shard = first(store)
    content = bytearray(store.whole[name])
    for place in shard.proof.datasets:
        if place.name in places:
            start, stop = place.offset_bytes + min(keep, place.size_bytes), place.offset_bytes + place.size_bytes
            content[start:stop] = bytes(stop - start)
    store.put(name, bytes(content))


def open_first(store: Any, **options: Any) -> Salvage:
    return Salvage(store.feature_set, first(store)[1], **{"expected": store.expected, **options})


def assert_same(found: Row | None, row: Row) -> None:
    assert found is not None
    assert (found.id, found.digest, found.status) == (row.id, row.digest, row.status)
    assert {name: value.tobytes() for name, value in (found.values or {}).items()} == {
        name: value.tobytes() for name, value in (row.values or {}).items()
    }


def test_a_whole_shard_is_proven_row_by_row(store: Any) -> None:
    with open_first(store, expected=None) as saved:
        assert saved.is_proven.all()
        assert (saved.damage, saved.lost, list(saved.lost_batches())) == ({}, (), [])
        for position, row_id in enumerate(store.ids(min(store.shards))):
            assert_same(saved.row(position), store.rows[row_id])


@pytest.mark.parametrize(
    "places",
    [
        ("ids",),
        ("digests",),
        ("status",),
        ("value_index",),
        ("batch",),
        ("crc32c",),
        ("fields/states/offsets",),
        ("fields/pieces/offsets",),
        ("ids", "digests", "status", "value_index", "batch", "crc32c", "fields/states/offsets"),
    ],
    ids="+".join,
)
def test_lost_columns_come_back_without_a_row_made_again(store: Any, places: tuple[str, ...]) -> None:
    spoil(store, *places)
    with open_first(store) as saved:
        assert saved.lost == ()
        assert set(saved.damage) == set(places)
        for position, row_id in enumerate(store.ids(min(store.shards))):
            assert_same(saved.row(position), store.rows[row_id])


def test_without_a_manifest_only_what_is_read_counts(store: Any) -> None:
    spoil(store, "ids", keep=9 * 5)  # ids are 9 bytes wide
    with open_first(store, expected=None) as saved:
        assert saved.lost == tuple(range(5, 30))
        assert [saved.name(position) for position in (4, 5)] == ["pair é4", "row 5"]
        assert list(saved.lost_batches()) == []


def test_a_manifest_that_has_changed_gives_no_wrong_id(store: Any) -> None:
    """Pairs were withdrawn since: the ids of the rows about them are known by their checksums, theirs are not."""
    spoil(store, "ids", "digests")
    expected = {row_id: now for row_id, now in store.expected.items() if row_id not in ("pair é5", "pair é6")}
    with open_first(store, expected=expected) as saved:
        for position in range(30):
            row = saved.row(position)
            if row is not None:
                assert_same(row, store.rows[f"pair é{position}"])
        assert {5, 6} <= set(saved.lost)
        assert not any(saved.is_sure_id(position) for position in saved.lost)


def test_a_patch_shard_of_scattered_ids_gets_a_lost_one_back(
    feature_set: FeatureSet, store: Any, make_row: Any
) -> None:
    ids = [f"pair é{number}" for number in (1, 5, 6, 40, 41, 70)]
    rows = [make_row(row_id, 500 + place) for place, row_id in enumerate(ids)]
    with FeatureWriter(feature_set) as writer:
        staged = writer.stage(3, rows)
        writer.commit(staged)
    expected = {**store.expected, **{row.id: (row.digest, "ok") for row in rows}}
    path = feature_set.directory / staged.file
    place = staged.proof.datasets[0]
    content = bytearray(path.read_bytes())
    content[place.offset_bytes + 3 * 9 + 6] ^= 1
    path.write_bytes(bytes(content))
    with Salvage(feature_set, staged, expected) as saved:
        assert (saved.lost, saved.ids, saved.damage) == ((), ids, {"ids": (3,)})


def test_an_id_that_is_too_long_for_the_column_is_not_cut_to_fit(feature_set: FeatureSet, make_row: Any) -> None:
    with FeatureWriter(feature_set) as writer:
        staged = writer.stage(0, [make_row("p1", 1)])
        writer.commit(staged)
    path = feature_set.directory / staged.file
    content = bytearray(path.read_bytes())
    for place in staged.proof.datasets[:2]:
        content[place.offset_bytes : place.offset_bytes + place.size_bytes] = bytes(place.size_bytes)
    path.write_bytes(bytes(content))
    with Salvage(feature_set, staged, {"p123": ("ab" * 32, "ok")}) as saved:
        assert saved.lost == (0,)
        assert not saved.is_sure_id(0)


def test_lost_values_name_their_batches_and_their_mates(store: Any) -> None:
    name, shard = first(store)
    rows = list(store.places(name))
    content = bytearray(store.whole[name])
    hit = [rows[1], rows[2], rows[9]]
    for _, _, _, spans in hit:
        content[spans[0][0]] ^= 1
    store.put(name, bytes(content))
    with open_first(store) as saved:
        batches = list(saved.lost_batches())
        assert [saved.ids[position] for position in saved.lost] == [row[0] for row in hit]
    assert [batch.number for batch in batches] == [0, 2]
    assert [batch.wanted for batch in batches] == [(rows[1][0], rows[2][0]), (rows[9][0],)]
    assert [batch.ids for batch in batches] == [
        tuple(row[0] for row in rows if row[1] == 0),
        tuple(row[0] for row in rows if row[1] == 2),
    ]
    assert shard.number == batches[0].shard


def test_a_row_whose_input_changed_is_asked_for_by_nobody_and_is_no_mate(store: Any) -> None:
    name, _ = first(store)
    rows = list(store.places(name))
    content = bytearray(store.whole[name])
    content[rows[1][3][0][0]] ^= 1
    store.put(name, bytes(content))
    with open_first(store, expected={**store.expected, rows[1][0]: ("ef" * 32, "ok")}) as saved:
        assert list(saved.lost_batches()) == []
    with open_first(store, expected={**store.expected, rows[2][0]: ("ef" * 32, "ok")}) as saved:
        (batch,) = saved.lost_batches()
        assert rows[2][0] not in batch.ids


def test_offsets_out_of_bounds_are_not_followed(store: Any) -> None:
    name, shard = first(store)
    content = bytearray(store.whole[name])
    for place in shard.proof.datasets:
        if place.name.endswith("offsets"):
            content[place.offset_bytes + 8 : place.offset_bytes + 24] = np.array([-5, 1 << 60], "<i8").tobytes()
    store.put(name, bytes(content))
    with open_first(store) as saved:
        assert 0 < len(saved.lost) <= 4


def test_a_file_that_is_gone_or_of_other_fields_proves_nothing(store: Any) -> None:
    name, shard = first(store)
    (store.directory / name).unlink()
    with open_first(store, expected=None) as saved:
        assert len(saved.lost) == 30
    store.put(name, store.whole[name])
    other = dataclasses.replace(store.feature_set, fields=store.feature_set.fields[:1])
    renamed = dataclasses.replace(shard, proof=dataclasses.replace(shard.proof, datasets=shard.proof.datasets[:3]))
    with Salvage(other, renamed) as saved:
        assert len(saved.lost) == 30


def test_rows_in_distrust_are_lost_although_they_fit(store: Any) -> None:
    with open_first(store, distrust=["pair é1"]) as saved:
        assert saved.lost == (1,)
        assert saved.fits(1, store.rows["pair é1"])
        assert not saved.fits(1, store.rows["pair é2"])


@pytest.mark.parametrize("by_another_program", [True, False])
def test_the_recipe_says_whether_rows_without_a_batch_can_be_made_again(
    cache_dir: Path, store: Any, make_rows: Any, by_another_program: bool
) -> None:
    recipe = {"encoder": "tokens", "imported": {"format": "npz"}} if by_another_program else {"encoder": "tokens"}
    fields = store.feature_set.fields
    feature_set = create_feature_set(cache_dir, encoder="tokens", recipe=recipe, fields=fields)
    rows = make_rows(0, 5)
    with FeatureWriter(feature_set) as writer:
        staged = writer.stage(0, rows)
        writer.commit(staged)
    path: Path = feature_set.directory / staged.file
    place = next(place for place in staged.proof.datasets if place.name == "fields/grid")
    content = bytearray(path.read_bytes())
    content[place.offset_bytes] ^= 1
    path.write_bytes(bytes(content))
    expected = {row.id: (row.digest, row.status) for row in rows}
    with Salvage(feature_set, staged, expected) as saved:
        assert (saved.is_imported, saved.lost) == (by_another_program, (0,))
        batches = list(saved.lost_batches())
        assert {int(number) for number in saved.batches} == {NO_BATCH}
    found = [(batch.number, batch.ids, batch.wanted, batch.had_values) for batch in batches]
    assert found == ([] if by_another_program else [(NO_BATCH, (rows[0].id,), (rows[0].id,), True)])


def test_rows_of_unknown_batches_go_in_batches_of_some_size(feature_set: FeatureSet, make_row: Any) -> None:
    rows = [make_row(f"p{number}", number) for number in range(70)]
    with FeatureWriter(feature_set) as writer:
        staged = writer.stage(0, rows)
        writer.commit(staged)
    (feature_set.directory / staged.file).write_bytes(b"")
    with Salvage(feature_set, staged, {row.id: (row.digest, "ok") for row in rows}) as saved:
        assert [len(batch.ids) for batch in saved.lost_batches()] == [32, 32, 6]
