"""Checks golden files of the detector: makes the weights of their seeds, runs the network on their images, compares.

No weight file is needed: the numbers are of synthetic weights, which `rule.py` makes from the seed in the file.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sentifuse import ConfigError
from sentifuse.extract.detector.architecture import VISUAL_GENOME, Architecture
from sentifuse.extract.detector.arithmetic import build_stages
from sentifuse.extract.detector.golden.comparison import compare
from sentifuse.extract.detector.golden.file import GoldenFile, read_golden
from sentifuse.extract.detector.golden.limits import Deviation, Limits, first_beyond
from sentifuse.extract.detector.golden.rule import is_smooth, synthetic_weights
from sentifuse.extract.detector.precision import arithmetic_of, choose_arithmetic
from sentifuse.extract.detector.stages import Stages

__all__ = ["Verdict", "check_golden_files"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the check of one file found."""

    file: Path
    seed: int
    image: Path
    arithmetic: str
    device: str
    deviations: tuple[Deviation, ...]
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether every quantity is within its limit."""
        return first_beyond(self.deviations) is None

    @property
    def profile(self) -> str:
        """ "sharp" or "smooth"."""
        return "smooth" if is_smooth(self.seed) else "sharp"

    def lines(self) -> list[str]:
        """The same for a person: what was checked, then each quantity with its limit."""
        first = first_beyond(self.deviations)
        outcome = f"FAILS, first at {first.stage}" if first else "ok"
        return [
            f"{self.file.name}: {outcome} (seed {self.seed}, {self.profile}; {self.image.name}; {self.arithmetic} on "
            f"{self.device}; {self.seconds:.1f} s)",
            *(f"  {deviation}" for deviation in self.deviations),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        first = first_beyond(self.deviations)
        return {
            "file": str(self.file),
            "kind": "detector",
            "seed": self.seed,
            "profile": self.profile,
            "image": str(self.image),
            "arithmetic": self.arithmetic,
            "device": self.device,
            "ok": self.is_right,
            "first_beyond": first.stage if first else None,
            "deviations": [deviation.to_json() for deviation in self.deviations],
            "seconds": round(self.seconds, 3),
        }


def check_golden_files(
    files: Sequence[Path],
    *,
    images: Path | None = None,
    precision: str = "exact",
    is_float64: bool = False,
    device: str = "cpu",
    note: Callable[[str], None] = lambda text: None,
    sizes: Architecture = VISUAL_GENOME,
) -> Iterator[Verdict]:
    """Check files one after the other; those of one seed share their weights, so they come together.

    Parameters
    ----------
    images
        Folder of the images; None: beside each file.
    precision
        "exact", or "fast" and "fastest", which are held against the limits of half precision and need smooth files.
    is_float64
        The plain network in float64, against limits of 1e-8, in place of the precision. Only what comes before the
        crops is compared: not all later numbers of a file are of that precision.
    note
        Told what is going on: making weights and running the network take seconds each.

    Raises
    ------
    DataError, ConfigError
        Any of the files or images is not what it must be. Raised before anything is computed.
    """
    chosen = choose_arithmetic(precision, device=device)
    if is_float64 and precision != "exact":
        raise ConfigError(f"--float64 with --precision {precision}: one of them decides the arithmetic; leave one out")
    arithmetic = "float64" if is_float64 else arithmetic_of(chosen.dtype)
    asked = [_Asked.read(file, images, sizes, is_reduced=precision != "exact", is_float64=is_float64) for file in files]
    if chosen.note:
        note(chosen.note)
    for seed in dict.fromkeys(one.golden.seed for one in asked):
        note(f"making the weights of seed {seed}")
        stages = _stages(seed, sizes, device, arithmetic)
        for one in asked:
            if one.golden.seed == seed:
                note(f"{one.golden.name}: running the network ({arithmetic} on {device})")
                yield one.check(stages, arithmetic, device)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A golden file that was read, and what it is to be held against."""

    file: Path
    golden: GoldenFile
    limits: Limits
    with_regions: bool

    @classmethod
    def read(
        cls, file: Path, images: Path | None, sizes: Architecture, *, is_reduced: bool, is_float64: bool
    ) -> "_Asked":
        golden = read_golden(file, images=images, sizes=sizes)
        golden.open_image()  # refuses one of another size
        limits = golden.limits(is_reduced=is_reduced, is_float64=is_float64)
        return cls(file=file, golden=golden, limits=limits, with_regions=not is_float64)

    def check(self, stages: Stages, arithmetic: str, device: str) -> Verdict:
        started = time.perf_counter()
        found = compare(stages, self.golden, self.limits, with_regions=self.with_regions)
        return Verdict(
            file=self.file,
            seed=self.golden.seed,
            image=self.golden.image,
            arithmetic=arithmetic,
            device=device,
            deviations=tuple(found),
            seconds=time.perf_counter() - started,
        )


def _stages(seed: int, sizes: Architecture, device: str, arithmetic: str) -> Stages:
    """In a function of its own: the weights are let go of as soon as the network has them."""
    state = {key: torch.from_numpy(value) for key, value in synthetic_weights(seed, sizes).items()}
    return build_stages(state, sizes, device=torch.device(device), arithmetic=arithmetic)
