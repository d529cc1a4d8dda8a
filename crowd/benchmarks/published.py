"""What the paper's authors published of their eight models. Reads one data file that names its source."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files as resources
from typing import Any

__all__ = ["Published", "PublishedModel", "read_published"]

FILE = "published.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """One row of the table.

    Attributes
    ----------
    data
        A, B or A+B; see the table's note.
    thresholds
        Class → confidence above which a tweet was kept; {}: all were kept.
    vit
        Size and patch.
    file
        Name of the weights in the release.
    accuracy
        Benchmark → fraction of 1.
    """

    id: str
    data: str
    vit: str
    file: str
    accuracy: Mapping[str, float]
    thresholds: Mapping[str, float]

    @property
    def filter(self) -> str:
        """Thresholds of positive, neutral and negative as the paper writes them.

        >>> read_published().models[3].filter
        '.90/.90/.70'
        """
        if not self.thresholds:
            return "none"
        return "/".join(f"{self.thresholds[name]:.2f}".lstrip("0") for name in ("positive", "neutral", "negative"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The table: its rows in the paper's order, and where it was read."""

    title: str
    source: str
    note: str
    benchmarks: tuple[str, ...]
    models: tuple[PublishedModel, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@cache
def read_published() -> Published:
    """The table of the data file."""
    document = tomllib.loads((resources("sentifuse.crowd.benchmarks") / FILE).read_text(encoding="utf-8"))
    return Published(
        title=document["title"],
        source=document["source"],
        note=document["note"],
        benchmarks=tuple(document["benchmarks"]),
        models=tuple(PublishedModel(**{"thresholds": {}} | row) for row in document["model"]),
    )
