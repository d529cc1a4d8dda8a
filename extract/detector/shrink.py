"""A GPU that has no memory for a piece of work tries half of it. Knows nothing of what the work is."""

from collections.abc import Callable
from typing import TypeVar

import torch

__all__ = ["is_out_of_memory", "retry_smaller"]

Result = TypeVar("Result")
# Of cuBLAS, of cuDNN before and since its version 9, and of the driver, which pinned memory is asked from.
WORDS = ("STATUS_ALLOC_FAILED", "ALLOCATION_FAILED", "CUDA error: out of memory")


def retry_smaller(run: Callable[[int], Result], size: int, *, least: int = 1) -> tuple[Result, int]:
    """`run(size)`, or where a GPU's memory does not suffice with half the size, and half of that, down to `least`.

    Returns
    -------
    Result, int
        What it gave, and the size that went.

    Raises
    ------
    torch.cuda.OutOfMemoryError, RuntimeError
        That of the last try: not even the least size has room.
    """
    while True:
        try:
            return run(size), size
        except RuntimeError as error:
            if size <= least or not is_out_of_memory(error):
                raise
        # Not in the handler above: its traceback holds every tensor of the failed try.
        size = max(size // 2, least)
        torch.cuda.empty_cache()  # where no GPU was used it does nothing


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's memory was too small: torch's own error, or what cuBLAS and cuDNN say in its place."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)
    )
