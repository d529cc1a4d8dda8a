"""Which feature sets nothing uses, and how one is removed for good."""

import shutil
import uuid
from collections.abc import Collection
from pathlib import Path

from sentifuse.cache.current import read_current
from sentifuse.cache.errors import NoFeatures, Unwritable, writing
from sentifuse.cache.featureset import RECIPE_FILE
from sentifuse.cache.files import fsync_directory
from sentifuse.cache.lock import WriterLock
from sentifuse.cache.order import find_parts
from sentifuse.cache.survey import SetSurvey, survey

__all__ = ["prunable", "remove_set"]


def prunable(cache_dir: Path, used: Collection[str], *, also_unfinished: bool = False) -> tuple[list[SetSurvey], int]:
    """The feature sets of a dataset that are readable, not in use, and whose fingerprint is not among `used`.

    A set that parts are still making is never among them.
    Without a current.json nobody knows what is in use, so nothing is: an extraction that never finished has none.

    Parameters
    ----------
    also_unfinished
        Take sets that have fewer rows than those in use.

    Returns
    -------
    found : list of SetSurvey
    kept : int
        How many more are not used and stay: unfinished ones.

    Raises
    ------
    CorruptIndex
        current.json cannot be believed.
    """
    surveyed = [one for one in survey(cache_dir) if not (one.problem or one.pending)]
    unused = [one for one in surveyed if not one.is_current and one.fingerprint not in used]
    try:
        read_current(cache_dir)
    except NoFeatures:
        return [], len(unused)
    whole = max((one.rows for one in surveyed if one.is_current), default=0)
    found = [one for one in unused if also_unfinished or one.rows >= whole]
    return found, len(unused) - len(found)


def remove_set(directory: Path) -> None:
    """Remove the folder of a feature set with everything in it.

    It is renamed first, so that half of it is never taken for a store.

    Raises
    ------
    NoFeatures
        The folder holds no feature set.
    Locked
        A writer, or a part of one, is at work on it.
    Unwritable
        It cannot be removed, or is a link.
    """
    if not (directory / RECIPE_FILE).is_file():
        raise NoFeatures(f"{directory}: no feature set there, expected a folder with {RECIPE_FILE}")
    if directory.is_symlink():
        raise Unwritable(
            f"{directory}: a link to {directory.resolve()}, expected a folder. Remove the link or that folder yourself."
        )
    lock = WriterLock(directory / "lock")
    lock.acquire()
    try:
        for number, count in find_parts(directory):
            part = WriterLock(directory / f"lock.part-{number}-of-{count}")
            part.acquire()  # a part comes in only through the lock that we hold
            part.release()
        away = directory.with_name(f".removed.{uuid.uuid4().hex}")
        with writing(directory.parent):
            directory.rename(away)
            fsync_directory(directory.parent)
    finally:
        lock.release()
    with writing(directory.parent):
        shutil.rmtree(away)
