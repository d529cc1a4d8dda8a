"""Image files as squares for a vision transformer: checked once, loaded ahead in threads, augmented by chance.

The chance of an image hangs on seed, pass and row alone, never on which thread was first or where a training was
stopped. Scaling and normalising happen on the device. Knows no network.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sentifuse import DataError
from sentifuse.crowd.finetune.recipe import ImageRow, LeftOut
from sentifuse.data.files import digest
from sentifuse.data.images import UnreadableImage, read_image
from sentifuse.extract.backbones.tensorflow_resize import resize_like_tensorflow

__all__ = ["Square", "Squares", "default_threads", "find_left_out", "stream"]

CHANGED = "changed"
BATCHES_AHEAD = 3
MAX_THREADS = 16
# Width over height of a crop, before the resize to a square that gives up the aspect anyway.
CROP_ASPECT = (0.9, 1.1)

CHECKS_AHEAD = 64  # for each thread

# Bytes, or float32 from 0 to 255 where TensorFlow's resize does not round.
Square = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

# Shapes: B images of a batch, P side of the square in pixels.


@dataclass(frozen=True, slots=True, kw_only=True)
class Squares:
    """How a file becomes a square: resized without its aspect, as the paper does.

    Attributes
    ----------
    side_px
        P.
    resample
        Pillow's number of the filter, as image processors of transformers write it; it is antialiased.
    resize
        Of the student that is begun with: "processor", or "tensorflow", the original's resize without antialias, after
        which `resample` has no meaning.
    crop_min
        Smallest share of the area that a crop keeps; used in augmentation alone.
    """

    side_px: int
    resample: int
    resize: str = "processor"
    crop_min: float = 1.0

    def load(self, path: Path) -> Square:
        """(P, P, 3), RGB.

        Raises
        ------
        UnreadableImage
            Missing, truncated, not an image.
        """
        return self._resize(read_image(path), None)

    def load_augmented(self, path: Path, rng: np.random.Generator) -> Square:
        """The same of a mild crop, mirrored every second time."""
        image = read_image(path)
        area = rng.uniform(self.crop_min, 1.0)
        aspect = np.exp(rng.uniform(*np.log(CROP_ASPECT)))
        width = image.width * min(1.0, float(np.sqrt(area * aspect)))
        height = image.height * min(1.0, float(np.sqrt(area / aspect)))
        left, top = rng.uniform(0.0, image.width - width), rng.uniform(0.0, image.height - height)
        right, bottom = min(left + width, image.width), min(top + height, image.height)  # sums are rounded
        pixels = self._resize(image, (left, top, right, bottom))
        return pixels[:, ::-1] if rng.random() < 0.5 else pixels

    def _resize(self, image: Image.Image, box: tuple[float, float, float, float] | None) -> Square:
        if self.resize == "tensorflow":
            part = image if box is None else image.crop(_whole_pixels(box))
            return resize_like_tensorflow(np.asarray(part.convert("RGB")), self.side_px, self.side_px)
        return np.asarray(image.resize((self.side_px, self.side_px), Image.Resampling(self.resample), box=box))


def _whole_pixels(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """The pixels that a box touches, at least one each way."""
    left, top, right, bottom = box
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def default_threads() -> int:
    """One for each processor that this process may use."""
    return min(MAX_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def find_left_out(images: Sequence[ImageRow], rows: IntArray, threads: int) -> tuple[LeftOut, ...]:
    """Those of the rows whose file is missing, cannot be decoded, or is not the one with that digest; in their order.

    Reads and decodes every file once: what a class weighs, and whether there is an image of it at all, must be known
    before the first step. Memory is that of a few images for each thread.
    """

    def problems() -> Iterator[LeftOut | None]:
        size = CHECKS_AHEAD * threads
        with ThreadPoolExecutor(threads) as pool:
            for first in range(0, len(rows), size):
                yield from pool.map(_problem, [images[row] for row in rows[first : first + size].tolist()])

    return tuple(problem for problem in problems() if problem is not None)


def _problem(row: ImageRow) -> LeftOut | None:
    try:
        raw = row.path.read_bytes()
    except OSError as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        return LeftOut(id=row.id, path=str(row.path), reason=reason, detail=error.strerror or "")
    try:
        read_image(raw)
    except UnreadableImage as error:
        return LeftOut(id=row.id, path=str(row.path), reason=error.reason, detail=error.detail)
    if row.digest and digest(raw) != row.digest:
        return LeftOut(id=row.id, path=str(row.path), reason=CHANGED, detail="other bytes than when it was read in")
    return None


def stream(
    images: Sequence[ImageRow],
    batches: Sequence[IntArray],
    squares: Squares,
    *,
    threads: int,
    chance: Callable[[int], np.random.Generator] | None = None,
) -> Generator[tuple[IntArray, Square], None, None]:
    """The batches in their order, each as (rows, squares (B, P, P, 3)); memory is that of a few batches.

    Parameters
    ----------
    chance
        Row → the generator of its augmentation; None: none.

    Raises
    ------
    DataError
        A file that could be read when the training began and now cannot.
    """

    def load(row: int) -> Square:
        path = images[row].path
        return squares.load(path) if chance is None else squares.load_augmented(path, chance(row))

    waiting: deque[tuple[IntArray, list[Future[Square]]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for rows in batches:
            waiting.append((rows, [pool.submit(load, row) for row in rows.tolist()]))
            if len(waiting) > BATCHES_AHEAD:
                yield _gather(*waiting.popleft())
        while waiting:
            yield _gather(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _gather(rows: IntArray, loading: list[Future[Square]]) -> tuple[IntArray, Square]:
    try:
        squares: Any = np.stack([future.result() for future in loading])
    except UnreadableImage as error:
        raise DataError(
            f"{error}. It could be read when the training began; mend the file, then go on with --resume"
        ) from error
    found: Square = squares
    return rows, found
