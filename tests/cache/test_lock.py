"""Laws of the lock: one owner, who is named; a dead owner owns nothing; no locks, no writing."""

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sentifuse import cli
from sentifuse.cache.errors import Locked, Unwritable
from sentifuse.cache.featureset import FeatureSet, open_feature_set
from sentifuse.cache.lock import WriterLock
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter

MakeRows = Callable[..., list[Row]]


def test_the_second_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    first, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    first.acquire()
    named = rf"process {os.getpid()} on {socket.gethostname()} since 20\d\d-[^,]+, (just now|\d s ago)"
    with pytest.raises(Locked, match=named):
        second.acquire()
    assert not second.try_acquire()
    with pytest.raises(Locked, match=f"process {os.getpid()}"):
        second.acquire()  # the refused ones have not wiped the name
    first.release()
    assert second.try_acquire()
    second.release()
    assert not second.is_held


def test_releasing_a_lock_that_is_not_held_does_nothing(tmp_path: Path) -> None:
    first, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    first.acquire()
    second.release()
    assert not second.try_acquire()
    first.release()


def test_the_lock_of_a_killed_owner_is_free(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from sentifuse.cache.lock import WriterLock; "
        "lock = WriterLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], capture_output=True, text=True)
    assert (run.stdout, run.returncode) == ("held\n", -9)
    assert (tmp_path / "lock.owner").exists()
    lock = WriterLock(tmp_path / "lock")
    lock.acquire()
    assert f'"pid": {os.getpid()}' in (tmp_path / "lock.owner").read_text(encoding="utf-8")
    lock.release()


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(hours=-1), "just now"),  # the clock of another host
        (timedelta(seconds=50), r"5\d s ago"),
        (timedelta(minutes=3), "3 min ago"),
        (timedelta(hours=5), "5 h ago"),
        (timedelta(days=4), "4 days ago"),
    ],
)
def test_the_message_says_how_long_ago_the_owner_came(tmp_path: Path, age: timedelta, words: str) -> None:
    owner, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    owner.acquire()
    since = (datetime.now(UTC) - age).isoformat("T", "seconds")
    note = {"host": "far", "pid": 7, "since": since}
    (tmp_path / "lock.owner").write_text(json.dumps(note), encoding="utf-8")
    with pytest.raises(Locked, match=rf"\(process 7 on far since {since.split('+')[0]}.*, {words}\)"):
        second.acquire()
    owner.release()


@pytest.mark.parametrize("note", ["", "[]", '{"pid": 1}', '{"pid": 1, "host": "h", "since": "long ago"}'])
def test_a_note_that_says_nothing_is_no_reason_to_fail(tmp_path: Path, note: str) -> None:
    owner, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    owner.acquire()
    (tmp_path / "lock.owner").write_text(note, encoding="utf-8")
    with pytest.raises(Locked, match="it has not said who it is yet"):
        second.acquire()
    owner.release()


def test_a_lock_waits_as_long_as_it_was_told(tmp_path: Path) -> None:
    owner, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    owner.acquire()
    with pytest.raises(Locked):
        second.acquire(timeout_s=0.12)
    owner.release()
    second.acquire(timeout_s=0.12)
    second.release()


def test_a_lock_whose_file_was_removed_guards_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fcntl.flock

    def remove_first(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", whole)
        (tmp_path / "lock").unlink()
        whole(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    lock, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    lock.acquire(timeout_s=1)
    assert (tmp_path / "lock").exists()
    assert not second.try_acquire()
    lock.release()


def test_a_lock_that_was_dropped_is_free(tmp_path: Path) -> None:
    WriterLock(tmp_path / "lock").acquire()
    second = WriterLock(tmp_path / "lock")
    second.acquire()
    second.release()


def test_a_child_does_not_keep_the_lock_of_its_killed_parent(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from sentifuse.cache.lock import WriterLock\n"
        "lock = WriterLock(Path(sys.argv[1])); lock.acquire()\n"
        "if os.fork() == 0: print(os.getpid(), flush=True); sys.stdin.read(); os._exit(0)\n"
        "signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        lock = WriterLock(tmp_path / "lock")
        assert not lock.try_acquire()
        owner.send_signal(signal.SIGKILL)
        lock.acquire(timeout_s=5)
        os.kill(child, 0)  # it lives
        lock.release()


def test_two_writers_of_two_processes_exclude_each_other(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    code = (
        "import sys; from pathlib import Path; from sentifuse.cache.featureset import open_feature_set; "
        "from sentifuse.cache.writer import FeatureWriter\n"
        "with FeatureWriter(open_feature_set(Path(sys.argv[1]))): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(feature_set.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        named = rf"another writer is at work \(process {owner.pid} on {socket.gethostname()} since 20.+, (just|\d+ s)"
        with pytest.raises(Locked, match=named) as caught:
            FeatureWriter(feature_set)
        assert str(feature_set.directory) in str(caught.value)
        owner.kill()
    with FeatureWriter(feature_set) as writer:  # the note of the killed one means nothing
        writer.commit(writer.stage(0, make_rows(0, 10)))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_can_be_read_and_not_written(
    feature_set: FeatureSet, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, make_rows(0, 10)))

    def refused(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(Unwritable, match=r"this file system has no locks \(.+\).*local disk \(--artifacts") as caught:
        FeatureWriter(feature_set)
    assert str(feature_set.directory) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    FeatureReader(feature_set.directory).prove()


def test_another_failure_of_the_lock_is_an_error_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(Unwritable, match="cannot be written: Input/output error"):
        WriterLock(tmp_path / "lock").acquire()


@pytest.fixture
def read_only(feature_set: FeatureSet, make_rows: MakeRows) -> Iterator[Path]:
    """The folder of a set with ten rows that nobody may write to: a mount for root, permissions for all others."""
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, make_rows(0, 10)))
    folder = feature_set.directory
    if os.geteuid() != 0:
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        for path in folders:
            path.chmod(0o555)
        (folder / "lock").chmod(0o444)
        yield folder
        for path in folders:
            path.chmod(0o755)
        return
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("root may write everywhere, and there is no mount to make a folder read-only")
    for words in (["--bind", str(folder), str(folder)], ["-o", "remount,bind,ro", str(folder)]):
        made = subprocess.run([mount, *words], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"root may write everywhere, and nothing can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([umount, "--lazy", str(folder)], check=True)


def test_a_folder_that_is_read_only_can_be_read_and_not_written(read_only: Path) -> None:
    feature_set = open_feature_set(read_only)
    reader = FeatureReader(feature_set)
    reader.prove()
    assert len(reader) == 10
    FeatureReader(read_only, reader="h5py").prove()
    for part in (None, (0, 2)):
        with pytest.raises(Unwritable, match=r"cannot be written: (Read-only file system|Permission denied)") as caught:
            FeatureWriter(feature_set, part=part)
        assert str(read_only) in str(caught.value)


def test_the_command_that_shows_a_read_only_cache_needs_no_writing(
    read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["cache", "info", "--json", "--artifacts", str(read_only.parents[2])]) == 0
    assert read_only.name in capsys.readouterr().out
