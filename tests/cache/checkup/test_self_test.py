"""The cache's self-test passes here, leaves nothing behind, and notices a cache that does not do its work."""

from pathlib import Path

import numpy as np
import pytest

from sentifuse.cache.checkup import self_test
from sentifuse.cache.checkup.faults import Report
from sentifuse.cache.checkup.self_test import check_damage, check_lock, check_rows
from sentifuse.cache.errors import CacheError, CorruptShard
from sentifuse.cache.lock import WriterLock
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Array
from sentifuse.cache.writer import FeatureWriter

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("check", [check_lock, check_rows, check_damage])
def test_a_sound_cache_passes_and_leaves_nothing(check: object, tmp_path: Path) -> None:
    assert callable(check)
    assert check(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("check", [check_lock, check_rows, check_damage])
def test_a_folder_that_takes_nothing_is_named(check: object, tmp_path: Path) -> None:
    assert callable(check)
    with pytest.raises(CacheError, match="nothing can be written there"):
        check(tmp_path / "none")


def test_a_lock_that_keeps_nobody_out_is_noticed(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(WriterLock, "acquire", lambda self, timeout_s=0.0: None)
    with pytest.raises(CacheError, match="two writers got the lock"):
        check_lock(tmp_path)


def test_a_second_writer_that_is_let_in_is_noticed(tmp_path: Path, monkeypatch: Patch) -> None:
    class Careless(FeatureWriter):
        def __enter__(self) -> FeatureWriter:
            self._lock.release()
            return self

    monkeypatch.setattr(self_test, "FeatureWriter", Careless)
    monkeypatch.setattr(FeatureWriter, "_refuse_closed", lambda self: None)
    with pytest.raises(CacheError, match="second writer was let in"):
        check_rows(tmp_path)


def test_a_reader_that_gives_another_value_is_noticed(tmp_path: Path, monkeypatch: Patch) -> None:
    true = FeatureReader.value

    def value(self: FeatureReader, row_id: str, field: str) -> Array:
        found = true(self, row_id, field)
        return found + np.ones((), found.dtype) if row_id == "pair 3" and field == "count" else found

    monkeypatch.setattr(FeatureReader, "value", value)
    with pytest.raises(CorruptShard, match="pair 3"):  # its own checksum says so first
        check_rows(tmp_path)
    monkeypatch.setattr(FeatureReader, "check", lambda self, row_id: None)
    with pytest.raises(CacheError, match="'pair 3' read by mmap: count is not what was written"):
        check_rows(tmp_path)


def test_a_check_that_finds_nothing_is_noticed(tmp_path: Path, monkeypatch: Patch) -> None:
    true = self_test.verify

    def blind(directory: Path, *, deep: bool) -> Report:
        return true(directory, deep=False)

    monkeypatch.setattr(self_test, "verify", blind)
    with pytest.raises(CacheError, match="a deep check found nothing"):
        check_damage(tmp_path)
