"""Lanes run every call, a few at a time, and lose no error."""

import os
import threading

import pytest

from sentifuse.extract.lanes import Lanes, core_count


def test_every_call_runs_and_no_more_at_once_than_there_are_lanes() -> None:
    done: list[int] = []
    busy = most = 0
    lock = threading.Lock()

    def call(number: int) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        sum(range(20_000))
        with lock:
            busy -= 1
            done.append(number)

    with Lanes("cpu", 3) as lanes:
        for number in range(50):
            lanes.run(lambda number=number: call(number))  # type: ignore[misc]  # a lambda with a default
        lanes.drain()
        assert sorted(done) == list(range(50))
    assert most <= 3


def test_calls_wait_when_too_many_are_under_way() -> None:
    gate, started = threading.Event(), threading.Event()
    with Lanes("cpu", 1) as lanes:
        lanes.run(gate.wait)  # type: ignore[arg-type]  # what a call returns is dropped
        lanes.run(started.set)
        blocked = threading.Thread(target=lambda: lanes.run(lambda: None))
        blocked.start()
        blocked.join(0.05)
        assert blocked.is_alive()
        gate.set()
        blocked.join(10)
        assert not blocked.is_alive()
        lanes.drain()


def test_waiting_is_for_one_call_after_the_other() -> None:
    done: list[int] = []
    with Lanes("cpu", 1) as lanes:
        for number in range(2):
            lanes.run(lambda number=number: done.append(number))  # type: ignore[misc]  # a lambda with a default
        assert lanes.wait()
        assert done[0] == 0
        assert lanes.wait()
        assert done == [0, 1]
        assert not lanes.wait()


def test_an_error_of_a_call_comes_out() -> None:
    def fail() -> None:
        raise ZeroDivisionError("in a lane")

    with Lanes("cpu", 2) as lanes:
        lanes.run(fail)
        with pytest.raises(ZeroDivisionError, match="in a lane"):
            lanes.drain()


def test_a_gpu_has_one_lane_and_a_cpu_one_per_core_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7}, raising=False)
    assert core_count() == 3
    with Lanes("cpu") as on_cpu, Lanes("cuda:0") as on_gpu:
        assert (on_cpu.count, on_gpu.count) == (3, 1)
