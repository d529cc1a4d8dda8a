"""Laws of recognition: a whole shard says again all that was said of it, a damaged one only what its rows prove."""

import dataclasses
from typing import Any

from sentifuse.cache.checkup.recognise import adopt, adopt_damaged, feature_set_of, find_proof
from sentifuse.cache.record import StagedShard


def test_the_proof_of_a_whole_shard_is_the_line_that_was_lost(store: Any) -> None:
    for shard in store.shards.values():
        proof = find_proof(store.feature_set, shard.record)
        assert proof is not None
        assert StagedShard(record=shard.record, proof=proof).to_line() == shard.to_line()


def test_of_a_damaged_one_the_columns_prove_nothing(store: Any) -> None:
    name, shard = next(iter(store.shards.items()))
    _, _, _, spans = next(iter(store.places(name)))
    content = bytearray(store.whole[name])
    content[spans[0][0]] ^= 1
    store.put(name, bytes(content))
    proof = find_proof(store.feature_set, shard.record)
    assert proof is not None
    assert {place.crc32c for place in proof.datasets} == {None}
    assert proof.row_crc32c.tolist() == shard.proof.row_crc32c.tolist()
    store.put(name, b"\0" * 50)
    assert find_proof(store.feature_set, shard.record) is None


def test_a_whole_shard_is_adopted_by_its_name(store: Any) -> None:
    for name, shard in store.shards.items():
        found = adopt(store.feature_set, store.directory / name)
        assert found is not None
        assert found.to_line() == shard.to_line()
    other = store.directory / name.replace("000002", "000007")
    (store.directory / name).rename(other)
    assert adopt(store.feature_set, other) is None  # its own attribute says another number
    other.write_bytes(store.whole[name][:-1])
    assert adopt(store.feature_set, other) is None
    assert adopt(store.feature_set, store.directory / "shards" / "gone.h5") is None


def test_a_damaged_shard_is_adopted_with_what_its_rows_prove_and_no_more(store: Any) -> None:
    name, shard = next(iter(store.shards.items()))
    _, _, _, spans = next(iter(store.places(name)))
    content = bytearray(store.whole[name])
    content[spans[0][0]] ^= 1
    store.put(name, bytes(content))
    assert adopt(store.feature_set, store.directory / name) is None
    found = adopt_damaged(store.feature_set, store.directory / name)
    assert found is not None
    assert found.record == dataclasses.replace(shard.record, sha256=shard.record.sha256[:12].ljust(64, "0"))
    assert found.proof.row_crc32c.tolist() == shard.proof.row_crc32c.tolist()
    assert {place.crc32c for place in found.proof.datasets} == {None}
    other = store.directory / name.replace("000000", "000007")
    (store.directory / name).rename(other)
    assert adopt_damaged(store.feature_set, other) is None  # its own attribute says another number
    other.write_bytes(b"\0" * 5000)
    assert adopt_damaged(store.feature_set, other) is None


def test_a_shard_that_lies_in_the_folder_of_another_set_does_not_say_what_that_is(store: Any, tmp_path: Any) -> None:
    path = store.directory / min(store.shards)
    found = feature_set_of(path, store.directory, [], {})
    assert found is not None
    assert found.fields == store.feature_set.fields
    assert feature_set_of(path, tmp_path / "tokens-000000000000", [], {}) is None
