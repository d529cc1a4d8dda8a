"""Work that a GPU has no memory for is done in halves; tried here with the error alone, and no GPU."""

import weakref

import pytest
import torch

from sentifuse.extract.detector.shrink import is_out_of_memory, retry_smaller


def too_little_memory() -> torch.cuda.OutOfMemoryError:
    return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.22 GiB")


def test_sizes_are_halved_until_one_goes() -> None:
    tried: list[int] = []

    def run(size: int) -> str:
        tried.append(size)
        if size > 3:
            raise too_little_memory()
        return "done"

    assert retry_smaller(run, 20) == ("done", 2)
    assert tried == [20, 10, 5, 2]


def test_what_goes_is_tried_once() -> None:
    assert retry_smaller(lambda size: size, 7) == (7, 7)


def test_at_one_the_error_comes_out() -> None:
    tried: list[int] = []

    def run(size: int) -> None:
        tried.append(size)
        raise too_little_memory()

    with pytest.raises(torch.cuda.OutOfMemoryError):
        retry_smaller(run, 4)
    assert tried == [4, 2, 1]


def test_other_errors_come_out_at_once() -> None:
    tried: list[int] = []

    def run(size: int) -> None:
        tried.append(size)
        raise RuntimeError("sizes of tensors must match")

    with pytest.raises(RuntimeError, match="sizes"):
        retry_smaller(run, 4)
    assert tried == [4]


def test_the_memory_of_a_failed_try_is_free_in_the_next() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def run(size: int) -> int:
        if held:
            assert held[0]() is None
            return size
        block = torch.zeros(size)
        held.append(weakref.ref(block))
        raise too_little_memory()

    assert retry_smaller(run, 8) == (4, 4)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (too_little_memory(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (MemoryError("STATUS_ALLOC_FAILED"), False),
    ],
)
def test_which_errors_mean_a_gpus_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
