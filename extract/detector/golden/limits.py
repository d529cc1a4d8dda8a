"""How far from golden numbers is near enough, for each profile of weights and each kind of arithmetic."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LIMITS", "Deviation", "Limits", "first_beyond"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest deviations that are accepted; shares are of the rows that must be found again."""

    early: float  # stem, res2, res3
    res4: float
    head: float  # objectness logits and anchor deltas
    box_px: float
    proposals_found: float
    feature: float
    cosine: float
    score: float
    regions_missing: int
    ids_that_differ: int = 0
    flag: str = "stable"  # which rows must be found: those that survive float32's noise, or bfloat16's ("robust")


LIMITS: Mapping[str, Limits] = {
    "float64": Limits(
        early=1e-8,
        res4=1e-8,
        head=1e-8,
        box_px=1e-4,  # the anchors are float32
        proposals_found=1.0,
        feature=1e-5,  # stored in float32
        cosine=0.9999999,
        score=1e-6,
        regions_missing=0,
    ),
    "sharp": Limits(
        early=1e-4,
        res4=2e-2,
        head=2e-2,
        box_px=0.5,
        proposals_found=0.99,
        feature=1e-2,
        cosine=0.99999,
        score=1e-3,
        regions_missing=0,
    ),
    "smooth": Limits(
        early=1e-4,
        res4=3e-4,
        head=5e-4,
        box_px=0.02,
        proposals_found=0.99,
        feature=1e-4,
        cosine=0.99999,
        score=5e-5,
        regions_missing=0,
    ),
    "reduced": Limits(  # half precision, only on the smooth profile
        early=math.inf,
        res4=math.inf,
        head=math.inf,
        box_px=math.inf,
        proposals_found=0.85,
        feature=math.inf,
        cosine=0.999,
        score=math.inf,
        regions_missing=2,
        ids_that_differ=5,
        flag="robust",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How far one quantity is from the golden one. For shares and cosines `value` is what must not fall short."""

    stage: str
    quantity: str
    value: float
    limit: float
    is_floor: bool = False

    @property
    def is_within(self) -> bool:
        """Whether the limit is kept; a value that is not a number keeps none."""
        return self.value >= self.limit if self.is_floor else self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """Plain values; null stands for a value that is no number and for a limit that there is not."""
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
        limit = f"{sign} {self.limit:<10.6g}" if math.isfinite(self.limit) else "(no limit)   "
        return f"{self.stage:12s} {self.quantity:24s} {self.value:12.6g} {limit} {word}"


def first_beyond(deviations: Iterable[Deviation]) -> Deviation | None:
    """The first that is not within its limit: stages come in the order in which they are computed."""
    return next((deviation for deviation in deviations if not deviation.is_within), None)
