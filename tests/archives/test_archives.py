"""Laws of the archives: what any version has written stays readable, and every damaged file there is is refused.

`make.py` writes them. A folder `v*/` or a file in `damaged/` that comes later is tested without a change here.
"""

import csv
import dataclasses
import json
import lzma
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
import pytest

from sentifuse import CacheError
from sentifuse.cache import errors
from sentifuse.cache.checkup.verify import verify
from sentifuse.cache.featureset import FeatureSet, open_feature_set
from sentifuse.cache.journal import Index, read_journal, write_index
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.record import StagedShard
from sentifuse.cache.spec import DTYPES, FORMAT_VERSION
from sentifuse.cache.writer import FeatureWriter

HERE = Path(__file__).parent
DAMAGED = HERE / "damaged"
STORES = sorted(path.parent for path in HERE.glob("v*/*/recipe.json"))
NAMES = [str(path.relative_to(HERE)) for path in STORES]


def table() -> list[dict[str, str]]:
    with (DAMAGED / "expected.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ROWS = table()
FILES = sorted(
    path.relative_to(DAMAGED).as_posix()
    for kind in ("shard", "journal", "index", "recipe")
    for path in (DAMAGED / kind).iterdir()
)


@pytest.mark.parametrize("reader", ["mmap", "h5py"])
@pytest.mark.parametrize("store", STORES, ids=NAMES)
def test_every_version_is_read_with_the_values_it_was_given(store: Path, reader: str) -> None:
    expected = json.loads((store.parent / "rows.json").read_text(encoding="utf-8"))[store.name]
    found = FeatureReader(store, reader=reader)
    assert list(found) == list(expected)
    for row_id, row in expected.items():
        assert (found.digest(row_id), found.status(row_id)) == (row["digest"], row["status"])
        assert found.has_value(row_id) == (row["values"] is not None)
        for name, value in (row["values"] or {}).items():
            array = found.value(row_id, name)
            field = found.field(name)
            assert array.dtype == DTYPES[field.dtype]
            assert array.shape[int(field.is_ragged) :] == field.shape
            assert np.array_equal(array, np.array(value, dtype=np.float64).reshape(array.shape))
    found.prove()


@pytest.mark.parametrize("store", STORES, ids=NAMES)
def test_every_version_can_be_opened_for_writing_and_stays_as_it_is(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / store.name
    shutil.copytree(store, copy)
    with FeatureWriter(open_feature_set(copy)):
        pass
    assert {name: content for name, content in files_of(copy).items() if not name.startswith("lock")} == files_of(store)
    assert verify(copy).faults == ()


def test_the_present_version_has_every_kind_of_thing_in_it() -> None:
    present = [path for path in STORES if path.parent.name == f"v{FORMAT_VERSION}"]
    sets = [open_feature_set(path) for path in present]
    fields = [field for feature_set in sets for field in feature_set.fields]
    assert {field.dtype for field in fields} == set(DTYPES)
    assert {(field.is_ragged, field.shape == ()) for field in fields} == {(a, b) for a in (0, 1) for b in (0, 1)}
    kinds = {kind for path in present for record in FeatureReader(path).shards for kind in record.counts}
    assert kinds == {"ok", "missing", "unreadable", "failed"}
    journals = [read_journal(feature_set.journal()) for feature_set in sets]
    assert any(journal.rewritten for journal in journals)
    assert any(not journal.shards for journal in journals)


def test_making_the_archives_again_gives_the_same_bytes(tmp_path: Path) -> None:
    made_with = (HERE / f"v{FORMAT_VERSION}" / "made_with.txt").read_text(encoding="utf-8")
    if made_with != f"HDF5 {h5py.version.hdf5_version}\n":
        pytest.skip(f"the archives were made with {made_with.strip()}, here is HDF5 {h5py.version.hdf5_version}")
    subprocess.run([sys.executable, str(HERE / "make.py"), str(tmp_path)], check=True)
    for part in (f"v{FORMAT_VERSION}", "damaged"):
        assert unpacked(tmp_path / part) == unpacked(HERE / part)


def test_the_archives_are_small() -> None:
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file()) < 1_500_000


def test_every_damaged_file_stands_in_the_table() -> None:
    assert sorted(row["file"] for row in ROWS) == FILES


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_a_damaged_file_is_refused_as_the_table_says(row: dict[str, str], tmp_path: Path) -> None:
    directory = put(row, tmp_path / "set")
    before = files_of(directory)
    if row["error"] == "verify":
        FeatureReader(directory).prove()
        problems = [f"{fault.part}: {fault.problem}" for fault in verify(directory).faults]
        assert any(row["message"] in problem for problem in problems), problems
    elif row["error"] == "accepted":
        with FeatureWriter(open_feature_set(directory)) as writer:
            assert writer.shard_numbers == {0}
        FeatureReader(directory).prove()
        assert verify(directory).faults == ()
        return
    else:
        error = getattr(errors, row["error"])
        with pytest.raises(CacheError) as caught:
            ACTIONS[row["when"]](directory)
        assert type(caught.value) is error, caught.value
        assert row["message"] in str(caught.value)
        assert str(directory) in str(caught.value)
        assert verify(directory).faults
    after = files_of(directory)
    assert {name: after[name] for name in before} == before


def put(row: dict[str, str], directory: Path) -> Path:
    """The small store of the archives with the damaged file in the place of its own."""
    (base,) = (DAMAGED / "base").iterdir()
    shutil.copytree(base, directory)
    kind = row["file"].partition("/")[0]
    content = (DAMAGED / row["file"]).read_bytes()
    if kind != "shard":
        target = {"journal": "journal.jsonl", "index": "index.json", "recipe": "recipe.json"}[kind]
        (directory / target).write_bytes(content)
        return directory
    content = lzma.decompress(content)
    feature_set = open_feature_set(directory)
    (shard,) = read_journal(feature_set.journal()).shards
    (directory / shard.file).unlink()
    if row["record"] == "own":
        shard = named(feature_set, shard, content)
    (directory / shard.file).write_bytes(content)
    return directory


def named(feature_set: FeatureSet, shard: StagedShard, content: bytes) -> StagedShard:
    """Let journal and index name a file with this content, so that nothing but the content is wrong."""
    digest = sha256(content).hexdigest()
    file = f"shards/{shard.number:06d}-{digest[:12]}.h5"
    record = dataclasses.replace(shard.record, file=file, sha256=digest, size_bytes=len(content))
    shard = StagedShard(record=record, proof=shard.proof)
    feature_set.journal().write_bytes(shard.to_line())
    write_index(feature_set.index, Index(fingerprint=feature_set.fingerprint, generation=1, shards=(record,)))
    return shard


def open_for_writing(directory: Path) -> None:
    with FeatureWriter(open_feature_set(directory)):
        pass


ACTIONS: dict[str, Callable[[Path], object]] = {
    "open": FeatureReader,
    "check": lambda directory: FeatureReader(directory).prove(),
    "write": open_for_writing,
}


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def unpacked(directory: Path) -> dict[str, bytes]:
    """Files by name; what is packed, unpacked: another release of the packer may give other bytes."""
    return {
        name: lzma.decompress(content) if name.endswith(".xz") else content
        for name, content in files_of(directory).items()
    }
