"""What a model says about image files: three probabilities each, or the status that says why there are none.

Every file has its place in the result, whatever it is. Decoding runs in threads ahead of the network; memory is that of
a few batches and of the answers.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import DataError
from sentifuse.crowd.finetune.images import default_threads
from sentifuse.data.files import digest
from sentifuse.data.images import UnreadableImage, read_image
from sentifuse.extract.encoder import Array, Backbone, Encoder, Outputs, RowValues

__all__ = ["FAILED", "OK", "Answers", "Look", "answer_images", "look_at"]

OK = "ok"
FAILED = "failed"  # it could be decoded, and the model refused it
CHUNKS_AHEAD = 2

# Shapes: N images.
Read = Callable[[Outputs, Sequence[Any]], Sequence[RowValues]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What is known of N image files, in their order.

    Attributes
    ----------
    probabilities
        float32 (N, 3): negative, neutral, positive; NaN where the status is not ok.
    statuses
        "ok", "failed", or a word of `data.images.REASONS`.
    details
        More about a status that is not ok.
    digests
        SHA-256 of each file's bytes, "" where they could not be read.
    """

    probabilities: npt.NDArray[np.float32]
    statuses: tuple[str, ...]
    details: tuple[str, ...]
    digests: tuple[str, ...]

    @property
    def is_ok(self) -> npt.NDArray[np.bool_]:
        """(N,) which images have probabilities."""
        return np.array([status == OK for status in self.statuses], dtype=bool)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """What came of one file: the fields that were read off the network, where the status is ok."""

    row: int
    status: str
    detail: str
    digest: str
    values: Mapping[str, Array] | None = None


def answer_images(
    encoder: Encoder,
    images: Sequence[Path],
    *,
    batch_rows: int = 16,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Answers:
    """Ask a model about image files; parameters are those of `look_at`.

    Parameters
    ----------
    encoder
        `crowd`, built.
    """
    probabilities = np.full((len(images), 3), np.nan, dtype=np.float32)
    statuses, details, digests = ([""] * len(images) for _ in range(3))
    looks = look_at(encoder.backbone, encoder.read, images, batch_rows=batch_rows, threads=threads, progress=progress)
    for look in looks:
        statuses[look.row], details[look.row], digests[look.row] = look.status, look.detail, look.digest
        if look.values is not None:
            probabilities[look.row] = look.values["probabilities"]
    return Answers(
        probabilities=probabilities, statuses=tuple(statuses), details=tuple(details), digests=tuple(digests)
    )


def look_at(
    backbone: Backbone,
    read: Read,
    images: Sequence[Path],
    *,
    batch_rows: int = 16,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Look]:
    """Every file once, in no order that is promised: decoded, batched with those of its size, read.

    Parameters
    ----------
    read
        Fields of each row of a forward pass, or the error that makes it `failed`.
    threads
        That decode; 0: one for each processor, at most 16.
    progress
        Called with the number of files newly done.
    """
    for chunk in _chunks(backbone, images, batch_rows, threads or default_threads()):
        by_key: defaultdict[Hashable, list[_Loaded]] = defaultdict(list)
        for one in chunk:
            if one.look.status == OK:
                by_key[backbone.batch_key(one.prepared)].append(one)
            else:
                yield one.look
        for group in by_key.values():
            batch = [one.prepared for one in group]
            for one, values in zip(group, read(backbone.forward(batch), batch), strict=True):
                if isinstance(values, DataError):
                    yield replace(one.look, status=FAILED, detail=str(values))
                else:
                    yield replace(one.look, values=values)
        if progress is not None:
            progress(len(chunk))


@dataclass(frozen=True, slots=True)
class _Loaded:
    look: Look
    prepared: Any


def _chunks(backbone: Backbone, images: Sequence[Path], batch_rows: int, threads: int) -> Iterator[list[_Loaded]]:
    """Batches of files in their order, decoded while the network works on those before."""

    def load(row: int) -> _Loaded:
        return _load(backbone, row, images[row])

    waiting: deque[list[Future[_Loaded]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(0, len(images), batch_rows):
            stop = min(start + batch_rows, len(images))
            waiting.append([pool.submit(load, row) for row in range(start, stop)])
            if len(waiting) > CHUNKS_AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def _load(backbone: Backbone, row: int, path: Path) -> _Loaded:
    try:
        raw = path.read_bytes()
    except OSError as error:
        status = "missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        return _Loaded(Look(row=row, status=status, detail=error.strerror or str(error), digest=""), None)
    look = Look(row=row, status=OK, detail="", digest=digest(raw))
    try:
        return _Loaded(look, backbone.prepare(read_image(raw), None))
    except UnreadableImage as error:
        return _Loaded(replace(look, status=error.reason, detail=error.detail), None)
    except (DataError, ValueError, OSError) as error:  # an image that the model's own processor refuses
        return _Loaded(replace(look, status=FAILED, detail=str(error)), None)
