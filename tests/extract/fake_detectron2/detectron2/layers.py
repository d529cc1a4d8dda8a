"""The shape of a map, before it is there."""

from typing import NamedTuple


class ShapeSpec(NamedTuple):
    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
