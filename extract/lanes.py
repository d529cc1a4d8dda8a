"""A few forward passes at once. On a CPU one batch per core beats one batch on all cores; a GPU has one lane.

Measured with MobileNetV2 on two cores: 103 images/s in two lanes of one thread, 78 in one lane of two threads. A pass
in one thread also gives the same bytes however many lanes there are. Knows nothing of encoders.
"""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

__all__ = ["Lanes", "core_count"]


class Lanes:
    """Runs functions in a bounded number of threads; a context manager.

    `run` blocks while all lanes are busy and as many calls wait again, so that memory stays flat; errors of a call come
    out of a later `run`, `wait` or `drain`.
    """

    def __init__(self, device: str, count: int | None = None) -> None:
        is_cpu = device == "cpu"
        self.count = count or (core_count() if is_cpu else 1)
        self._pool = ThreadPoolExecutor(self.count, initializer=_use_one_thread if is_cpu else None)
        self._flying: deque[Future[None]] = deque()

    def __enter__(self) -> "Lanes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, function: Callable[[], None]) -> None:
        """Start a call, after waiting for the oldest one if too many are under way."""
        if len(self._flying) >= 2 * self.count:
            self._flying.popleft().result()
        self._flying.append(self._pool.submit(function))

    def wait(self) -> bool:
        """Wait for the oldest call under way; False if there is none."""
        if not self._flying:
            return False
        self._flying.popleft().result()
        return True

    def drain(self) -> None:
        """Wait until every call is done."""
        while self.wait():
            pass


def core_count() -> int:
    """Processor cores this process may use: a job on a cluster is often given a few of many."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def _use_one_thread() -> None:
    import torch  # here, because planning a run that has nothing to do imports this file too

    torch.set_num_threads(1)
