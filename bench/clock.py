"""Time, memory and machine: best of interleaved repeats, what /proc says of a process, what it all ran on."""

import multiprocessing
import os
import platform
import random
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import torch


def best_of(calls: Mapping[str, Callable[[], Iterable[Any]]], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of processor (children included) and of the clock that each call took, in its best repeat of each.

    Each repeat has an order of its own: what one call leaves in the processor's caches helps or hurts the next.
    """
    best: dict[str, dict[str, float]] = {name: {} for name in calls}
    for repeat in range(repeats):
        for name in random.Random(repeat).sample(list(calls), len(calls)):
            cpu, wall = _cpu(), time.perf_counter()
            for _ in calls[name]():
                pass
            taken = {"cpu_s": _cpu() - cpu, "wall_s": time.perf_counter() - wall}
            best[name] = {key: min(best[name].get(key, value), value) for key, value in taken.items()}
    return best


def _cpu() -> float:
    return time.process_time() + sum(_cpu_of(child.pid) for child in multiprocessing.active_children())


def _cpu_of(process: int | None) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(process: int | str = "self") -> dict[str, int]:
    """Bytes of RssAnon, RssFile, VmHWM (peak) and Pss."""
    found = {}
    for file, names in (("status", ("RssAnon", "RssFile", "VmHWM")), ("smaps_rollup", ("Pss",))):
        for line in Path(f"/proc/{process}/{file}").read_text(encoding="utf-8").splitlines():
            name, _, rest = line.partition(":")
            if name in names:
                found[name] = int(rest.split()[0]) * 1024
    return found


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.split("\t: ", 1) for line in info.splitlines() if "\t: " in line)
    flags = {key.strip(): value for key, value in lines.items()}.get("flags", "").split()
    wanted = ("f16c", "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile")
    return {
        "cpu": {key.strip(): value for key, value in lines.items()}.get("model name", platform.processor()),
        "flags": [flag for flag in wanted if flag in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
    }
