"""How busy a GPU is, asked of its driver once a second beside the work. On a CPU there is nothing to ask.

Knows the driver's own tool and torch's name of the device. Changes nothing on the device.
"""

import subprocess
import threading
from types import TracebackType

import torch

__all__ = ["GpuWatch", "parse_share"]

INTERVAL_S = 1.0
TIMEOUT_S = 5.0


class GpuWatch:
    """A context in which `share` gives the mean share of time with a kernel running, since it was last asked for."""

    def __init__(self, device: torch.device) -> None:
        self._command = _command(device) if device.type == "cuda" else []
        self._shares: list[float] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "GpuWatch":
        if self._command:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._command:
            self._thread.join()

    def share(self) -> float | None:
        """0..1, or None: no GPU, nothing heard from it yet, or a driver without the tool."""
        with self._lock:
            shares, self._shares = self._shares, []
        return sum(shares) / len(shares) if shares else None

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            try:
                found = subprocess.run(self._command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
            except (OSError, subprocess.SubprocessError):
                return
            share = parse_share(found.stdout)
            if share is None:
                return
            with self._lock:
                self._shares.append(share)


def parse_share(text: str) -> float | None:
    """The driver's answer, in per cent, as a share.

    >>> parse_share("87\\n"), parse_share("[N/A]\\n")
    (0.87, None)
    """
    try:
        return float(text.strip()) / 100.0
    except ValueError:
        return None


def _command(device: torch.device) -> list[str]:
    # By its UUID: the driver counts all devices of the machine, torch only those it was given.
    uuid = torch.cuda.get_device_properties(device).uuid
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    return ["nvidia-smi", f"--id=GPU-{uuid}", *query]
