"""Files appear whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentifuse import DataError
from sentifuse.data import files

COLUMNS = {"id": ("string", ["a", "b"]), "n": ("int32", [1, None])}


def test_table_comes_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "t.parquet"
    assert files.write_table(path, COLUMNS, {"x": 1})
    assert files.read_table(path, ("n", "id"), hint="") == ({"n": [1, None], "id": ["a", "b"]}, {"x": 1})


def test_only_the_rows_asked_for_leave_a_table(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    files.write_table(path, {"id": ("string", list("abcd")), "n": ("int32", [1, 2, 1, 2])}, {"x": 1})
    assert files.read_table(path, ("id",), hint="", where={"n": (2,)}) == ({"id": ["b", "d"]}, {"x": 1})
    assert files.read_table(path, ("id",), hint="", where={"n": (2,), "id": ("a", "b")})[0] == {"id": ["b"]}
    assert files.read_metadata(path, hint="") == {"x": 1}


def test_metadata_of_a_damaged_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 rubbish PAR1")
    with pytest.raises(DataError, match=r"t\.parquet: not a readable Parquet file .* Delete it\. do this"):
        files.read_metadata(tmp_path / "t.parquet", hint="do this")


def test_same_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    files.write_table(path, COLUMNS, {})
    before = path.stat()
    assert not files.write_table(path, COLUMNS, {})
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_full_disk_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tmp_path / "card.json"
    files.write_json(path, {"old": True})

    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DataError, match=r"cannot be written: .* untouched; free some space"):
        files.write_json(path, {"new": True})
    assert files.read_json(path, hint="") == {"old": True}
    assert [child.name for child in tmp_path.iterdir()] == ["card.json"]


def test_folder_that_is_a_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("not a folder")
    with pytest.raises(DataError, match="cannot be written"):
        files.write_bytes(tmp_path / "artifacts" / "x", b"")
    with pytest.raises(DataError, match="do this"):
        files.read_bytes(tmp_path / "artifacts" / "x", hint="do this")


def test_folder_that_cannot_be_looked_into_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: File name too long.*--artifacts"):
        files.is_file(tmp_path / ("x" * 300) / "card.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot be removed"):
        files.remove(tmp_path / "folder")


@pytest.mark.parametrize("content", [b"", b"PAR1 and more", b"not json"])
def test_damaged_files_are_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(DataError, match="type this"):
        files.read_table(path, ("id",), hint="type this")
    with pytest.raises(DataError, match="type this"):
        files.read_json(path, hint="type this")


def test_missing_column_is_named(tmp_path: Path) -> None:
    files.write_table(tmp_path / "t", COLUMNS, {})
    with pytest.raises(DataError, match=r"expected the columns \['id', 'label'\], found \['id', 'n'\]"):
        files.read_table(tmp_path / "t", ("id", "label"), hint="")
    (tmp_path / "l.json").write_text("[1]")
    with pytest.raises(DataError, match="found list"):
        files.read_json(tmp_path / "l.json", hint="")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_reading_a_table_leaves_no_thread_that_could_abort_the_end_of_the_process(tmp_path: Path) -> None:
    files.write_table(tmp_path / "t.parquet", COLUMNS, {})
    code = (
        "import sys; from pathlib import Path; from sentifuse.data import files; "
        "files.read_table(Path(sys.argv[1]), ('id',), hint=''); "
        "names = [(Path(p) / 'comm').read_text().strip() for p in Path('/proc/self/task').iterdir()]; "
        "print(sum('jemalloc' not in name for name in names))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "t.parquet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"


def test_a_folder_that_cannot_be_written_is_known_before_and_nothing_is_left(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "new" / "below", hint="")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/below: cannot be written: Not a directory. Name another"):
        files.check_writable(tmp_path / "file" / "below", hint="Name another")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
