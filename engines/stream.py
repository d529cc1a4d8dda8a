"""What an engine and the work it runs promise each other. No code runs here.

A *worker factory* is called once per process with a device and returns a *stream worker*, which holds what is costly
to load. A stream worker turns an iterator of tasks into an iterator of results:

- one result for each task, in the order of the tasks;
- it may take one task ahead of the result it gives, not more: later tasks come when earlier results have gone;
- it may be called again, with another stream, after a stream has ended;
- tasks are idempotent: one may be done twice when a process dies.

Factories, tasks and results travel between processes, so they must pickle: a factory is a function of a module or a
`functools.partial` of one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from sentifuse import ResourceError

__all__ = ["Engine", "StreamWorker", "Task", "TasksLost", "WorkerFactory", "WorkerTraceback"]

Task = TypeVar("Task")
Result = TypeVar("Result")

StreamWorker = Callable[[Iterator[Task]], Iterator[Result]]
WorkerFactory = Callable[[str], StreamWorker[Task, Result]]


class Engine(Protocol):
    """Runs tasks and yields results as they come, in any order; the caller is the one who commits them."""

    def run(self, tasks: Sequence[Task], worker_factory: WorkerFactory[Task, Result]) -> Iterator[Result]:
        """Results of all tasks. Closing the iterator stops the work."""
        ...


class TasksLost(ResourceError):
    """The processes of some tasks died again and again; all other tasks were done before this was raised."""


class WorkerTraceback(Exception):
    """The traceback of an error in another process, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'
