"""Worker factories that another process can import; the tests put this folder on the path."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sentifuse import ResourceError


class Unpicklable(Exception):
    """Takes two arguments and remembers one, so it cannot be made again on the other side."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right}")


def squares(device: str) -> Callable[[Iterator[int]], Iterator[tuple[int, int, int, str]]]:
    def run(tasks: Iterator[int]) -> Iterator[tuple[int, int, int, str]]:
        for task in tasks:
            yield task, task * task, os.getpid(), device

    return run


def one_ahead(device: str) -> Callable[[Iterator[int]], Iterator[int]]:
    """Gives a result only when it has seen the next task or the end, as a worker with a loader thread does."""

    def run(tasks: Iterator[int]) -> Iterator[int]:
        held = None
        for task in tasks:
            if held is not None:
                yield held
            held = task
        if held is not None:
            yield held

    return run


def dies_once(device: str, *, marker: Path, at: int) -> Callable[[Iterator[int]], Iterator[int]]:
    def run(tasks: Iterator[int]) -> Iterator[int]:
        for task in one_ahead(device)(tasks):
            if task == at and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield task

    return run


def dies_at(device: str, *, at: int) -> Callable[[Iterator[int]], Iterator[int]]:
    def run(tasks: Iterator[int]) -> Iterator[int]:
        for task in tasks:
            if task == at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield task

    return run


def dies_loading(device: str) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def fails_loading(device: str) -> Any:
    raise ResourceError(f"no weights for {device}")


def fails(device: str, *, error: Exception) -> Any:
    def run(tasks: Iterator[int]) -> Iterator[int]:
        for task in tasks:
            if task == 2:
                raise error
            yield task

    return run


def fails_unpicklable(device: str) -> Any:
    def run(tasks: Iterator[int]) -> Iterator[int]:
        for _ in tasks:
            raise Unpicklable("this", "that")
        yield 0

    return run


def stops_early(device: str) -> Any:
    def run(tasks: Iterator[int]) -> Iterator[int]:
        yield next(tasks)

    return run


def swallows(device: str) -> Any:
    def run(tasks: Iterator[int]) -> Iterator[int]:
        yield from (task for task in tasks if task % 2)

    return run


def sizes(device: str) -> Any:
    def run(tasks: Iterator[bytes]) -> Iterator[int]:
        for task in tasks:
            yield len(task)

    return run


def sleeps(device: str, *, pids: Path) -> Any:
    """Says its process number, then works on its first task for a minute."""

    def run(tasks: Iterator[int]) -> Iterator[int]:
        (pids / str(os.getpid())).touch()
        for task in tasks:
            time.sleep(60)
            yield task

    return run
