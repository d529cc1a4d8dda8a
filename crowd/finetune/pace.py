"""How fast a fine-tuning goes and what it waits for: images per second, share of the time spent waiting for images, how
busy the GPU is. Watches; changes nothing.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import torch

from sentifuse.crowd.finetune.gpu_watch import GpuWatch

__all__ = ["Pace"]

T = TypeVar("T")
GIB = 2**30


class Pace:
    """A context around the steps; `measure` speaks of the time since it was last called, without pauses."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._watch = GpuWatch(device)
        self._started = self._since = time.perf_counter()
        self._waited = self._left_out = 0.0
        self._images = 0
        self.images = 0  # since the beginning

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._started

    def waiting_for(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each comes counts as waiting."""
        iterator = iter(batches)
        while True:
            started = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - started
            yield batch

    def add(self, image_count: int) -> None:
        """A step is done."""
        self._images += image_count
        self.images += image_count

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What happens inside is something else, a validation or a checkpoint."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._left_out += time.perf_counter() - started

    def measure(self) -> dict[str, Any]:
        """images_per_s, waiting_share 0..1, gpu_share 0..1 and gpu_memory_gib (its peak); None on a CPU."""
        now = time.perf_counter()
        seconds = max(now - self._since - self._left_out, 1e-9)
        memory = torch.cuda.max_memory_allocated(self._device) / GIB if self._device.type == "cuda" else None
        share = self._watch.share()
        found = {
            "images_per_s": round(self._images / seconds, 2),
            "waiting_share": round(self._waited / seconds, 4),
            "gpu_share": None if share is None else round(share, 4),
            "gpu_memory_gib": None if memory is None else round(memory, 3),
        }
        self._since, self._waited, self._left_out, self._images = now, 0.0, 0.0, 0
        return found

    def __enter__(self) -> "Pace":
        self._started = self._since = time.perf_counter()
        self._watch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)
