"""Laws of a check: every damage is named by file, part and row; what a writer is doing meanwhile is none."""

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sentifuse.cache import shard_file
from sentifuse.cache.checksum import seal
from sentifuse.cache.checkup.faults import FILE, METADATA, ROWS, Fault
from sentifuse.cache.checkup.mend import repair
from sentifuse.cache.checkup.verify import shard_bytes, verify
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.files import sha256_of
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter

Damages = dict[str, Callable[..., tuple[int, bytes]]]


def only(store: Any, **options: Any) -> Fault:
    faults = verify(store.directory, expected=store.expected, **options).faults
    assert len(faults) == 1, faults
    return faults[0]


def put_through_hdf5(store: Any, change: Callable[[h5py.File], None]) -> None:
    """Change the first shard through HDF5 and let everything else say that it was committed like this."""
    name = min(store.shards)
    path = store.directory / name
    with h5py.File(path, "r+", locking=False) as file:
        change(file)
    sha256, size = sha256_of(path), path.stat().st_size
    new = f"shards/000000-{sha256[:12]}.h5"
    path.rename(store.directory / new)
    for file_name in ("journal.jsonl", "index.json"):
        lines = []
        for line in store.whole[file_name].splitlines():
            text = line.decode().replace(name, new).replace(store.shards[name].record.sha256, sha256)
            value = json.loads(
                text.replace(f'"size_bytes":{store.shards[name].record.size_bytes}', f'"size_bytes":{size}')
            )
            lines.append(canonical_json(seal({key: item for key, item in value.items() if key != "crc32c"})) + b"\n")
        store.put(file_name, b"".join(lines))


def test_a_whole_store_has_no_faults(store: Any) -> None:
    seen: list[int] = []
    report = verify(store.directory, expected=store.expected, progress=seen.append)
    assert (report.faults, report.remarks) == ((), ())
    assert (report.shards, report.rows, report.ok) == (
        3,
        77,
        sum(row.values is not None for row in store.rows.values()),
    )
    assert report.bytes_read == sum(seen) == shard_bytes(store.directory)
    assert json.loads(json.dumps(report.to_json()))["faults"] == []
    quick = verify(store.directory, deep=False)
    assert (quick.faults, quick.bytes_read) == ((), 0)


def test_a_turned_bit_is_named_by_part_and_row(store: Any, damages: Damages) -> None:
    rng = random.Random(0)
    names = list(store.shards)
    for _ in range(60):
        name = rng.choice(names)
        place = rng.choice([place for place in store.shards[name].proof.datasets if place.size_bytes])
        at = place.offset_bytes + rng.randrange(place.size_bytes)
        store.put(name, damages["flip"](store.whole[name], rng, at)[1])
        found = only(store)
        assert (found.file, found.shard) == (name, store.shards[name].number)
        if place.crc32c is None:
            hit = [row_id for row_id, _, _, spans in store.places(name) if any(a <= at < b for a, b in spans)]
            assert (found.part, found.rows) == (ROWS, tuple(hit))
        elif place.name.endswith("offsets"):
            assert found.part == place.name
            assert 1 <= len(found.rows) <= 2
        else:
            row = (at - place.offset_bytes) // (place.size_bytes // len(store.ids(name)))
            assert (found.part, found.rows) == (place.name, (store.ids(name)[row],))
        store.put(name, store.whole[name])


def test_a_turned_bit_between_the_datasets_is_metadata_or_padding(store: Any, damages: Damages) -> None:
    name = min(store.shards)
    places = store.shards[name].proof.datasets
    padding = places[0].offset_bytes + places[0].size_bytes + 5
    for at in (9, 100, padding, len(store.whole[name]) - 1 if places[-1].size_bytes == 0 else padding):
        store.put(name, damages["flip"](store.whole[name], random.Random(at), at)[1])
        found = only(store)
        assert (found.part, found.rows) == (METADATA, ())
        assert "all rows are whole" in found.problem


def test_quick_finds_sizes_seals_and_metadata_but_not_values(store: Any, damages: Damages) -> None:
    name = min(store.shards)
    store.put(name, store.whole[name][:-1])
    assert only(store, deep=False).problem.endswith(f"expected {len(store.whole[name])}")
    # The superblock has a checksum of its own.
    store.put(name, damages["flip"](store.whole[name], random.Random(0), 30)[1])
    assert "not readable as HDF5" in only(store, deep=False).problem
    _, _, _, spans = next(iter(store.places(name)))
    store.put(name, damages["flip"](store.whole[name], random.Random(0), spans[0][0])[1])
    assert verify(store.directory, deep=False).faults == ()
    assert only(store).part == ROWS


@pytest.mark.parametrize("name", ["recipe.json", "journal.jsonl", "index.json"])
def test_a_turned_bit_of_a_small_file_is_named_and_said_to_be_one(store: Any, damages: Damages, name: str) -> None:
    rng = random.Random(4)
    for _ in range(10):
        store.put(name, damages["flip"](store.whole[name], rng)[1])
        found = only(store, deep=False)
        assert found.file == name
        assert found.problem == "one flipped bit" or name == "journal.jsonl"
        store.put(name, store.whole[name])


def test_the_line_of_the_journal_is_named(store: Any) -> None:
    lines = store.whole["journal.jsonl"].split(b"\n")
    store.put("journal.jsonl", b"\n".join([lines[0], b"{}", *lines[2:]]))
    assert only(store).part == "journal.jsonl line 2"
    store.put("journal.jsonl", b"\n".join([*lines[:2], lines[2][:-50]]))
    assert only(store).problem == "no line for shards 2, which the index names: it was cut short"


def test_several_faults_are_all_listed_and_every_other_file_is_still_checked(store: Any, damages: Damages) -> None:
    first, second, third = sorted(store.shards)
    store.put("recipe.json", b"")
    store.put("index.json", b"\0")
    store.put(first, store.whole[first][:5000])
    _, _, _, spans = next(iter(store.places(second)))
    store.put(second, damages["flip"](store.whole[second], random.Random(0), spans[0][0])[1])
    faults = verify(store.directory, expected=store.expected).faults
    assert [(fault.file, fault.part) for fault in faults[:3]] == [
        ("index.json", "index.json"),
        ("recipe.json", "recipe.json"),
        (first, FILE),
    ]
    assert (faults[-1].file, faults[-1].part, len(faults[-1].rows)) == (second, ROWS, 1)
    assert third not in {fault.file for fault in faults}


def test_without_recipe_and_shards_all_else_is_checked(store: Any) -> None:
    shutil.rmtree(store.directory / "shards")
    store.put("recipe.json", b"")
    faults = verify(store.directory).faults
    assert [fault.file for fault in faults] == ["recipe.json", *sorted(store.shards)]
    assert verify(store.directory / "nowhere").faults[0].problem == "missing"


def test_an_index_that_names_a_missing_shard(store: Any) -> None:
    name = min(store.shards)
    (store.directory / name).unlink()
    assert only(store).problem == "missing, but journal or index names it: 30 rows are gone"
    assert only(store, deep=False).file == name


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\0" * 114_928], ids=["empty", "foreign", "zeros"])
def test_a_shard_of_another_kind(store: Any, content: bytes) -> None:
    name = min(store.shards)
    store.put(name, content)
    faults = verify(store.directory, expected=store.expected).faults
    assert {fault.file for fault in faults} == {name}
    lost = next(fault for fault in faults if fault.part == ROWS)
    assert set(lost.rows) == {row_id for row_id in store.ids(name) if store.rows[row_id].values is not None}


def test_a_shard_of_a_later_version_or_another_recipe_is_said_to_be_one(store: Any) -> None:
    name = min(store.shards)
    with h5py.File(store.directory / name, "r+", locking=False) as file:
        file.attrs["version"] = np.int64(2)
    assert any("version 2" in fault.problem for fault in verify(store.directory, deep=False).faults)
    store.put(name, store.whole[name])
    with h5py.File(store.directory / name, "r+", locking=False) as file:
        file.attrs["fingerprint"] = np.array(b"0" * 64, dtype=h5py.string_dtype("utf-8", 64))
    assert any("fingerprint 000000000000" in fault.problem for fault in verify(store.directory, deep=False).faults)


def test_ids_twice_or_in_another_order(store: Any) -> None:
    name = min(store.shards)
    place = store.shards[name].proof.datasets[0]
    width = place.size_bytes // 30
    content = bytearray(store.whole[name])
    start = place.offset_bytes
    content[start : start + width], content[start + width : start + 2 * width] = (
        content[start + width : start + 2 * width],
        content[start : start + width],
    )
    store.put(name, bytes(content))
    found = only(store)
    assert (found.part, found.rows) == ("ids", tuple(store.ids(name)[:2]))
    content[start : start + width] = content[start + width : start + 2 * width]
    store.put(name, bytes(content))
    assert only(store).part == "ids"
    assert "an id twice" in only(store, deep=False).problem


def test_values_that_no_encoder_gives_are_faults_even_where_the_bytes_are_as_committed(store: Any) -> None:
    def change(file: h5py.File) -> None:
        file["fields/grid"][0] = np.nan
        file["fields/states/values"][3] = np.inf
        file["fields/grid"][2] = -0.0
        offsets = file["fields/states/offsets"][:]
        file["fields/states/values"][offsets[2] : offsets[3]] = 0

    put_through_hdf5(store, change)
    faults = verify(store.directory).faults
    ids = [row_id for row_id in store.ids(min(store.shards)) if store.rows[row_id].values is not None]
    assert [(fault.part, fault.problem) for fault in faults] == [
        ("fields/grid", "NaN or infinite values"),
        ("fields/states", "NaN or infinite values"),
        (ROWS, "all values are zero, which no encoder gives"),
    ]
    assert (faults[0].rows, faults[2].rows) == ((ids[0],), (ids[2],))


def test_an_empty_row_of_a_ragged_field_is_no_row_of_zeros(cache_dir: Path) -> None:
    fields = (Field(name="states", dtype="float32", shape=(3,), is_ragged=True),)
    one = create_feature_set(cache_dir, encoder="tokens", recipe={"a": 1}, fields=fields)
    lengths = [0, 2, 0, 0, 1, 0]
    rows = [
        Row(id=str(i), digest="ab" * 32, status="ok", values={"states": np.full((n, 3), i == 1, np.float32)})
        for i, n in enumerate(lengths)
    ]
    with FeatureWriter(one) as writer:
        writer.commit(writer.stage(0, rows))
    (fault,) = verify(one.directory).faults
    assert (fault.part, fault.rows) == (ROWS, ("4",))


def test_ids_are_compared_with_the_manifest(store: Any) -> None:
    expected = dict(store.expected)
    gone = next(iter(expected))
    del expected[gone]
    changed = "pair é1"
    expected[changed] = ("ef" * 32, "ok")
    expected["new pair"] = ("ab" * 32, "ok")
    report = verify(store.directory, deep=False, expected=expected)
    assert [(fault.part, fault.rows, fault.remedy) for fault in report.faults] == [
        ("ids", ("new pair",), "extract"),
        ("digests", (changed,), "extract"),
    ]
    assert report.remarks == ("1 stored rows are of pairs that the dataset no longer has",)


def test_a_row_whose_input_could_not_be_read_is_a_remark(feature_set: FeatureSet) -> None:
    row = Row(id="a", digest="", status="failed: no such file")
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, [row]))
    report = verify(feature_set.directory, expected={"a": ("ab" * 32, "ok")})
    assert report.faults == ()
    assert "1 rows failed because their input could not be read" in report.remarks[0]


def test_what_a_writer_is_doing_is_no_fault(store: Any, make_rows: Any) -> None:
    with FeatureWriter(store.feature_set) as writer:
        staged = writer.stage(3, make_rows(100, 5))
        assert verify(store.directory).faults == ()
        assert "1 shard files that were never committed" in verify(store.directory).remarks[0]
        index = store.feature_set.index.read_bytes()
        writer.commit(staged)
        assert verify(store.directory).faults == ()
        # As if seen between the journal's line and the index; and with half a line more.
        store.feature_set.index.write_bytes(index)
        with store.feature_set.journal().open("ab") as journal:
            journal.write(store.whole["journal.jsonl"][:100])
        report = verify(store.directory)
        assert report.faults == ()
        assert "shards 3 are committed and not in the index yet" in report.remarks[0]
        assert report.shards == 4
        store.feature_set.journal().write_bytes(store.feature_set.journal().read_bytes()[:-100])


def test_a_check_beside_a_busy_writer_finds_nothing(store: Any, make_rows: Any) -> None:
    def write() -> None:
        with FeatureWriter(store.feature_set) as writer:
            for number in range(3, 20):
                writer.commit(writer.stage(number, make_rows(100 * number, 5)))
            writer.rewrite([writer.stage(number, make_rows(7000 + 100 * number, 5)) for number in range(20)])

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(write)
        while not work.done():
            assert verify(store.directory).faults == ()
        work.result()
    assert verify(store.directory).shards == 20


def test_a_part_at_work_is_a_remark(feature_set: FeatureSet, make_rows: Any) -> None:
    with FeatureWriter(feature_set, part=(0, 2)) as writer:
        writer.commit(writer.stage(0, make_rows(0, 5)))
        writer.stage(2, make_rows(50, 5))
        report = verify(feature_set.directory)
    assert report.faults == ()
    assert "journal.part-0-of-2.jsonl has 1 shards" in report.remarks[0]


def test_random_bytes_in_any_files_are_faults_and_never_an_error(store: Any) -> None:
    rng = random.Random(0)
    for _ in range(15):
        hit = rng.sample(sorted(store.whole), rng.randint(1, len(store.whole)))
        for name in hit:
            store.put(name, rng.randbytes(rng.randrange(400)))
        found = {fault.file for fault in verify(store.directory, expected=store.expected).faults}
        assert set(hit) - found <= (set(store.shards) if {"index.json", "journal.jsonl"} <= set(hit) else set())
        for name, content in store.whole.items():
            store.put(name, content)


def imported_set(cache_dir: Path, store: Any, rows: list[Row]) -> FeatureSet:
    recipe, fields = {"encoder": "tokens", "imported": {"format": "npz"}}, store.feature_set.fields
    found = create_feature_set(cache_dir, encoder="tokens", recipe=recipe, fields=fields)
    with FeatureWriter(found) as writer:
        writer.commit(writer.stage(0, rows))
    return found


def test_a_row_of_zeros_that_another_program_made_is_a_remark(cache_dir: Path, store: Any, make_row: Any) -> None:
    row = make_row("a", 1)
    zeros = {name: np.zeros_like(value) for name, value in row.values.items()}
    found = imported_set(cache_dir, store, [dataclasses.replace(row, values=zeros), make_row("b", 2)])
    report = verify(found.directory)
    assert report.faults == ()
    assert "1 imported rows are all zeros: a" in report.remarks[0]
    assert repair(found.directory).shards == ()


def test_what_an_imported_set_lacks_is_for_an_import(cache_dir: Path, store: Any, make_row: Any) -> None:
    found = imported_set(cache_dir, store, [make_row("a", 1)])
    (fault,) = verify(found.directory, expected={"a": (make_row("a", 1).digest, "ok"), "b": ("", "missing")}).faults
    assert (fault.file, fault.rows, fault.remedy) == ("manifest", ("b",), "import")
    assert repair(found.directory, expected={"b": ("", "missing")}).files == ()


def test_bytes_that_are_read_again_are_counted_again(store: Any) -> None:
    name = min(store.shards)
    _, _, _, spans = next(iter(store.places(name)))
    content = bytearray(store.whole[name])
    content[spans[0][0]] ^= 1
    store.put(name, bytes(content))
    total = shard_bytes(store.directory)
    assert total < verify(store.directory).bytes_read <= 2 * total


def test_nothing_is_written(store: Any) -> None:
    store.put("index.json", b"")
    before = {path: path.stat().st_mtime_ns for path in store.directory.rglob("*")}
    verify(store.directory)
    assert {path: path.stat().st_mtime_ns for path in store.directory.rglob("*")} == before


def test_a_shard_committed_with_a_wrong_checksum_is_found_and_mended(
    feature_set: FeatureSet, make_rows: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(0, 5)
    with FeatureWriter(feature_set) as writer, monkeypatch.context() as patch:
        true = shard_file.row_crc32c
        patch.setattr(shard_file, "row_crc32c", lambda name, *rest: true(name, *rest) ^ (name == rows[1].id))
        writer.commit(writer.stage(0, rows))
    (fault,) = verify(feature_set.directory).faults
    assert (fault.part, fault.rows) == (ROWS, (rows[1].id,))
    assert "committed with a checksum that does not fit" in fault.problem
