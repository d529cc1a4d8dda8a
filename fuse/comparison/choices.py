"""What a comparison is asked for in words: heads with presets, seeds, folds, one swept setting. Reads no file.

Knows names and numbers; which runs follow from them is in `plan`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any

from sentifuse import ConfigError
from sentifuse.fuse.heads import HEADS

MAIN_HEADS = ("itin", "ctmwa", "rnn_ca_embedding", "logreg")
ABLATIONS = ("itin:without_alignment", "itin:without_gating", "itin:without_context", "itin:context_only")
DEFAULT_SEEDS, QUICK_SEEDS = 5, 2
MAX_VALUES = 100  # of a sweep: each is trained with every seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One row of a table: a head, its preset, and settings laid over it."""

    head: str
    preset: str = "default"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    swept: tuple[str, float] | None = None  # the setting that a sweep gives this row, and its value

    @property
    def name(self) -> str:
        """`head`, `head:preset`, or either with the swept value."""
        plain = self.head if self.preset == "default" else f"{self.head}:{self.preset}"
        return plain if self.swept is None else f"{plain} {self.swept[0]}={self.swept[1]:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A setting and the values that it is given one after the other."""

    key: str
    values: tuple[str, ...]  # as typed in `--set`


def default_heads(known: Sequence[str]) -> tuple[str, ...]:
    """All heads, and ITIN's four published ablations behind ITIN.

    >>> default_heads(["itin", "logreg"])[:2], len(default_heads(["itin", "logreg"]))
    (('itin', 'itin:without_alignment'), 6)
    """
    return tuple(name for head in known for name in ((head, *ABLATIONS) if head == "itin" else (head,)))


def parse_heads(names: Sequence[str], overrides: Mapping[str, Any] | None = None) -> tuple[Choice, ...]:
    """Rows from `head` or `head:preset`, in this order.

    Raises
    ------
    ConfigError
        None at all, one named twice, or one that is not known. Unknown presets are refused when the plan is made.
    """
    if not names:
        raise ConfigError("--heads: expected heads with commas between them, found none. Type: --heads itin,logreg")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"--heads: expected every head once, found {', '.join(twice)} several times. Name it once")
    choices = []
    for name in names:
        head, _, preset = name.partition(":")
        if head not in HEADS:
            raise ConfigError.unknown("head", head, HEADS, where="--heads")
        choices.append(Choice(head=head, preset=preset or "default", overrides=dict(overrides or {})))
    return tuple(choices)


def parse_seeds(text: str) -> tuple[int, ...]:
    """`5` means seeds 0 to 4; `0,3,7` names them, and so does `3,` one.

    >>> parse_seeds("3"), parse_seeds("0,3,7"), parse_seeds("3,")
    ((0, 1, 2), (0, 3, 7), (3,))
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts) or len({*parts}) < len(parts):
        raise ConfigError(f"--seeds {text}: expected how many, as in 5, or different whole numbers, as in 0,3,7")
    if "," in text:
        return tuple(int(part) for part in parts)
    if int(parts[0]) < 1:
        raise ConfigError(f"--seeds {text}: expected at least one seed. Type: --seeds 5")
    return tuple(range(int(parts[0])))


def parse_folds(text: str | None, protocol: str, k: int) -> tuple[int, ...]:
    """The folds to train: all of them, or those named; fold 0 under a protocol without folds.

    >>> parse_folds(None, "random", 0), parse_folds(None, "folds", 3), parse_folds("1,3", "folds", 3)
    ((0,), (1, 2, 3), (1, 3))
    """
    if not k:
        if text is not None:
            raise ConfigError(f"--folds {text}: protocol {protocol} has no folds. Leave it out")
        return (0,)
    if text is None or text == "all":
        return tuple(range(1, k + 1))
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = tuple(dict.fromkeys(int(part) for part in parts if part.isdecimal()))
    if len(found) != len(parts) or not found or not all(1 <= fold <= k for fold in found):
        raise ConfigError(f"--folds {text}: expected all, or numbers from 1 to {k} with commas between, as in 1,2,3")
    return found


def parse_sweep(text: str) -> Sweep:
    """`key=0..6`, `key=0,0.2,...,1` or `key=a,b,c`.

    >>> parse_sweep("region_count=0..3").values
    ('0', '1', '2', '3')
    >>> parse_sweep("visual_weight=0,0.2,...,1").values
    ('0', '0.2', '0.4', '0.6', '0.8', '1')
    """
    key, sign, given = text.partition("=")
    how = f"--sweep {text}: expected a setting and numbers, as in region_count=0..6 or visual_weight=0,0.2,...,1"
    if not sign or not key.strip():
        raise ConfigError(how)
    try:
        values = _numbers(given)
    except (InvalidOperation, ValueError) as error:
        raise ConfigError(how) from error
    if len(values) < 2 or len(values) > MAX_VALUES or len({*values}) < len(values):
        raise ConfigError(f"{how}; from 2 to {MAX_VALUES} different ones, found {len(values)}")
    return Sweep(key=key.strip(), values=tuple(f"{value.normalize():f}" for value in values))


def sweep_choices(choices: Sequence[Choice], sweep: Sweep) -> tuple[Choice, ...]:
    """Every head with every value. ITIN without regions (region_count=0) is ITIN from its contexts alone.

    Figure 5 of ITIN's paper starts at m = 0; with no region there is nothing to align, to gate or to pool, and what is
    left is V and S.
    """
    result = []
    for choice in choices:
        for value in sweep.values:
            is_none = choice.head == "itin" and sweep.key == "region_count" and float(value) == 0
            setting = {"sources": "context"} if is_none else {sweep.key: value}
            result.append(
                Choice(
                    head=choice.head,
                    preset=choice.preset,
                    overrides={**choice.overrides, **setting},
                    swept=(sweep.key, float(value)),
                )
            )
    return tuple(result)


def _numbers(given: str) -> list[Decimal]:
    """Decimal, so that 0, 0.2, … 1 ends at 1 and settings are recorded as typed."""
    first, dots, last = given.partition("..")
    if dots and "," not in given:
        return [Decimal(value) for value in range(int(first), int(last) + 1)]
    parts = [part.strip() for part in given.split(",")]
    if "..." not in parts and "…" not in parts:
        return [Decimal(part) for part in parts]
    place = next(i for i, part in enumerate(parts) if part in ("...", "…"))
    before, after = [Decimal(part) for part in parts[:place]], [Decimal(part) for part in parts[place + 1 :]]
    if len(before) < 2 or len(after) != 1:
        raise ValueError("expected two values before the dots and one behind them")
    step = before[-1] - before[-2]
    if step <= 0 or any(b - a != step for a, b in pairwise(before)) or (after[0] - before[-1]) % step:
        raise ValueError("the dots stand for equal steps that reach the last value")
    n_left = int((after[0] - before[-1]) / step)
    if n_left > MAX_VALUES:
        raise ValueError("too many values")
    return [*before, *(before[-1] + step * (i + 1) for i in range(n_left))]
