"""Removes a feature set for good. What may go is decided elsewhere."""

import shutil
import uuid
from pathlib import Path

from sentifuse.cache.errors import NoFeatures, writing
from sentifuse.cache.featureset import RECIPE_FILE
from sentifuse.cache.files import fsync_directory
from sentifuse.cache.lock import WriterLock

__all__ = ["remove_set"]


def remove_set(directory: Path) -> None:
    """Remove the folder of a feature set with everything in it.

    It is renamed first, so that half of it is never taken for a store.

    Raises
    ------
    NoFeatures
        The folder holds no feature set.
    Locked
        A writer is at work on it.
    Unwritable
        It cannot be removed.
    """
    if not (directory / RECIPE_FILE).is_file():
        raise NoFeatures(f"{directory}: no feature set there, expected a folder with {RECIPE_FILE}")
    lock = WriterLock(directory / "lock")
    lock.acquire()
    try:
        away = directory.with_name(f".removed.{uuid.uuid4().hex}")
        with writing(directory.parent):
            directory.rename(away)
            fsync_directory(directory.parent)
    finally:
        lock.release()
    with writing(directory.parent):
        shutil.rmtree(away)
