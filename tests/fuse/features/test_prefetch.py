"""The background thread keeps order, hands on errors, and ends with its iterator."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import torch

from sentifuse.fuse.features.prefetch import prefetch


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")}


def test_results_come_in_order_from_one_other_thread() -> None:
    names = list(prefetch([lambda: threading.current_thread().name] * 5))
    assert len(names) == 5
    assert len(set(names)) == 1
    assert names[0].startswith("prefetch")
    assert list(prefetch([lambda place=place: place for place in range(9)])) == list(range(9))
    assert list(prefetch([])) == []
    assert not threads()


def test_two_sets_of_memory_are_enough() -> None:
    begun: list[int] = []

    def calls() -> Iterator[Callable[[], int]]:
        for place in range(6):
            begun.append(place)
            yield lambda place=place: place

    for place in prefetch(calls()):
        assert max(begun) <= place + 1
    assert begun == list(range(6))


def test_an_error_comes_where_its_result_would() -> None:
    def fail() -> int:
        raise ValueError("damaged")

    found = []
    with pytest.raises(ValueError, match="damaged"):  # noqa: PT012
        for value in prefetch([lambda: 1, lambda: 2, fail, lambda: 4]):
            found.append(value)
    assert found == [1, 2]
    assert not threads()


def test_the_thread_ends_with_an_iterator_left_early() -> None:
    with closing(prefetch([lambda: 1] * 9)) as stream:
        assert next(stream) == 1
        assert threads()
    assert not threads()


def test_the_consumer_keeps_its_number_of_threads() -> None:
    count = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert list(prefetch([torch.get_num_threads] * 3)) == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(count)
