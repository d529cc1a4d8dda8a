"""A working folder is one process's at a time, and nothing of the lock stays."""

from pathlib import Path

import pytest

from sentifuse import DataError
from sentifuse.cache.errors import Locked
from sentifuse.crowd.folder_lock import only_here


def test_a_second_one_is_kept_out_while_the_first_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with only_here(folder):
        with pytest.raises(Locked, match="another writer is at work"), only_here(folder):
            pass
        with pytest.raises(Locked), only_here(folder):  # the one that was refused took nothing away
            pass
    assert list(folder.iterdir()) == []
    with only_here(folder):
        pass


def test_the_lock_goes_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_here(tmp_path):
        _ = 1 / 0
    with only_here(tmp_path):
        assert list(tmp_path.iterdir()) != []


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be made"), only_here(tmp_path / "file" / "folder"):
        pass
