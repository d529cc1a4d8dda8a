"""Laws of a repair: whatever byte of a store is damaged, it comes back, and only damaged rows are made again."""

import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse.cache.checksum import seal
from sentifuse.cache.checkup.mend import Repaired, repair
from sentifuse.cache.checkup.salvage import LostBatch
from sentifuse.cache.compact import compact
from sentifuse.cache.errors import CorruptIndex, FutureVersion, Locked
from sentifuse.cache.featureset import FeatureSet, create_feature_set, open_feature_set
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.journal import read_index, read_journal
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter

Damage = Callable[..., tuple[int, bytes]]
Damages = dict[str, Damage]


def mend(store: Any, **changes: Any) -> Repaired:
    store.asked.clear()
    given = {"expected": store.expected, "recompute": store.recompute, "details": store.feature_set.details}
    return repair(store.directory, **{**given, **changes})


def first_shard(store: Any) -> str:
    return min(store.shards)


def damaged_batches(store: Any, name: str, content: bytes) -> set[int]:
    """The batches of rows of which a byte is not what it was, found without any code of the cache."""
    if name not in store.shards:
        return set()
    whole, rows = store.whole[name], list(store.places(name))
    offsets = [place for place in store.shards[name].proof.datasets if place.name.endswith("/offsets")]
    spans = [(place.offset_bytes, place.offset_bytes + place.size_bytes) for place in offsets]
    if all(whole[start:stop] != content[start:stop] for start, stop in spans):
        return {batch for _, batch, _, _ in rows}  # nothing says any more where the rows lie
    return {
        batch for _, batch, _, ranges in rows if any(whole[start:stop] != content[start:stop] for start, stop in ranges)
    }


def check_one(store: Any, name: str, content: bytes) -> Repaired:
    """Put a damaged file into the whole store: it is found, mended to the last byte, and nothing else is made again."""
    store.put(name, content)
    result = mend(store)
    assert result.before.faults, f"{name}: not found"
    assert all(fault.file == name for fault in result.before.faults if fault.file != "manifest")
    assert not result.after.faults
    assert store.files() == store.whole
    assert {batch.number for batch in store.asked} == damaged_batches(store, name, content)
    assert result.total("batches") == len(store.asked)
    return result


def damage_and_mend(store: Any, damage: Damage, rng: random.Random, count: int) -> int:
    """Damage the store `count` times, mending it each time; returns how many batches were made again."""
    batches = 0
    while count:
        name, at = store.choose_place(rng)
        _, content = damage(store.whole[name], rng, at)
        if content != store.whole[name]:  # else a page of zeros in the padding
            batches += check_one(store, name, content).total("batches")
            count -= 1
    return batches


@pytest.mark.parametrize(("kind", "seed"), [("flip", 1), ("page", 4)])
def test_any_damage_is_found_and_mended_to_the_last_byte(store: Any, damages: Damages, kind: str, seed: int) -> None:
    damage_and_mend(store, damages[kind], random.Random(seed), 20)


@pytest.mark.stress
@pytest.mark.parametrize("kind", ["flip", "page"])
def test_many_damages_at_random_offsets_of_all_files(
    store: Any, damages: Damages, kind: str, request: pytest.FixtureRequest, record_property: Any
) -> None:
    count = request.config.getoption(f"--{kind}s")
    batches = damage_and_mend(store, damages[kind], random.Random(7), count)
    record_property(f"{kind}s", f"{count} found and mended, {batches} batches recomputed")


def test_damage_in_many_places_at_once_is_mended_too(store: Any, damages: Damages) -> None:
    rng = random.Random(5)
    for count in (2, 5, 12):
        contents = dict(store.whole)
        for _ in range(count):
            name = rng.choice(sorted(name for name in contents if name in store.shards))
            contents[name] = damages["flip"](contents[name], rng)[1]
        journal = bytearray(contents["journal.jsonl"])
        journal[rng.randrange(len(journal))] ^= 16
        contents["journal.jsonl"] = bytes(journal)
        for name, content in contents.items():
            store.put(name, content)
        result = mend(store)
        assert store.files() == store.whole
        assert not result.after.faults
        wanted = [len(damaged_batches(store, name, content)) for name, content in contents.items()]
        assert len(store.asked) == sum(wanted)


def test_a_whole_store_is_not_touched(store: Any) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in store.directory.rglob("*")}
    result = mend(store)
    assert (result.files, result.shards, result.before.faults, store.asked) == ((), (), (), [])
    assert {path: path.stat().st_mtime_ns for path in store.directory.rglob("*")} == stamps


@pytest.mark.parametrize("name", ["recipe.json", "index.json", "journal.jsonl"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\0" * 5000], ids=["gone", "empty", "foreign", "zeros"])
def test_a_lost_file_comes_back_from_the_others(store: Any, name: str, content: bytes | None) -> None:
    path = store.directory / name
    path.unlink() if content is None else path.write_bytes(content)
    result = mend(store)
    assert name in {fault.file for fault in result.before.faults}
    assert store.files() == store.whole
    assert (result.after.faults, store.asked) == ((), [])


def test_journal_and_index_both_lost_come_back_from_the_shards(store: Any) -> None:
    (store.directory / "index.json").unlink()
    (store.directory / "journal.jsonl").write_bytes(b"\0" * 100)
    assert not mend(store).after.faults
    assert store.files() == store.whole


def test_after_a_compaction_whose_clearing_was_cut_short_no_old_shard_comes_back(store: Any) -> None:
    changed = dataclasses.replace(store.rows["pair é0"], values=store.rows["pair é1"].values)
    with FeatureWriter(store.feature_set) as writer:
        writer.commit(writer.stage(3, [changed]))
    compact(store.feature_set, shard_rows=200)
    (kept,) = read_index(store.feature_set.index).shards
    for name in store.shards:
        store.put(name, store.whole[name])
    store.put("index.json", b"\0" * 300)
    result = mend(store, expected={**store.expected, changed.id: (changed.digest, "ok")})
    assert (result.files, result.shards, result.after.faults) == (("index.json",), (), ())
    assert read_index(store.feature_set.index).shards == (kept,)
    found = FeatureReader(store.directory).value(changed.id, "grid")
    assert found.tobytes() == changed.values["grid"].tobytes()


def test_all_three_lost_come_back_but_for_the_details(store: Any) -> None:
    for name in ("recipe.json", "index.json", "journal.jsonl"):
        (store.directory / name).unlink()
    result = mend(store, details=None)
    assert not result.after.faults
    found = open_feature_set(store.directory)
    assert (found.recipe, found.fields) == (store.feature_set.recipe, store.feature_set.fields)
    assert found.details == {}
    assert list(FeatureReader(found)) == list(store.rows)


def test_a_shard_whose_journal_line_is_lost_too_is_mended_from_its_own_checksums(store: Any) -> None:
    name = first_shard(store)
    _, batch, _, ranges = next(iter(store.places(name)))
    content = bytearray(store.whole[name])
    content[ranges[0][0]] ^= 1
    store.put(name, bytes(content))
    lines = store.whole["journal.jsonl"].split(b"\n")
    store.put("journal.jsonl", b"\n".join([b"x" * 40, *lines[1:]]))
    result = mend(store)
    assert [(shard.outcome, shard.batches) for shard in result.shards] == [("restored", 1)]
    assert [lost.number for lost in store.asked] == [batch]
    assert store.files() == store.whole


def test_a_shard_nothing_is_known_of_is_dropped_and_free_for_an_extraction(store: Any) -> None:
    name = first_shard(store)
    store.put(name, b"\0" * 1000)
    store.put("journal.jsonl", b"\n".join([b"x", *store.whole["journal.jsonl"].split(b"\n")[1:]]))
    result = mend(store)
    assert [(shard.outcome, shard.number) for shard in result.shards] == [("dropped", 0)]
    assert result.must_extract
    assert [record.number for record in read_index(store.feature_set.index).shards] == [1, 2]
    assert [fault.remedy for fault in result.after.faults] == ["extract"]
    assert result.after.faults[0].rows == tuple(store.ids(name))


@pytest.mark.parametrize("content", [None, b"\0" * 100], ids=["gone", "zeros"])
def test_when_journal_index_and_a_shard_are_lost_the_other_shards_are_kept(store: Any, content: bytes | None) -> None:
    for name in ("index.json", "journal.jsonl"):
        path = store.directory / name
        path.unlink() if content is None else path.write_bytes(content)
    first, *others = sorted(store.shards)
    store.put(first, b"\0" * 1000)
    with pytest.raises(CorruptIndex, match=r"both lost\. Run: sentifuse cache repair"):
        FeatureWriter(store.feature_set)
    assert {name for name in store.files() if name.endswith(".h5")} == set(store.shards)
    result = mend(store)
    assert [(shard.outcome, shard.file) for shard in result.shards] == [("dropped", first)]
    assert result.must_extract
    assert {name for name in store.files() if name.endswith(".h5")} == set(others)
    assert [fault.remedy for fault in result.after.faults] == ["extract"]


def test_a_store_of_which_nothing_is_whole_but_the_recipe_is_free_for_an_extraction(store: Any) -> None:
    for name in (*store.shards, "index.json", "journal.jsonl"):
        store.put(name, b"")
    result = mend(store)
    assert [shard.outcome for shard in result.shards] == ["dropped"] * 3
    with FeatureWriter(store.feature_set) as writer:
        assert writer.shards == ()


def test_a_missing_shard_is_dropped(store: Any) -> None:
    name = first_shard(store)
    (store.directory / name).unlink()
    result = mend(store)
    assert [(shard.outcome, shard.reason) for shard in result.shards] == [("dropped", "its file has gone")]
    assert result.must_extract


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all", b"\0" * 60_000], ids=["empty", "foreign", "zeros"])
def test_a_shard_of_which_no_byte_is_left_is_recomputed_from_its_journal_line(store: Any, content: bytes) -> None:
    name = first_shard(store)
    store.put(name, content)
    result = mend(store)
    # Rows without values are known from the manifest; a checksum says that they were just that.
    empty = [row_id for row_id in store.ids(name) if store.rows[row_id].values is None]
    assert [(shard.outcome, shard.kept) for shard in result.shards] == [("restored", len(empty))]
    assert store.files() == store.whole


def test_another_processor_changes_only_the_rows_that_were_damaged(store: Any) -> None:
    name = first_shard(store)
    row_id, batch, _, ranges = list(store.places(name))[5]
    content = bytearray(store.whole[name])
    content[ranges[0][0]] ^= 1
    store.put(name, bytes(content))

    def other_bits(feature_set: FeatureSet, batches: Sequence[LostBatch]) -> list[Row]:
        return [
            dataclasses.replace(row, values={**row.values, "grid": np.nextafter(row.values["grid"], np.float16(9))})
            for row in store.recompute(feature_set, batches)
            if row.values is not None
        ]

    result = mend(store, recompute=other_bits)
    assert [shard.outcome for shard in result.shards] == ["changed"]
    assert not result.after.faults
    assert [lost.number for lost in store.asked] == [batch]
    assert len(store.asked[0].ids) > 1
    reader = FeatureReader(store.directory)
    reader.prove()
    for other in store.rows.values():
        if other.values is not None:
            is_same = reader.value(other.id, "grid").tobytes() == other.values["grid"].tobytes()
            assert is_same == (other.id != row_id)
    assert [shard.number for shard in read_journal(store.feature_set.journal()).shards] == [0, 1, 2]
    assert not (store.directory / name).exists()


def test_a_row_whose_input_changed_is_never_taken_for_the_old_one(store: Any) -> None:
    name = first_shard(store)
    row_id, _, _, ranges = next(iter(store.places(name)))
    content = bytearray(store.whole[name])
    content[ranges[0][0]] ^= 1
    store.put(name, bytes(content))
    expected = {**store.expected, row_id: ("ef" * 32, "ok")}
    result = mend(store, expected=expected)
    assert [(shard.outcome, shard.gone) for shard in result.shards] == [("changed", (row_id,))]
    assert result.must_extract
    assert row_id not in FeatureReader(store.directory)
    assert store.asked == []


def test_without_an_encoder_everything_else_is_mended(store: Any) -> None:
    names = sorted(store.shards)
    _, _, _, ranges = next(iter(store.places(names[0])))
    content = bytearray(store.whole[names[0]])
    content[ranges[0][0]] ^= 1
    store.put(names[0], bytes(content))
    store.put(names[1], store.whole[names[1]][:200] + b"\1" + store.whole[names[1]][201:])
    store.put("index.json", b"")
    result = mend(store, recompute=None)
    assert [(shard.number, shard.outcome) for shard in result.shards] == [(0, "left"), (1, "restored")]
    assert {fault.shard for fault in result.after.faults} == {0}
    store.put(names[0], store.whole[names[0]])
    assert store.files() == store.whole


def test_rows_of_another_program_stay_damaged_and_say_so(cache_dir: Path, store: Any, make_rows: Any) -> None:
    recipe, fields = {"encoder": "tokens", "imported": {"format": "npz"}}, store.feature_set.fields
    feature_set = create_feature_set(cache_dir, encoder="tokens", recipe=recipe, fields=fields)
    rows = make_rows(0, 10)
    with FeatureWriter(feature_set) as writer:
        staged = writer.stage(0, rows)
        writer.commit(staged)
    path = feature_set.directory / staged.file
    place = next(place for place in staged.proof.datasets if place.name == "fields/grid")
    content = bytearray(path.read_bytes())
    content[place.offset_bytes] ^= 1
    path.write_bytes(bytes(content))
    result = repair(feature_set.directory, expected=None, recompute=lambda feature_set, batches: [])
    assert [shard.outcome for shard in result.shards] == ["left"]
    assert "import again" in result.shards[0].reason
    assert path.read_bytes() == bytes(content)
    assert {fault.remedy for fault in result.after.faults} == {"import"}


def test_rows_of_ours_without_a_batch_are_made_again_in_their_place(feature_set: FeatureSet, make_rows: Any) -> None:
    """An export of our own features comes back without batches: those rows are no less ours."""
    rows = {row.id: row for row in make_rows(0, 10)}
    with FeatureWriter(feature_set) as writer:
        staged = writer.stage(0, list(rows.values()))
        writer.commit(staged)
    path = feature_set.directory / staged.file
    whole = path.read_bytes()
    place = next(place for place in staged.proof.datasets if place.name == "fields/grid")
    path.write_bytes(
        whole[: place.offset_bytes] + bytes([whole[place.offset_bytes] ^ 1]) + whole[place.offset_bytes + 1 :]
    )
    asked: list[LostBatch] = []

    def recompute(feature_set: FeatureSet, batches: Sequence[LostBatch]) -> list[Row]:
        asked.extend(batches)
        return [rows[row_id] for batch in batches for row_id in batch.ids]

    expected = {row.id: (row.digest, row.status) for row in rows.values()}
    result = repair(feature_set.directory, expected=expected, recompute=recompute)
    assert [(shard.outcome, shard.recomputed) for shard in result.shards] == [("restored", 1)]
    assert [(batch.ids, batch.had_values) for batch in asked] == [(("pair é0",), True)]
    assert result.after.faults == ()
    assert path.read_bytes() == whole


def test_a_sealed_line_that_says_what_the_file_does_not_is_made_anew_from_the_file(store: Any) -> None:
    lines = store.whole["journal.jsonl"].splitlines()
    value = json.loads(lines[0])
    del value["crc32c"]
    places = [[name, offset, size, crc] for name, offset, size, crc in value["datasets"]]
    for wrong in (
        {"row_crc32c": value["row_batch"]},
        {"row_batch": value["row_crc32c"]},
        {"datasets": [[name, 0, size, crc] for name, _, size, crc in places]},
        {"datasets": [["ids", *places[0][1:3], 5], *places[1:]]},
        {"datasets": places[:3]},
        {"datasets": [["bogus", 0, 8, None]]},
    ):
        store.put("journal.jsonl", b"\n".join([canonical_json(seal({**value, **wrong})), *lines[1:], b""]))
        result = mend(store)
        assert {fault.file for fault in result.before.faults} == {"journal.jsonl"}
        assert result.files == ("journal.jsonl",)
        assert (result.shards, result.after.faults, store.asked) == ((), (), [])
        assert store.files() == store.whole


def test_with_journal_and_index_lost_the_rows_of_a_damaged_shard_prove_themselves(store: Any) -> None:
    for name in ("index.json", "journal.jsonl"):
        (store.directory / name).unlink()
    name = first_shard(store)
    _, batch, _, ranges = list(store.places(name))[5]
    content = bytearray(store.whole[name])
    content[ranges[0][0]] ^= 1
    store.put(name, bytes(content))
    result = mend(store, recompute=None)
    assert [(shard.outcome, shard.kept) for shard in result.shards] == [("left", 29)]
    # Nothing but the row itself bore its id out.
    assert [(fault.part, fault.rows) for fault in result.after.faults] == [("rows", ("row 6",))]
    assert store.files()[name] == bytes(content)
    result = mend(store)
    assert [(shard.outcome, shard.kept, shard.recomputed) for shard in result.shards] == [("restored", 29, 1)]
    assert [lost.number for lost in store.asked] == [batch]
    assert result.after.faults == ()
    found, expected = dict(store.files()), dict(store.whole)
    assert found.pop("index.json") != expected.pop("index.json")  # it had to say for a while that the shard is another
    assert found == expected
    assert read_index(store.feature_set.index).shards == tuple(shard.record for shard in store.shards.values())


def test_a_dry_run_says_what_would_be_done_and_touches_nothing(store: Any, damages: Damages) -> None:
    name = first_shard(store)
    _, _, _, ranges = next(iter(store.places(name)))
    content = bytearray(store.whole[name])
    content[ranges[0][0]] ^= 1
    store.put(name, bytes(content))
    store.put("index.json", b"")
    before = store.files()
    result = mend(store, is_dry=True)
    assert [(shard.outcome, shard.lost, shard.batches) for shard in result.shards] == [("damaged", 1, 1)]
    assert (store.files(), store.asked) == (before, [])


def test_a_repair_cut_off_anywhere_goes_on_the_next_time(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(store.shards)
    for name in names:
        store.put(name, store.whole[name][:-4096])
    store.put("index.json", b"")
    calls = []

    def stops(feature_set: FeatureSet, batches: Sequence[LostBatch]) -> list[Row]:
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(1)
        return list(store.recompute(feature_set, batches))

    with pytest.raises(KeyboardInterrupt):
        mend(store, recompute=stops)
    assert store.files()[names[0]] == store.whole[names[0]]
    result = mend(store)
    assert {batch.shard for batch in store.asked} == {1, 2}
    assert not result.after.faults
    assert store.files() == store.whole


def test_a_store_of_a_later_version_is_left_alone(store: Any) -> None:
    value = json.loads(store.whole["index.json"])
    del value["crc32c"]
    store.put("index.json", canonical_json(seal({**value, "format": 2})) + b"\n")
    before = store.files()
    with pytest.raises(FutureVersion, match=r"index\.json.*Nothing was touched. Install a later"):
        mend(store)
    assert store.files() == before


def test_a_folder_without_recipe_and_shards_cannot_be_mended(store: Any) -> None:
    (store.directory / "recipe.json").unlink()
    for name in store.shards:
        (store.directory / name).unlink()
    with pytest.raises(CorruptIndex, match="no shard says what it was"):
        mend(store)


def test_a_repair_waits_for_nobody_at_work(store: Any) -> None:
    store.put("index.json", b"")
    with FeatureWriter(store.feature_set):
        store.put("index.json", b"")
        with pytest.raises(Locked):
            mend(store)
    assert not mend(store).after.faults


def test_a_damaged_journal_of_a_part_no_longer_stops_the_writer(store: Any, make_rows: Any) -> None:
    with FeatureWriter(store.feature_set, part=(1, 2)) as writer:
        writer.commit(writer.stage(3, make_rows(100, 5)))
        writer.commit(writer.stage(5, make_rows(200, 5)))
    path: Path = store.feature_set.journal((1, 2))
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1][:-30], b""]))
    result = mend(store)
    assert [fault.part for fault in result.before.faults if fault.remedy == "repair"] == [f"{path.name} line 2"]
    assert FeatureReader(store.directory).has_value("pair é100")
    assert [record.number for record in read_index(store.feature_set.index).shards] == [0, 1, 2, 3]
