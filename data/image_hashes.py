"""Perceptual hashes of images, kept beside the manifest: computed once per image content, whatever the file is called.

Reads and decodes images. Judges no likeness: that is `groups.py`.
"""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash

from sentifuse.data import files
from sentifuse.data.images import UnreadableImage, read_image
from sentifuse.data.manifest import Manifest, Pair, prepare_hint

FILE_NAME = "image_hashes.parquet"
HASH_NAME = "phash-64"
BATCH = 512  # images between two looks at the clock
SAVE_INTERVAL_S = 30.0  # so much work is lost at most when the process is killed

Hashes = Mapping[str, int | None]  # SHA-256 of the file's bytes -> 64 bits, or None where no image can be decoded


def ensure_image_hashes(
    dataset_dir: Path, manifest: Manifest, progress: Callable[[int, int], None] | None = None
) -> Hashes:
    """The hash of every image of the manifest whose file is, or once was, there; what is new is computed and kept.

    An interrupted call keeps what it has; the next one goes on.

    Parameters
    ----------
    progress
        Called with (images done, images to do).
    """
    known = read_image_hashes(dataset_dir)
    wanted = {pair.image_digest: pair for pair in manifest.pairs if pair.image_digest}
    hashes = {digest: known[digest] for digest in wanted if digest in known}
    todo = [pair for digest, pair in wanted.items() if digest not in known]
    saved = time.monotonic()
    done = 0
    try:
        with ThreadPoolExecutor(max_workers=_cores()) as pool:  # Pillow leaves the interpreter lock
            for start in range(0, len(todo), BATCH):
                pairs = todo[start : start + BATCH]
                for pair, found in zip(pairs, pool.map(lambda pair: _hash(manifest, pair), pairs), strict=True):
                    done += 1
                    if found is not None:
                        hashes[pair.image_digest] = found[0]
                    if progress is not None:
                        progress(done, len(todo))
                if time.monotonic() - saved > SAVE_INTERVAL_S:
                    _write(dataset_dir, wanted, hashes)
                    saved = time.monotonic()
    finally:
        if hashes != known:
            _write(dataset_dir, wanted, hashes)
    return hashes


def _cores() -> int:
    # Not every system can tell which cores this process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_image_hashes(dataset_dir: Path) -> dict[str, int | None]:
    """The hashes kept so far; none when no image was hashed yet, or by another method."""
    path = dataset_dir / FILE_NAME
    if not files.is_file(path):
        return {}
    columns, metadata = files.read_table(path, ("digest", "hash"), hint=prepare_hint(dataset_dir))
    return dict(zip(columns["digest"], columns["hash"], strict=True)) if metadata == _METADATA else {}


_METADATA = {"version": 1, "hash": HASH_NAME}


def _write(dataset_dir: Path, wanted: Mapping[str, Pair], hashes: Hashes) -> None:
    digests = [digest for digest in wanted if digest in hashes]  # in the manifest's order: same images, same bytes
    values = [hashes[digest] for digest in digests]
    files.write_table(dataset_dir / FILE_NAME, {"digest": ("string", digests), "hash": ("uint64", values)}, _METADATA)


def _hash(manifest: Manifest, pair: Pair) -> tuple[int | None] | None:
    """(hash or None,) of an image; None when its file is gone or holds other bytes than the manifest says."""
    try:
        content = manifest.image_file(pair).read_bytes()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    if files.digest(content) != pair.image_digest:
        return None
    try:
        return (int(str(imagehash.phash(read_image(content))), 16),)
    except UnreadableImage:
        return (None,)
