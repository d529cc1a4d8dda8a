"""The engine of one machine: in this process for one device, one spawned process per device for several.

Tasks are handed out two at a time; those of a process that died are given out again. What a task does, and where its
result goes, is the caller's.
"""

import multiprocessing
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any, Generic, TypeVar

from sentifuse import ConfigError, SentifuseError
from sentifuse.engines import process
from sentifuse.engines.stream import TasksLost, WorkerFactory, WorkerTraceback

__all__ = ["LocalEngine"]

Task = TypeVar("Task")
Result = TypeVar("Result")

IN_FLIGHT = 2  # one at work and one waiting: hides the way there and back, and a dead process costs two at most
MAX_TRIES = 3
STOP_S = 5.0  # after SIGTERM, before SIGKILL


class LocalEngine:
    """Runs tasks on the devices of this machine.

    Parameters
    ----------
    devices : sequence of str
        Names the worker factory understands ("cpu", "cuda:0", …); one may come more than once.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)

    def run(self, tasks: Sequence[Task], worker_factory: WorkerFactory[Task, Result]) -> Generator[Result, None, None]:
        """Yield one result per task, as they come.

        One device: tasks are pulled and results given in this process, in order. Several: in any order. Closing the
        iterator, or an exception (Ctrl-C too) in the loop over it, stops the processes at once.

        Raises
        ------
        TasksLost
            At the end, when all else is done: a task's process died three times, or processes do not start.
        Exception
            An error of a worker comes out here, with the traceback of the other process as its cause.
        """
        if not self.devices:
            raise ConfigError("no device to run on, expected at least one, such as cpu")
        if len(self.devices) == 1 or not tasks:
            yield from self._run_here(tasks, worker_factory)
            return
        pool = _Pool(self.devices[: len(tasks)], tasks, worker_factory)
        try:
            yield from pool.results()
        finally:
            pool.stop()

    def _run_here(self, tasks: Sequence[Task], worker_factory: WorkerFactory[Task, Result]) -> Iterator[Result]:
        if not tasks:
            return
        given = 0
        results = worker_factory(self.devices[0])(iter(tasks))
        try:
            for result in results:
                given += 1
                yield result
        finally:
            close = getattr(results, "close", None)  # a generator stops its threads when it is closed
            if close is not None:
                close()
        if given != len(tasks):
            raise SentifuseError(f"the worker gave {given} results for {len(tasks)} tasks")


@dataclass(slots=True, eq=False)
class _Worker(Generic[Task]):
    """A process and what it was given."""

    device: str
    process: Any  # multiprocessing's SpawnProcess
    connection: "connection.Connection[Any, Any]"
    is_ready: bool = False
    is_streaming: bool = False  # a stream was begun and has not been ended by us
    is_draining: bool = False  # we ended the stream and have not yet heard that the worker did
    in_flight: deque[int] = field(default_factory=deque)  # task numbers, oldest first


class _Pool(Generic[Task, Result]):
    """The driver's side: hands out, receives, replaces the dead."""

    def __init__(
        self, devices: Sequence[str], tasks: Sequence[Task], worker_factory: WorkerFactory[Task, Result]
    ) -> None:
        self.tasks = tasks
        self.worker_factory = worker_factory
        self.context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
        self.pending = deque(range(len(tasks)))
        self.tries = [0] * len(tasks)
        self.unfinished = set(range(len(tasks)))
        self.deaths: list[str] = []
        self.lost: list[int] = []
        self.false_starts = dict.fromkeys(devices, 0)
        self.workers: list[_Worker[Task]] = []
        try:
            for device in devices:
                self._start(device)
        except BaseException:
            self.stop()
            raise

    def results(self) -> Iterator[Result]:
        while self.unfinished - set(self.lost):
            if not self.workers:
                self.lost = sorted(self.unfinished)
                break
            for worker in self.workers:
                self._hand_out(worker)
            handles = [worker.connection for worker in self.workers]
            ready = set(connection.wait([*handles, *(worker.process.sentinel for worker in self.workers)]))
            for worker in list(self.workers):
                if worker.connection in ready:
                    yield from self._receive(worker)
                elif worker.process.sentinel in ready:
                    yield from self._bury(worker)
        if self.lost:
            raise TasksLost(
                f"{len(self.lost)} of {len(self.tasks)} tasks could not be done, the first of them "
                f"{_short(self.tasks[self.lost[0]])}: {'; '.join(self.deaths[-MAX_TRIES:])}. All others are done. "
                "A process killed by signal 9 mostly means that memory ran out: use fewer devices or smaller batches "
                "and run the same command again."
            )

    def stop(self) -> None:
        """End all processes; none is left when this returns."""
        workers, self.workers = self.workers, []
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(STOP_S)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
            worker.process.close()

    def _start(self, device: str) -> None:
        ours, theirs = self.context.Pipe()
        child = self.context.Process(
            target=process.serve, args=(theirs, device, self.worker_factory), name=f"sentifuse {device}", daemon=True
        )
        try:
            child.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()  # else the end of the process would not be the end of the pipe
        self.workers.append(_Worker(device=device, process=child, connection=ours))

    def _hand_out(self, worker: _Worker[Task]) -> None:
        if not worker.is_ready or worker.is_draining:
            return
        while self.pending and len(worker.in_flight) < IN_FLIGHT:
            # A task that was in the hands of a process that died goes alone, so that it is clear who is to blame.
            is_suspect = self.tries[self.pending[0]] > 0
            if worker.in_flight and (is_suspect or self.tries[worker.in_flight[0]] > 0):
                break
            number = self.pending.popleft()
            worker.in_flight.append(number)
            worker.is_streaming = True
            if not _sent(worker, (process.TASK, self.tasks[number])):
                return  # it died; the sentinel will tell
        if worker.is_streaming and len(worker.in_flight) < IN_FLIGHT:
            # Nothing more for now. A worker may hold back a result until it sees the next task or the end, so the end
            # must come at once; tasks that turn up later, from a process that died, come in a new stream.
            worker.is_streaming, worker.is_draining = False, True
            _sent(worker, (process.END,))

    def _receive(self, worker: _Worker[Task]) -> Iterator[Result]:
        try:
            kind, *content = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if kind == process.READY:
            worker.is_ready = True
            self.false_starts[worker.device] = 0
        elif kind == process.DRAINED:
            worker.is_draining = False
        elif kind == process.RESULT:
            number = worker.in_flight.popleft()
            self.unfinished.discard(number)
            yield content[0]
        else:
            _raise(worker.device, *content)

    def _bury(self, worker: _Worker[Task]) -> Iterator[Result]:
        """Take the last messages of a dead process, requeue what it left undone, start another in its place."""
        while worker in self.workers and _has_message(worker):
            before = len(worker.in_flight)
            try:
                kind, *content = worker.connection.recv()
            except (EOFError, OSError):
                break
            if kind == process.RESULT and before:
                self.unfinished.discard(worker.in_flight.popleft())
                yield content[0]
            elif kind == process.ERROR:
                _raise(worker.device, *content)
        worker.process.join()
        exit_code = worker.process.exitcode
        how = f"was killed by signal {-exit_code}" if exit_code and exit_code < 0 else f"ended with code {exit_code}"
        when = "at work" if worker.is_ready else "while it was loading"
        self.deaths.append(f"a process on {worker.device} {how} {when}")
        self.workers.remove(worker)
        worker.connection.close()
        worker.process.close()
        for number in reversed(worker.in_flight):
            self.tries[number] += 1
            if self.tries[number] < MAX_TRIES:
                self.pending.appendleft(number)
            else:
                self.lost.append(number)
        if not worker.is_ready:
            self.false_starts[worker.device] += 1
        if self.pending and self.false_starts[worker.device] < MAX_TRIES:
            self._start(worker.device)


def _sent(worker: _Worker[Any], message: tuple[Any, ...]) -> bool:
    try:
        worker.connection.send(message)
    except OSError:
        return False
    return True


def _has_message(worker: _Worker[Any]) -> bool:
    try:
        return worker.connection.poll()
    except OSError:
        return False


def _raise(device: str, error: BaseException | None, text: str, trace: str) -> None:
    if error is None:
        raise SentifuseError(f"in the process on {device}: {text}") from WorkerTraceback(trace)
    raise error from WorkerTraceback(trace)


def _short(task: object) -> str:
    text = repr(task)
    return text if len(text) <= 80 else text[:79] + "…"
