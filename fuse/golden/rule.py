"""The rule that gives every input and parameter of the heads' golden files: a stream of numbers for each seed and name.

SHA-256 of "<seed>:<name>", read as one big-endian integer, seeds NumPy's PCG64; its uniform numbers in [0, 1) become
reals within a bound, integers or masks. Knows no head and reads no file.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

INPUT_BOUND = 1.5  # of ITIN's and RNN-CA's inputs
VECTOR_BOUND = 0.1  # of biases
MATRIX_GAIN = 3.0  # a matrix has the bound sqrt(gain / last dimension)


def uniform(seed: int, name: str, shape: Sequence[int]) -> Array:
    """Float64 numbers in [0, 1), row by row.

    >>> uniform(1, "itin.regions", (2,)).tolist()
    [0.6190054380771558, 0.32674207386375187]
    """
    number = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode("ascii")).digest(), "big")
    return np.random.Generator(np.random.PCG64(number)).random(tuple(shape))


def reals(seed: int, name: str, shape: Sequence[int], bound: float) -> Array:
    """Float64 numbers in [−bound, bound)."""
    return bound * (2.0 * uniform(seed, name, shape) - 1.0)


def integers(seed: int, name: str, shape: Sequence[int], below: int) -> npt.NDArray[np.int64]:
    """Int64 numbers from 0 to below − 1."""
    numbers: npt.NDArray[np.int64] = np.floor(uniform(seed, name, shape) * below).astype(np.int64)
    return numbers


def mask(seed: int, name: str, shape: Sequence[int], keep: float) -> npt.NDArray[np.uint8]:
    """1 with probability `keep`, else 0."""
    return (uniform(seed, name, shape) < keep).astype(np.uint8)


def parameter(seed: int, name: str, shape: Sequence[int], *, gain: float = MATRIX_GAIN) -> Array:
    """A head's parameter: vectors within 0.1, matrices within sqrt(gain / last dimension)."""
    return reals(seed, name, shape, VECTOR_BOUND if len(shape) == 1 else float(np.sqrt(gain / shape[-1])))
