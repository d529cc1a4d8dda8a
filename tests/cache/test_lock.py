"""Laws of the lock: one owner, who is named; a dead owner owns nothing."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sentifuse.cache.errors import Locked
from sentifuse.cache.lock import WriterLock


def test_the_second_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    first, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(Locked, match=rf"process {os.getpid()} on {socket.gethostname()} since 20\d\d-"):
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
        "WriterLock(Path(sys.argv[1])).acquire(); print('held', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], capture_output=True, text=True)
    assert (run.stdout, run.returncode) == ("held\n", -9)
    assert (tmp_path / "lock.owner").exists()
    lock = WriterLock(tmp_path / "lock")
    lock.acquire()
    assert f'"pid": {os.getpid()}' in (tmp_path / "lock.owner").read_text(encoding="utf-8")
    lock.release()
