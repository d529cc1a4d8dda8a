"""Laws of the local engine: every task gives one result, whatever happens to the processes, and none is left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from sentifuse import ConfigError, DataError, ResourceError, SentifuseError
from sentifuse.engines import ENGINES, load_engine
from sentifuse.engines.local import LocalEngine
from sentifuse.engines.stream import TasksLost

HELPERS = Path(__file__).parent / "helpers"
TWO = ("cpu:0", "cpu:1")


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(HELPERS))  # spawned processes inherit the path
    import stream_workers

    return stream_workers


@pytest.fixture(autouse=True)
def leaves_no_process() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def test_the_table_loads_every_engine() -> None:
    assert [load_engine(name) for name in ENGINES] == [LocalEngine]
    with pytest.raises(ConfigError, match="unknown engine 'lokal'; did you mean 'local'"):
        load_engine("lokal")


def test_no_device_is_refused_and_no_task_loads_nothing(workers: ModuleType) -> None:
    with pytest.raises(ConfigError, match="no device"):
        list(LocalEngine([]).run([1], workers.squares))
    assert list(LocalEngine(["cpu"]).run([], workers.fails_loading)) == []
    assert list(LocalEngine(TWO).run([], workers.fails_loading)) == []


def test_one_device_runs_here_in_order(workers: ModuleType) -> None:
    results = list(LocalEngine(["cpu"]).run([3, 1, 2], workers.squares))
    assert results == [(3, 9, os.getpid(), "cpu"), (1, 1, os.getpid(), "cpu"), (2, 4, os.getpid(), "cpu")]


def test_one_device_pulls_tasks_only_when_results_are_wanted() -> None:
    pulled: list[int] = []

    def factory(device: str) -> Callable[[Iterator[int]], Iterator[int]]:
        def run(tasks: Iterator[int]) -> Iterator[int]:
            for task in tasks:
                pulled.append(task)
                yield task

        return run

    results = LocalEngine(["cpu"]).run([1, 2, 3], factory)
    assert pulled == []
    assert next(results) == 1
    assert pulled == [1]


def test_closing_early_closes_the_worker_here() -> None:
    closed = []

    def factory(device: str) -> Callable[[Iterator[int]], Iterator[int]]:
        def run(tasks: Iterator[int]) -> Iterator[int]:
            try:
                yield from tasks
            finally:
                closed.append(device)

        return run

    results = LocalEngine(["cpu"]).run([1, 2, 3], factory)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert closed == ["cpu"]


def test_several_devices_run_in_processes_of_their_own(workers: ModuleType) -> None:
    results = list(LocalEngine(TWO).run(range(20), workers.squares))
    assert sorted((task, square) for task, square, _, _ in results) == [(task, task * task) for task in range(20)]
    processes = {(process, device) for _, _, process, device in results}
    assert os.getpid() not in {process for process, _ in processes}
    assert {device for _, device in processes} <= set(TWO)


@pytest.mark.parametrize("devices", [("cpu",), TWO])
def test_a_worker_may_look_one_task_ahead(workers: ModuleType, devices: tuple[str, ...]) -> None:
    assert sorted(LocalEngine(devices).run(range(7), workers.one_ahead)) == list(range(7))


def test_more_devices_than_tasks_start_no_idle_process(workers: ModuleType) -> None:
    assert [result[:2] for result in LocalEngine(["a", "b", "c"]).run([5], workers.squares)] == [(5, 25)]


@pytest.mark.parametrize("at", [0, 3, 6])
def test_tasks_of_a_killed_process_are_done_by_others(workers: ModuleType, tmp_path: Path, at: int) -> None:
    factory = partial(workers.dies_once, marker=tmp_path / "died", at=at)
    assert sorted(LocalEngine(TWO).run(range(7), factory)) == list(range(7))
    assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_a_task_that_kills_its_process_three_times_is_named_and_all_others_are_done(workers: ModuleType) -> None:
    results: list[int] = []  # what came before the error counts
    with pytest.raises(TasksLost, match=r"1 of 9 tasks could not be done, the first of them 4: .*killed by signal 9"):
        results.extend(LocalEngine(TWO).run(range(9), partial(workers.dies_at, at=4)))
    assert sorted(results) == [0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.slow
def test_processes_that_die_while_loading_are_given_up(workers: ModuleType) -> None:
    with pytest.raises(TasksLost, match=r"4 of 4 tasks .* while it was loading"):
        list(LocalEngine(TWO).run(range(4), workers.dies_loading))


def test_an_error_while_loading_comes_out_as_itself(workers: ModuleType) -> None:
    with pytest.raises(ResourceError, match="no weights for cpu:"):
        list(LocalEngine(TWO).run(range(4), workers.fails_loading))


def test_an_error_in_a_worker_comes_out_as_itself_with_its_traceback(workers: ModuleType) -> None:
    factory = partial(workers.fails, error=DataError("row 7 is bad"))
    with pytest.raises(DataError, match="row 7 is bad") as caught:
        list(LocalEngine(TWO).run(range(4), factory))
    assert "stream_workers.py" in str(caught.value.__cause__)


def test_an_error_that_cannot_travel_comes_out_as_text(workers: ModuleType) -> None:
    with pytest.raises(SentifuseError, match=r"in the process on cpu:.: Unpicklable: this and that") as caught:
        list(LocalEngine(TWO).run(range(4), workers.fails_unpicklable))
    assert "Traceback" in str(caught.value.__cause__)


@pytest.mark.parametrize("devices", [("cpu",), TWO])
@pytest.mark.parametrize("name", ["stops_early", "swallows"])
def test_a_worker_that_loses_tasks_is_an_error(workers: ModuleType, devices: tuple[str, ...], name: str) -> None:
    with pytest.raises(SentifuseError, match=r"results? for \d+ tasks"):
        list(LocalEngine(devices).run(range(6), getattr(workers, name)))


def test_large_tasks_do_not_block(workers: ModuleType) -> None:
    tasks = [bytes(1 << 20)] * 6  # far more than a pipe holds
    assert list(LocalEngine(TWO).run(tasks, workers.sizes)) == [1 << 20] * 6


def test_closing_early_stops_busy_processes(workers: ModuleType, tmp_path: Path) -> None:
    marker = tmp_path / "died"
    results = LocalEngine(TWO).run(range(50), partial(workers.dies_once, marker=marker, at=-1))
    next(results)
    started = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 2
    assert multiprocessing.active_children() == []


DRIVER = """
import sys
from functools import partial
from pathlib import Path
from sentifuse.engines.local import LocalEngine
import stream_workers

if __name__ == "__main__":
    try:
        list(LocalEngine(["cpu:0", "cpu:1"]).run(range(8), partial(stream_workers.sleeps, pids=Path(sys.argv[1]))))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_process_outlives_its_driver(tmp_path: Path, sign: signal.Signals, code: int) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER, encoding="utf-8")
    pids = tmp_path / "pids"
    pids.mkdir()
    driver = subprocess.Popen(
        [sys.executable, str(script), str(pids)],
        env={**os.environ, "PYTHONPATH": str(HELPERS)},
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    try:
        assert _within(30, lambda: len(list(pids.iterdir())) == 2)
        if sign == signal.SIGINT:
            os.killpg(driver.pid, sign)  # as a terminal does: the whole group gets it
        else:
            driver.send_signal(sign)
        _, complaints = driver.communicate(timeout=20)
        assert driver.returncode == code
        assert b"Traceback" not in complaints
        assert _within(10, lambda: not any(_is_alive(int(path.name)) for path in pids.iterdir()))
    finally:
        driver.kill()
        driver.wait()


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
