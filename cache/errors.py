"""The errors of the cache, each a CacheError that says where, what was expected, what was found and what to do.

CacheError                exit 4
├─ CorruptShard           a shard file that is not what its record says: truncated, foreign, damaged
├─ CorruptIndex           recipe.json, journal.jsonl, index.json or current.json cannot be believed
├─ FutureVersion          written by a later version of the format
├─ FingerprintMismatch    two recipes where there must be one
├─ Locked                 another writer is at work on this feature set
├─ NoFeatures             nothing was extracted yet, or not this encoder
├─ NotStored              this row, or this row's value, is not in the feature set
├─ BadRow                 a row that must not be stored: wrong shape or dtype, NaN, a second row of one id
├─ BadSource              something to import that is refused: damaged, an id twice, a pickle that asks for code
│  └─ BadSourceRow        one row of it cannot be read
├─ Unreadable             the operating system refuses to read
└─ Unwritable             the operating system refuses to write
   └─ DiskFull            because there is no room
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sentifuse import CacheError

__all__ = [
    "BadRow",
    "BadSource",
    "BadSourceRow",
    "CacheError",
    "CorruptIndex",
    "CorruptShard",
    "DiskFull",
    "FingerprintMismatch",
    "FutureVersion",
    "Locked",
    "NoFeatures",
    "NotStored",
    "Unreadable",
    "Unwritable",
    "reading",
    "writing",
]

# EFBIG is what a quota on the size of one file gives; to the person it is the same: no room.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class CorruptShard(CacheError):
    """A shard file is missing, truncated, foreign or damaged."""


class CorruptIndex(CacheError):
    """A recipe, journal, index or current file cannot be believed."""


class FutureVersion(CacheError):
    """Written by a later version of the format than this program reads."""


class FingerprintMismatch(CacheError):
    """Features made by another recipe than the one expected here."""


class Locked(CacheError):
    """Another writer holds the feature set; the message names it."""


class NoFeatures(CacheError):
    """Nothing was extracted for this dataset or encoder yet."""


class NotStored(CacheError):
    """The feature set holds no such row, or no value for it."""


class BadRow(CacheError):
    """A row that must not reach the disk."""


class BadSource(CacheError):
    """Files to import that are refused."""


class BadSourceRow(BadSource):
    """One row of files to import that cannot be read."""


class Unreadable(CacheError):
    """The operating system refuses to read a file or folder of the cache."""


class Unwritable(CacheError):
    """The operating system refuses to write in a folder of the cache."""


class DiskFull(Unwritable):
    """No room left; everything committed before stays."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into Unreadable naming `path`."""
    try:
        yield
    except OSError as error:
        raise Unreadable(
            f"{path}: cannot be read: {_reason(error)}. Check that the path exists and that you may read it."
        ) from error


@contextmanager
def writing(path: Path, *, needed_bytes: int = 0) -> Iterator[None]:
    """Turns an OSError of the block into Unwritable or DiskFull naming `path` and the room that was needed."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error, needed_bytes=needed_bytes) from error


def unwritable(path: Path, error: OSError, *, needed_bytes: int = 0) -> Unwritable:
    """The error of the cache for an OSError met while writing under `path`."""
    if has_no_room(error):
        needed = f" {needed_bytes / 1e6:,.1f} MB were needed for this file." if needed_bytes else ""
        return DiskFull(
            f"{path}: no room on the disk ({_reason(error)}).{needed} Everything committed so far is kept. "
            "Make room and run the same command again: it goes on where it stopped."
        )
    return Unwritable(
        f"{path}: cannot be written: {_reason(error)}. Everything committed so far is kept. "
        "Choose a folder you may write to (--artifacts DIR, or SENTIFUSE_ARTIFACTS)."
    )


def has_no_room(error: OSError) -> bool:
    """Whether an OSError says that the disk, or a quota on it, is full."""
    # h5py names the reason of some failures in the text only.
    return error.errno in _NO_ROOM or "No space left on device" in str(error)


def _reason(error: OSError) -> str:
    return error.strerror or str(error).splitlines()[0] if str(error) else type(error).__name__
