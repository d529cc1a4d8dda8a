"""Small files written so that they are whole or not there. Knows nothing of what is in them."""

import contextlib
import hashlib
import os
import uuid
from pathlib import Path

from sentifuse.cache.errors import writing

__all__ = ["fsync_directory", "make_directory", "replace_file", "sha256_of"]


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: temporary name in the same folder, fsync, rename, fsync of the folder.

    Raises
    ------
    Unwritable, DiskFull
        The old file is still there, and no temporary one.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with writing(path.parent, needed_bytes=len(content)):
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            fsync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def fsync_directory(directory: Path) -> None:
    """Make renames inside a folder last through a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make a folder and its parents, durably; one that is there is fine."""
    with writing(directory):
        if directory.is_dir():
            return
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        fsync_directory(directory.parent)


def sha256_of(path: Path) -> str:
    """SHA-256 hex of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
