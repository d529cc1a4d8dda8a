"""Laws of the pace: waiting is counted, pauses are not, and a CPU says nothing of a GPU."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sentifuse.crowd.finetune import pace as finetune_pace
from sentifuse.crowd.finetune.pace import Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(finetune_pace.time, "perf_counter", lambda: now[0])
    return now


def test_images_and_waiting_are_counted_without_pauses(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a CPU has no driver to ask")

    monkeypatch.setattr(subprocess, "run", no_driver)

    def slow() -> Iterator[int]:
        for i in range(2):
            clock[0] += 1.0
            yield i

    with Pace(torch.device("cpu")) as pace:
        for _ in pace.waiting_for(slow()):
            clock[0] += 3.0
            pace.add(20)
        with pace.pause():
            clock[0] += 100.0
        found = pace.measure()
        assert found == {"images_per_s": 5.0, "waiting_share": 0.25, "gpu_share": None, "gpu_memory_gib": None}
        clock[0] += 2.0
        pace.add(6)
        assert pace.measure()["images_per_s"] == 3.0
        assert (pace.images, pace.seconds) == (46, 110.0)
