"""Near-duplicate images: groups by perceptual hash or by cosine of embeddings, of each the first one stays.

Judges images alone, never texts. Reads no file.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sentifuse import ConfigError, DataError
from sentifuse.data.groups import HASH_BITS, MAX_BITS, name_components, near_hashes

__all__ = ["COSINE", "by_cosine", "by_hash", "is_first"]

# Shapes: N images, D numbers of an embedding, E edges between images.

# With MobileNetV2 on photos of tweets 0.90 finds 99 % of copies saved anew, 90 % of those cut by a tenth, 85 % of those
# halved; of 1.1 million pairs of MVSA-Single's pictures it joins 20,
# all within the hash's 4 bits, too. Others may differ.
COSINE = 0.90
BLOCK_NUMBERS = 1 << 25  # of a block's similarities: 128 MiB of float32

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


def by_cosine(embeddings: npt.NDArray[np.float32], ids: Sequence[str], threshold: float = COSINE) -> tuple[str, ...]:
    """(N,) name of each image's group: cosines of at least `threshold`, over any number of steps.

    Exact: every image is compared with every other, N² · D / 2 multiplications, in blocks; memory is that of the
    embeddings once more. A vector of zeros is like no other.

    Parameters
    ----------
    embeddings
        (N, D), finite.

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
    if embeddings.ndim != 2 or len(embeddings) != len(ids) or not np.isfinite(embeddings).all():
        raise DataError(f"embeddings: expected finite ({len(ids)}, D), found {embeddings.shape} or numbers not finite")
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = (embeddings / np.where(norms > 0, norms, 1.0)).astype(np.float32)
    # The product of a unit vector with itself may round to a little below 1.
    limit = np.float32(threshold) - np.float32(1e-6)
    n = len(ids)
    block = max(1, BLOCK_NUMBERS // max(1, n))
    edges: Edges = np.empty((0, 2), dtype=np.int64)
    for start in range(0, n, block):
        rows, columns = np.nonzero(unit[start : start + block] @ unit[start:].T >= limit)
        is_forward = columns > rows
        found = np.stack([rows[is_forward], columns[is_forward]], axis=1) + start
        edges = _stars(np.concatenate([edges, found]), n)
    return tuple(name_components(ids, [edges]))


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


def _stars(edges: Edges, n: int) -> Edges:
    """The same components with less than `n` edges: many equal images would have the square of their number."""
    if len(edges) < n:
        return edges
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    numbers = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    stars = np.stack([first[inverse], np.arange(n)], axis=1)
    kept: Edges = stars[stars[:, 0] != stars[:, 1]]
    return kept
