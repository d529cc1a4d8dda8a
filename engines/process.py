"""The worker's side of a process: receives tasks, gives results, dies with its driver. Imports nothing heavy.

A thread receives, so that the driver never waits for a busy worker to take a message, and so that the death of the
driver ends this process even in the middle of a task.
"""

import os
import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from sentifuse import SentifuseError
from sentifuse.engines.stream import StreamWorker, WorkerFactory

__all__ = ["serve"]

# Driver to worker: (TASK, task), (END,) ends a stream.   Worker to driver: (READY,) after loading, (RESULT, result),
# (DRAINED,) after a stream, (ERROR, exception or None, its text, its traceback).
TASK, END = "task", "end"
READY, RESULT, DRAINED, ERROR = "ready", "result", "drained", "error"

DRIVER_GONE_EXIT = 1


def serve(connection: Connection, device: str, worker_factory: WorkerFactory[Any, Any]) -> None:
    """Run streams of tasks until the driver goes away or an error is reported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what it means
    inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True, name="receiver").start()
    try:
        worker = worker_factory(device)
        _send(connection, (READY,))
        while True:
            _run_stream(connection, inbox, worker)
    except BaseException as error:  # noqa: BLE001  # the outermost frame: the driver decides what an error means
        trace = traceback.format_exc()
        text = f"{type(error).__name__}: {error}"
        _send(connection, (ERROR, _picklable(error), text, trace))


def _run_stream(
    connection: Connection, inbox: "queue.SimpleQueue[tuple[Any, ...]]", worker: StreamWorker[Any, Any]
) -> None:
    counts = {"taken": 0, "given": 0}
    ended = False

    def tasks() -> Iterator[Any]:
        nonlocal ended
        while not ended:
            kind, *content = inbox.get()
            if kind == END:
                ended = True
                return
            if kind == ERROR:
                raise content[0]
            counts["taken"] += 1
            yield content[0]

    for result in worker(tasks()):
        counts["given"] += 1
        if counts["given"] > counts["taken"]:
            raise SentifuseError(f"the worker gave {counts['given']} results for {counts['taken']} tasks")
        _send(connection, (RESULT, result))
    if not ended or counts["given"] != counts["taken"]:
        raise SentifuseError(
            f"the worker stopped after {counts['given']} results for {counts['taken']} tasks, "
            f"{'at the end of' if ended else 'before the end of'} its stream"
        )
    _send(connection, (DRAINED,))


def _receive(connection: Connection, inbox: "queue.SimpleQueue[tuple[Any, ...]]") -> None:
    while True:
        try:
            inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(DRIVER_GONE_EXIT)
        except Exception as error:  # noqa: BLE001  # unpickling a task runs its own code and may raise anything
            inbox.put((ERROR, error))


def _send(connection: Connection, message: tuple[Any, ...]) -> None:
    try:
        connection.send(message)
    except OSError:
        os._exit(DRIVER_GONE_EXIT)


def _picklable(error: BaseException) -> BaseException | None:
    """The error if it survives the way to the driver, else None. Exceptions with odd constructors do not."""
    try:
        copy = pickle.loads(pickle.dumps(error))  # our own exception, to see whether it survives our own pipe
    except Exception:  # noqa: BLE001  # pickling runs the exception's own code
        return None
    return error if type(copy) is type(error) else None
