"""One process at a time in a working folder: two equal commands would mix their checkpoints and logs.

Where the file system has no locks nothing keeps a second one out; hours of work are not refused for that.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sentifuse import DataError
from sentifuse.cache.errors import Unwritable
from sentifuse.cache.lock import WriterLock

__all__ = ["LOCK", "only_here"]

LOCK = ".lock"


@contextmanager
def only_here(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if need be; the lock is gone afterwards.

    Raises
    ------
    Locked
        Another process is at work in it; the message names it.
    DataError
        The folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror or error}. Mend the permissions") from error
    lock = WriterLock(folder / LOCK)
    with suppress(Unwritable):
        lock.acquire()
    try:
        yield
    finally:
        if lock.is_held:  # removed by its owner alone; who waits for it sees that the name is gone and makes a new one
            with suppress(OSError):
                lock.path.unlink()
        lock.release()
