"""Laws of small files: whole or not there, and a refusal of the disk says so."""

import errno
import os
from pathlib import Path

import pytest

from sentifuse.cache.errors import DiskFull, Unreadable, Unwritable, reading
from sentifuse.cache.files import make_directory, replace_file, sha256_of


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index.json"
    replace_file(path, b"one")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match=rf"{tmp_path}: no room on the disk .* committed so far is kept") as caught:
        replace_file(path, b"x" * 3_000_000)
    assert "3.0 MB were needed" in str(caught.value)
    assert caught.value.exit_code == 4
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.json"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file", encoding="utf-8")
    with pytest.raises(Unwritable, match=r"artifacts.*cannot be written: .*--artifacts"):
        make_directory(tmp_path / "artifacts" / "cache")
    with pytest.raises(Unreadable, match="cannot be read: Not a directory"), reading(tmp_path / "artifacts" / "x"):
        (tmp_path / "artifacts" / "x").read_bytes()


def test_make_directory_is_content_with_one_that_is_there(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert sha256_of(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
