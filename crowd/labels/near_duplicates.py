"""Near-duplicate images: groups by perceptual hash or by cosine of embeddings, of each the first one stays.

Judges images alone, never texts. Reads no file.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError, DataError
from sentifuse.data.groups import HASH_BITS, MAX_BITS, join_with_few, name_components, near_hashes

__all__ = ["COSINE", "by_cosine", "by_hash", "hours_by_cosine", "is_first"]

# Shapes: N images, D numbers of an embedding, E edges between images.

# With MobileNetV2 on photos of tweets 0.90 finds 99 % of copies saved anew, 90 % of those cut by a tenth, 85 % of those
# halved; of 1.1 million pairs of MVSA-Single's pictures it joins 20,
# all within the hash's 4 bits, too. Others may differ.
COSINE = 0.90
BLOCK_NUMBERS = 1 << 25  # of a block's similarities: 128 MiB of float32
MULTIPLICATIONS_A_SECOND = 2.5e10  # of one busy core; two free ones did 6e10

Edges = npt.NDArray[np.int64]  # (E, 2) positions


def by_hash(hashes: Sequence[int | None], ids: Sequence[str], max_bits: float = MAX_BITS) -> tuple[str, ...]:
    """(N,) name of each image's group: perceptual hashes of 64 bits that differ in `max_bits` at most, over any steps.

    An image without a hash (None) is like no other.

    Raises
    ------
    ConfigError
        No whole number of bits, or more than tell anything.

    >>> by_hash([0, None, 0b11, 1 << 40 | 0xFF00], ["b", "c", "a", "d"], 2)
    ('a', 'c', 'a', 'd')
    """
    if not 0 <= max_bits < HASH_BITS // 2 or max_bits != int(max_bits):
        raise ConfigError(
            f"--threshold {max_bits}: expected whole bits from 0 to {HASH_BITS // 2 - 1} of a hash of {HASH_BITS}. "
            f"Type: --threshold {MAX_BITS}"
        )
    return tuple(name_components(ids, [near_hashes(hashes, int(max_bits))]))


def by_cosine(
    embeddings: npt.NDArray[np.float32],
    ids: Sequence[str],
    threshold: float = COSINE,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[str, ...]:
    """(N,) name of each image's group: cosines of at least `threshold`, over any number of steps.

    Exact: every image is compared with every other, N² · D / 2 multiplications, in blocks; see `hours_by_cosine`. A
    vector of zeros is like no other.

    Parameters
    ----------
    embeddings
        (N, D), finite; overwritten by the unit vectors, so that memory is that of one array and a block.
    progress
        Called with (comparisons done, comparisons in all).

    Raises
    ------
    ConfigError
        A threshold that is not above 0 and at most 1.
    DataError
        Embeddings of another shape, or not finite.

    >>> by_cosine(np.array([[1, 0], [0, 2], [3, 0]], np.float32), ["7-1", "7-2", "8-1"], 0.9)
    ('7-1', '7-2', '7-1')
    """
    if not 0.0 < threshold <= 1.0:
        raise ConfigError(f"--threshold {threshold}: expected a cosine above 0, at most 1. Type: --threshold {COSINE}")
    if embeddings.ndim != 2 or len(embeddings) != len(ids):
        raise DataError(f"embeddings: expected ({len(ids)}, D), found {embeddings.shape}")
    _divide_by_norms(embeddings)
    # The product of a unit vector with itself may round to a little below 1.
    limit = np.float32(threshold) - np.float32(1e-6)
    n = len(ids)
    block = max(1, BLOCK_NUMBERS // max(1, n))
    edges: Edges = np.empty((0, 2), dtype=np.int64)
    for start in range(0, n, block):
        rows, columns = np.nonzero(embeddings[start : start + block] @ embeddings[start:].T >= limit)
        is_forward = columns > rows
        found = np.stack([rows[is_forward], columns[is_forward]], axis=1) + start
        edges = join_with_few(np.concatenate([edges, found]), n)
        if progress is not None:
            after = max(0, n - start - block)  # images; the pairs among them are still to be compared
            progress(comparisons(n) - comparisons(after), comparisons(n))
    return tuple(name_components(ids, [edges]))


def comparisons(n: int) -> int:
    """How many pairs there are of `n` images.

    >>> comparisons(4)
    6
    """
    return n * (n - 1) // 2


def hours_by_cosine(n: int, width: int) -> float:
    """About how long `by_cosine` takes for `n` embeddings of this width.

    >>> round(hours_by_cosine(1_000_000, 1280), 1)
    7.1
    """
    return comparisons(n) * width / MULTIPLICATIONS_A_SECOND / 3600


def is_first(groups: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(N,) whether an image is the first of its group, in the order given.

    >>> is_first(["a", "b", "a"]).tolist()
    [True, True, False]
    """
    seen: set[str] = set()
    found = np.zeros(len(groups), dtype=np.bool_)
    for place, name in enumerate(groups):
        found[place] = name not in seen
        seen.add(name)
    return found


def _divide_by_norms(embeddings: npt.NDArray[np.float32]) -> None:
    """In place and block by block: what numpy holds on the way would be as large as the array."""
    block = max(1, BLOCK_NUMBERS // (8 * max(1, embeddings.shape[1])))
    for start in range(0, len(embeddings), block):
        rows = embeddings[start : start + block]
        if not np.isfinite(rows).all():
            raise DataError(f"embeddings: expected finite ({len(embeddings)}, D), found numbers not finite")
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.where(norms > 0, norms, 1)
