"""How much memory there is to be had now. Knows nothing of features."""

import os
from pathlib import Path

__all__ = ["free_memory_bytes"]

_GROUP = Path("/sys/fs/cgroup")  # where a container sees its own limit (version 2)


def free_memory_bytes() -> int | None:
    """Memory that can be had without swapping, the page cache's share included; None where the system does not say."""
    found = [size for size in (_available(), _left_in_group()) if size is not None]
    return min(found, default=None)


def _available() -> int | None:
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _left_in_group() -> int | None:
    try:
        limit, used = (int((_GROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (_GROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        return limit - used + int(statistics["inactive_file"]) + int(statistics["active_file"])
    except (OSError, ValueError, KeyError):  # no group, or "max": no limit
        return None
