"""Checks golden files of the heads for `sentifuse doctor`: one verdict a file. What is in them: see kinds.py."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse.fuse.golden.file import Deviation
from sentifuse.fuse.golden.kinds import check_golden, read_known

__all__ = ["Verdict", "check_golden_files"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the check of one file found."""

    file: Path
    head_kind: str  # a key of kinds.KINDS
    deviations: tuple[Deviation, ...]
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether every quantity is within its limit."""
        return all(deviation.is_within for deviation in self.deviations)

    def lines(self) -> list[str]:
        """The same for a person: what was checked, then each quantity with its limit."""
        first = self._first_beyond()
        outcome = f"FAILS, first at {first}" if first else "ok"
        return [
            f"{self.file.name}: {outcome} ({self.head_kind}; float64; {self.seconds:.1f} s)",
            *(f"  {deviation}" for deviation in self.deviations),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "file": str(self.file),
            "kind": "heads",
            "head_kind": self.head_kind,
            "arithmetic": "float64",
            "device": "cpu",
            "ok": self.is_right,
            "first_beyond": self._first_beyond() or None,
            "deviations": [deviation.to_json() for deviation in self.deviations],
            "seconds": round(self.seconds, 3),
        }

    def _first_beyond(self) -> str:
        return next((f"{one.stage}: {one.quantity}" for one in self.deviations if not one.is_within), "")


def check_golden_files(
    files: Sequence[Path],
    *,
    images: Path | None = None,
    precision: str = "exact",
    is_float64: bool = False,
    device: str = "cpu",
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Verdict]:
    """Check files one after the other, always in float64 on the CPU; the other options are those of other kinds.

    Raises
    ------
    DataError
        Any of the files is not what it must be. Raised before anything is computed.
    """
    goldens = [read_known(file) for file in files]
    if precision != "exact" or device != "cpu":
        note("heads: golden numbers are compared in float64 on the CPU, whatever the precision and device asked for")
    for kind, golden in goldens:
        started = time.perf_counter()
        rows = check_golden(kind, golden)
        yield Verdict(file=golden.path, head_kind=kind, deviations=tuple(rows), seconds=time.perf_counter() - started)
