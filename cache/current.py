"""Which feature sets of a dataset were extracted last: current.json. A pointer for people and defaults, not a proof.

What is written for one encoder leaves what it says of the others.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sentifuse.cache.errors import CorruptIndex, NoFeatures, reading
from sentifuse.cache.files import make_directory, replace_file
from sentifuse.cache.lock import WriterLock

__all__ = ["Current", "read_current", "write_current"]

CURRENT_FILE = "current.json"
LOCK_FILE = "current.lock"
LOCK_TIMEOUT_S = 30.0  # it is held for one small write


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """The feature sets last extracted for a dataset.

    Attributes
    ----------
    cache_dir : Path
        The dataset's folder, artifacts/cache/<dataset>.
    profile : str
        The profile of the last extraction.
    encoders : mapping
        Encoder name to the name of its folder inside `cache_dir`.
    """

    cache_dir: Path
    profile: str
    encoders: Mapping[str, str]

    def directory(self, encoder: str) -> Path:
        """The folder of an encoder's features. Raises NoFeatures naming the command that makes them."""
        if encoder not in self.encoders:
            name = self.cache_dir.name
            raise NoFeatures(
                f"no {encoder!r} features of dataset {name} in {self.cache_dir} (there are: "
                f"{', '.join(sorted(self.encoders)) or 'none'}); "
                f"run: sentifuse extract --dataset {name} --encoders {encoder}"
            )
        return self.cache_dir / self.encoders[encoder]


def write_current(cache_dir: Path, encoders: Mapping[str, str], profile: str) -> Current:
    """Say that these folders (encoder name to folder name) are the ones to use; other encoders keep theirs.

    Raises
    ------
    CorruptIndex
        What is there cannot be believed.
    Locked, Unwritable
        Another writer does not let go; the folder cannot be written.
    """
    current, is_written = _merge(cache_dir, encoders, profile)
    if is_written:  # a second extraction needs no writable folder
        return current
    make_directory(cache_dir)
    lock = WriterLock(cache_dir / LOCK_FILE)
    lock.acquire(LOCK_TIMEOUT_S)
    try:  # read again: another command may have written since
        current, _ = _merge(cache_dir, encoders, profile)
        replace_file(cache_dir / CURRENT_FILE, _content(current))
    finally:
        lock.release()
    return current


def _merge(cache_dir: Path, encoders: Mapping[str, str], profile: str) -> tuple[Current, bool]:
    """What is to be said, and whether the file says it already."""
    path = cache_dir / CURRENT_FILE
    known = dict(read_current(cache_dir).encoders) if path.exists() else {}
    current = Current(cache_dir=cache_dir, profile=profile, encoders=dict(sorted({**known, **encoders}.items())))
    with reading(path):
        return current, path.is_file() and path.read_bytes() == _content(current)


def _content(current: Current) -> bytes:
    value = {"encoders": dict(current.encoders), "profile": current.profile}
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode("utf-8") + b"\n"


def read_current(cache_dir: Path) -> Current:
    """What was extracted last for the dataset whose folder this is.

    Raises
    ------
    NoFeatures
        Nothing was; the message has the command to type.
    CorruptIndex
        current.json cannot be believed.
    """
    path = cache_dir / CURRENT_FILE
    with reading(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            name = cache_dir.name
            raise NoFeatures(
                f"no features of dataset {name} in {cache_dir}; run: sentifuse extract --dataset {name}"
            ) from None
    try:
        value = json.loads(content)
        profile, encoders = value["profile"], value["encoders"]
        plain_names = all(isinstance(folder, str) and Path(folder).name == folder for folder in encoders.values())
        if not isinstance(profile, str) or not plain_names:
            raise ValueError("expected a profile and folder names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptIndex(
            f"{path}: {type(error).__name__}: {error}. Delete the file and extract again: nothing is recomputed."
        ) from error
    return Current(cache_dir=cache_dir, profile=profile, encoders=encoders)
