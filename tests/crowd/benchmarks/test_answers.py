"""Every file has its place in the answers: whatever its size, its batch and what is wrong with it."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sentifuse import DataError
from sentifuse.crowd.benchmarks.answers import Look, look_at
from sentifuse.extract.encoder import Outputs, RowValues


class Mean:
    """A backbone whose output is the mean of an image; it batches images of one size, and refuses red ones."""

    inputs: tuple[str, ...] = ("image",)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def prepare(self, image: Image.Image | None, text: str | None) -> Any:
        assert image is not None
        if image.getpixel((0, 0)) == (255, 0, 0):
            raise DataError("red is refused")
        return np.asarray(image)

    def batch_key(self, prepared: Any) -> Hashable:
        return prepared.shape

    def forward(self, batch: Sequence[Any]) -> Outputs:
        self.batches.append(len(batch))
        return {"mean": np.array([one.mean() for one in batch], dtype=np.float32)}

    def read(self, outputs: Outputs, batch: Sequence[Any]) -> list[RowValues]:
        return [DataError("black") if value == 0 else {"mean": value} for value in outputs["mean"]]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Greys 0, 10, 20 … in two sizes; the fourth is red, the sixth is missing, the seventh empty."""
    found = []
    for i in range(9):
        path = tmp_path / f"{i}.png"
        colour = (255, 0, 0) if i == 3 else (10 * i,) * 3
        Image.new("RGB", (8, 8 + i % 2), colour).save(path)
        found.append(path)
    found[5].unlink()
    found[6].write_bytes(b"")
    return found


@pytest.mark.parametrize("batch_rows", [1, 4, 100])
def test_every_file_is_looked_at_once_and_keeps_its_row(images: list[Path], batch_rows: int) -> None:
    backbone, done = Mean(), []
    looks: list[Look] = sorted(
        look_at(backbone, backbone.read, images, batch_rows=batch_rows, threads=2, progress=done.append),
        key=lambda look: look.row,
    )
    assert [look.row for look in looks] == list(range(9))
    statuses = [look.status for look in looks]
    assert statuses == ["failed", "ok", "ok", "failed", "ok", "missing", "empty file", "ok", "ok"]
    assert [float(look.values["mean"]) for look in looks if look.values] == [10, 20, 40, 70, 80]
    assert (looks[0].detail, looks[3].detail) == ("black", "red is refused")
    assert [bool(look.digest) for look in looks] == [True] * 5 + [False] + [True] * 3
    assert sum(done) == 9
    assert sum(backbone.batches) == 6
    assert max(backbone.batches) <= batch_rows
