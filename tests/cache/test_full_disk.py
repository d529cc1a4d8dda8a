"""Laws of a full disk: an error that says where and how much, nothing half-written, nothing committed is lost."""

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sentifuse.cache.errors import DiskFull
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.files import sha256_of
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter

MakeRows = Callable[..., list[Row]]


@pytest.fixture
def wide_set(tmp_path: Path) -> FeatureSet:
    return make_wide(tmp_path)


def make_wide(directory: Path) -> FeatureSet:
    return create_feature_set(
        directory, encoder="regions", recipe={}, fields=[Field(name="features", dtype="float16", shape=(36, 2048))]
    )


def wide_rows(number: int, count: int) -> list[Row]:
    values = {"features": np.full((36, 2048), number, np.float16)}
    return [Row(id=f"{number}-{place}", digest="ab" * 32, status="ok", values=values) for place in range(count)]


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """A quota on file sizes: the kernel refuses the write itself, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_full_then_room(feature_set: FeatureSet, writer: FeatureWriter, make_room: Callable[[], None]) -> None:
    with pytest.raises(DiskFull, match="no room on the disk") as caught:
        writer.commit(writer.stage(1, wide_rows(1, 20)))
    message = str(caught.value)
    assert str(feature_set.directory) in message
    assert "3.0 MB were needed" in message
    assert "Everything committed so far is kept" in message
    assert list(feature_set.temporary.iterdir()) == []
    assert len(FeatureReader(feature_set)) == 2
    make_room()
    writer.commit(writer.stage(1, wide_rows(1, 20)))
    reader = FeatureReader(feature_set)
    assert len(reader) == 22
    for row_id in reader.ids:
        reader.check(row_id)


def test_a_refused_write_of_values_leaves_nothing_and_the_same_command_goes_on(wide_set: FeatureSet) -> None:
    with FeatureWriter(wide_set) as writer:
        writer.commit(writer.stage(0, wide_rows(0, 2)))
        with files_of_at_most(1_000_000):
            check_full_then_room(
                wide_set, writer, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            )


@pytest.mark.parametrize("call", [1, 2])
def test_a_refused_fsync_of_file_or_folder_leaves_nothing_that_counts(
    wide_set: FeatureSet, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    calls = []
    whole = os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(descriptor)

    with FeatureWriter(wide_set) as writer:
        writer.commit(writer.stage(0, wide_rows(0, 2)))
        monkeypatch.setattr(os, "fsync", full)
        check_full_then_room(wide_set, writer, lambda: None)


def test_a_shard_whose_folder_was_refused_stays_whole_until_the_next_writer(
    wide_set: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(directory: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with FeatureWriter(wide_set) as writer, monkeypatch.context() as patch:
        patch.setattr("sentifuse.cache.staging.fsync_directory", full)
        with pytest.raises(DiskFull):
            writer.stage(0, wide_rows(0, 2))
    assert list(wide_set.temporary.iterdir()) == []
    (left,) = wide_set.shards.iterdir()
    assert sha256_of(left)[:12] == left.stem.partition("-")[2]
    with FeatureWriter(wide_set) as writer:
        assert writer.shard_numbers == frozenset()
    assert list(wide_set.shards.iterdir()) == []


def test_no_room_for_the_index_keeps_the_shard(wide_set: FeatureSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, index: object) -> None:
        raise DiskFull(f"{path}: no room")

    with FeatureWriter(wide_set) as writer:
        writer.commit(writer.stage(0, wide_rows(0, 2)))
        with monkeypatch.context() as patch:
            patch.setattr("sentifuse.cache.writer.write_index", full)
            with pytest.raises(DiskFull):
                writer.commit(writer.stage(1, wide_rows(1, 2)))
        assert len(FeatureReader(wide_set)) == 2
    with FeatureWriter(wide_set) as writer:
        assert writer.shard_numbers == {0, 1}
    assert len(FeatureReader(wide_set)) == 4


@pytest.mark.slow
def test_a_small_disk_that_is_full(tmp_path: Path) -> None:
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        filler = disk / "filler"
        feature_set = make_wide(disk)
        with FeatureWriter(feature_set) as writer:
            writer.commit(writer.stage(0, wide_rows(0, 2)))
            filler.write_bytes(bytes(2_500_000))
            check_full_then_room(feature_set, writer, filler.unlink)
    finally:
        subprocess.run([umount, "--lazy", str(disk)], check=True)
