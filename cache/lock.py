"""One writer at a time: a lock of the operating system, with a note of who holds it. The lock dies with its owner.

The note lies beside the lock and is for the message only: one left by a dead owner means nothing. A file system that
has no locks is refused and not made up for by a file that "exists": such a file outlives its owner.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
import weakref
from datetime import UTC, datetime
from pathlib import Path

from sentifuse.cache.errors import Locked, Unwritable, writing

__all__ = ["WriterLock"]

_HELD_ELSEWHERE = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
_POLL_S = 0.05


class WriterLock:
    """An exclusive lock on `path`; two of them exclude each other within one process as well."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        self.path = path
        self._note = path.with_name(path.name + ".owner")

    def acquire(self, timeout_s: float = 0.0) -> None:
        """Take the lock, waiting at most `timeout_s` seconds.

        Raises
        ------
        Locked
            Naming host, process, start time and age of the owner.
        Unwritable
            The lock file cannot be made, or the file system has no locks.
        """
        last = time.monotonic() + timeout_s
        while not self._take():
            if time.monotonic() >= last:
                raise Locked(
                    f"{self.path.parent}: another writer is at work ({self._owner()}). "
                    "Wait until it has finished, or stop it, and run the same command again."
                )
            time.sleep(_POLL_S)
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
        return self._descriptor is not None

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            self._note.unlink(missing_ok=True)
        self._close()

    def __del__(self) -> None:
        self._close()  # a writer that was dropped without being closed must not keep others out

    def _take(self) -> bool:
        """Take the lock if it is free, without a note. False when somebody has it."""
        if self._descriptor is not None:
            return False
        with writing(self.path.parent):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # File or folder may have been removed or renamed since (`order.clear_away`, `remove`): such a lock guards
            # no name.
            is_ours = self._names(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD_ELSEWHERE:
                return False
            if error.errno in _NO_LOCKS:
                raise self._no_locks(error) from error
            with writing(self.path.parent):
                raise
        except BaseException:
            os.close(descriptor)
            raise
        if not is_ours:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        _held.add(self)
        return True

    def _names(self, descriptor: int) -> bool:
        """Whether `path` is the name of an open file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        held = os.fstat(descriptor)
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        if descriptor is not None:
            os.close(descriptor)  # and with it the lock

    def _no_locks(self, error: OSError) -> Unwritable:
        return Unwritable(
            f"{self.path.parent}: this file system has no locks ({error.strerror}), so nothing would keep a second "
            "writer out. Write the cache to a local disk (--artifacts DIR, or SENTIFUSE_ARTIFACTS), or mount this one "
            "with locks. Reading features that are there needs none."
        )

    def _owner(self) -> str:
        try:
            owner = json.loads(self._note.read_text(encoding="utf-8"))
            age_s = (datetime.now(UTC) - datetime.fromisoformat(owner["since"])).total_seconds()
            return f"process {owner['pid']} on {owner['host']} since {owner['since']}, {_age_text(age_s)}"
        except (OSError, ValueError, KeyError, TypeError):
            return "it has not said who it is yet"


def _age_text(age_s: float) -> str:
    """How long ago, in the unit a person would take.

    >>> _age_text(200), _age_text(-5)
    ('3 min ago', 'just now')
    """
    if age_s < 1:  # the clock of another host may be ahead
        return "just now"
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if age_s < limit_s:
            return f"{age_s // unit_s:.0f} {unit} ago"
    return f"{age_s // 86400:.0f} days ago"


# A child forked while a lock is held shares it, and would keep it for its own lifetime after the owner is killed.
_held: "weakref.WeakSet[WriterLock]" = weakref.WeakSet()


def _let_go_in_child() -> None:
    for lock in list(_held):
        lock._close()


os.register_at_fork(after_in_child=_let_go_in_child)
