"""One writer at a time: a lock of the operating system, with a note of who holds it. The lock dies with its owner.

The note lies beside the lock and not in it: some releases of filelock empty the file of a lock they fail to take. The
note is for the message only; a note left by a dead owner means nothing.
"""

import contextlib
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sentifuse.cache.errors import Locked, writing

__all__ = ["WriterLock"]


class WriterLock:
    """An exclusive lock on `path`; two of them exclude each other within one process as well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(path.name + ".owner")
        self._lock = FileLock(path, thread_local=False, is_singleton=False)

    def acquire(self, timeout_s: float = 0.0) -> None:
        """Take the lock, waiting at most `timeout_s` seconds.

        Raises
        ------
        Locked
            Naming host, process and start time of the owner.
        Unwritable
            The lock file cannot be made.
        """
        with writing(self.path.parent):
            try:
                self._lock.acquire(timeout=timeout_s)
            except Timeout:
                raise Locked(
                    f"{self.path.parent}: another writer is at work ({self._owner()}). "
                    "Wait until it has finished, or stop it, and run the same command again."
                ) from None
        since = datetime.now(UTC).isoformat("T", "seconds")
        with contextlib.suppress(OSError):  # a full disk must not keep a writer from cleaning up
            note = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
            self._note.write_text(json.dumps(note), encoding="utf-8")

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        try:
            self.acquire()
        except Locked:
            return False
        return True

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return bool(self._lock.is_locked)

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self.is_held:
            with contextlib.suppress(OSError):
                self._note.unlink(missing_ok=True)
            self._lock.release()

    def _owner(self) -> str:
        try:
            owner = json.loads(self._note.read_text(encoding="utf-8"))
            return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "it has not said who it is yet"
