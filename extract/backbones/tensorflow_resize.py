"""Resizing as TensorFlow's `tf.image.resize` does it by default: bilinear, half-pixel centres, without antialias.

Pillow and torch's antialiased resize average over all pixels that fall into a new one; this takes the four nearest to
its centre and no other, so fine detail of a large image turns into noise. The crowd's original models saw that.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["resize_like_tensorflow"]

# Shapes: H and W sides of the image, h and w of the result.


def resize_like_tensorflow(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.float32]:
    """uint8 (H, W, C) → float32 (h, w, C) in 0..255, not rounded. Needs memory for the result alone."""
    top, bottom, down = _taps(image.shape[0], height)
    left, right, along = _taps(image.shape[1], width)
    down, along = down[:, None, None], along[None, :, None]
    rows = []
    for row in (top, bottom):
        taken = image[row]
        first, second = taken[:, left].astype(np.float32), taken[:, right].astype(np.float32)
        rows.append(first + (second - first) * along)
    result: npt.NDArray[np.float32] = rows[0] + (rows[1] - rows[0]) * down
    return result


def _taps(length: int, wanted: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each new position the two old ones beside its centre, and the share of the second one."""
    centre = (np.arange(wanted, dtype=np.float64) + 0.5) * (length / wanted) - 0.5
    below = np.floor(centre)
    first = np.clip(below, 0, length - 1).astype(np.int64)
    second = np.clip(below + 1, 0, length - 1).astype(np.int64)
    return first, second, (centre - below).astype(np.float32)
