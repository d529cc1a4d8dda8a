"""A golden file of a head: named arrays made elsewhere in float64, and how far ours are from them.

Reads the file and compares; recomputes nothing itself.
"""

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sentifuse import DataError

Array = npt.NDArray[Any]

ABSOLUTE, RELATIVE = 1e-10, 1e-9  # |difference| <= ABSOLUTE + RELATIVE · |golden value|
SEEDS_TRIED = 10_000
NO_SEED = f"no seed below {SEEDS_TRIED:,}, nor one in the file's name (…_s<seed>.npz),"
HINT = "Name a golden file of the heads, unchanged: sentifuse doctor --golden FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How far one quantity is from the golden one, where it is farthest."""

    stage: str
    quantity: str
    value: float
    limit: float
    is_floor: bool = False  # True: `value` must not fall short of the limit

    @property
    def is_within(self) -> bool:
        """Whether the limit is kept; a value that is not a number keeps none."""
        return self.value >= self.limit if self.is_floor else self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """Plain values; null stands for what is no number."""
        return {
            "stage": self.stage,
            "quantity": self.quantity,
            "value": self.value if math.isfinite(self.value) else None,
            "limit": self.limit if math.isfinite(self.limit) else None,
            "limit_is": "least" if self.is_floor else "most",
            "ok": self.is_within,
        }

    def __str__(self) -> str:
        sign, word = (">=" if self.is_floor else "<="), ("ok" if self.is_within else "FAILS")
        return f"{self.stage:12s} {self.quantity:32s} {self.value:12.4g} {sign} {self.limit:<10.4g} {word}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenFile:
    """The arrays of a golden file by name."""

    path: Path
    values: Mapping[str, Array]

    def array(self, name: str, rank: int | None = None) -> Array:
        """One array; `DataError` when it is not there or has another number of dimensions."""
        found = self.values.get(name)
        if found is None or (rank is not None and found.ndim != rank):
            what = "none" if found is None else f"one of shape {found.shape}"
            dimensions = "" if rank is None else f" of {rank} dimensions"
            raise DataError(f"{self.path}: expected an array {name!r}{dimensions}, found {what}. {HINT}")
        return found

    def tensor(self, name: str, rank: int | None = None) -> torch.Tensor:
        """`array` for torch, in memory of its own."""
        return torch.from_numpy(np.array(self.array(name, rank)))

    def names(self, prefix: str) -> list[str]:
        """What follows this prefix in the names that have it."""
        return [name.removeprefix(prefix) for name in self.values if name.startswith(prefix)]


def read_golden(path: Path) -> GoldenFile:
    """All arrays of a NumPy archive; nothing in it is executed.

    Raises
    ------
    DataError
        No such file, no archive, a damaged one, or one that holds objects instead of numbers.
    """
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise DataError(f"{path}: expected a NumPy archive (.npz), found another or a cut-off file. {HINT}")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                values = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected a golden file, found nothing there. {HINT}") from error
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: expected a NumPy archive of numbers, cannot be read: {reason}. {HINT}") from error
    return GoldenFile(path=path, values=values)


def compare(stage: str, quantity: str, found: torch.Tensor | Array | float, golden: Array) -> Deviation:
    """The element that comes nearest to breaking its limit, or breaks it most; NaN for another shape."""
    ours = found.detach().cpu().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
    if ours.shape != golden.shape:
        return Deviation(
            stage=stage, quantity=f"{quantity} {ours.shape}, not {golden.shape}", value=np.nan, limit=ABSOLUTE
        )
    if not np.isfinite(golden).all():
        quantity = f"{quantity}: not finite in the file"
    if not golden.size:
        return Deviation(stage=stage, quantity=quantity, value=0.0, limit=ABSOLUTE)
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        difference = np.abs(ours.astype(np.float64) - golden).ravel()
    # What is infinite in the file allows nothing: with a limit of infinity every number would be within it.
    limits = np.where(np.isfinite(golden), ABSOLUTE + RELATIVE * np.abs(golden), ABSOLUTE).ravel()
    worst = int(np.argmax(difference / limits))  # a NaN counts as the largest
    return Deviation(stage=stage, quantity=quantity, value=float(difference[worst]), limit=float(limits[worst]))


def compare_gradients(stage: str, golden: GoldenFile, prefix: str, found: Mapping[str, torch.Tensor]) -> Deviation:
    """The worst of all gradients `<prefix><name>`; `found` has them by the golden names."""
    rows = [compare(stage, f"worst gradient: {name}", found[name], golden.array(f"{prefix}{name}")) for name in found]
    return max(rows, key=lambda row: np.inf if np.isnan(row.value) else row.value / row.limit)


def find_seed(path: Path, fits: Callable[[int], bool]) -> int | None:
    """The seed that `fits`: the one in the file's name (`…_s7.npz`), else the first of 0 … 9,999; None if none does."""
    named = [int(digits) for digits in re.findall(r"_s(\d{1,9})(?!\d)", path.stem)]
    return next((seed for seed in [*named, *range(SEEDS_TRIED)] if fits(seed)), None)


def compare_with_rule(
    golden: GoldenFile, names: Iterable[str], make: Callable[[int, str], Array], *, seed: int | None = None
) -> Deviation:
    """How many of these arrays are not what the rule gives, bit by bit; all of them when no seed fits.

    Parameters
    ----------
    make
        (seed, name) → the array of that name by the rule.
    seed
        None: the one that gives at least one of the two largest arrays. Small ones may fit a wrong seed by chance, and
        one array may be damaged.
    """
    names = list(names)

    def is_equal(seed: int, name: str) -> bool:
        return np.array_equal(make(seed, name), golden.array(name))

    if seed is None:
        largest = sorted(names, key=lambda name: golden.array(name).size)[-2:]
        seed = find_seed(golden.path, lambda seed: any(is_equal(seed, name) for name in largest))
    wrong: Sequence[str] = names if seed is None else [name for name in names if not is_equal(seed, name)]
    what = f"{NO_SEED} gives these arrays" if seed is None else f"seed {seed}: arrays unlike the rule"
    shown = f" ({', '.join(wrong[:2])}{', …' if len(wrong) > 2 else ''})" if wrong and seed is not None else ""
    return Deviation(stage="inputs", quantity=what + shown, value=float(len(wrong)), limit=0.0)
