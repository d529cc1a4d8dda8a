"""The next thing is made in a background thread while this one is used. Knows nothing of what is made."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Made = TypeVar("Made")


def prefetch(calls: Iterable[Callable[[], Made]]) -> Generator[Made, None, None]:
    """What each call returns, in order, one ahead of the consumer.

    One thread calls them, never two at once. The next is taken from `calls`, in the consumer's thread, and begun when
    this one is handed out; the one after it not before the next is asked for. So two sets of memory in turn are enough.
    An exception of a call comes out where its result would have; the thread ends with the iterator, also when that is
    closed early (`contextlib.closing`).
    """
    with _lone_thread() as thread:
        coming = None
        for call in calls:
            following = thread.submit(call)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()


@contextmanager
def _lone_thread() -> Iterator[ThreadPoolExecutor]:
    """A thread in which torch computes on one core.

    By default it would bring up helpers of its own. With more of them than cores OpenMP no longer lets a thread wait
    awake for the next piece of work, and everything the consumer computes takes twice as long.
    """
    count = torch.get_num_threads()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        thread.submit(_compute_alone).result()
        # The number holds for the thread that sets it, and for threads begun later: those get ours back.
        torch.set_num_threads(count)
        yield thread


def _compute_alone() -> None:
    torch.get_num_threads()  # a thread takes the common number when it first asks: now, not after the next line
    torch.set_num_threads(1)
