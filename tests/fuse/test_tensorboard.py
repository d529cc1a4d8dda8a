"""Curves for TensorBoard are those of the epochs; without the package the refusal names the extra."""

import sys
from pathlib import Path

import pytest

from sentifuse import ResourceError
from sentifuse.fuse.loop import EpochReport
from sentifuse.fuse.tensorboard import SCALARS, TensorboardLog


def epoch(number: int) -> EpochReport:
    return EpochReport(
        epoch=number,
        epochs=2,
        train_loss=1.0 / number,
        val_accuracy=0.5 + number / 10,
        val_loss=0.9 / number,
        learning_rate=1e-3,
        seconds=0.1,
        is_best=True,
    )


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ResourceError, match=r"sentifuse\[tensorboard\]"):
        TensorboardLog(tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_every_epoch_is_a_point_of_every_curve(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed: nothing was written or read")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TensorboardLog(tmp_path / "log") as log:
        log(epoch(1))
        log(epoch(2))
    read = EventAccumulator(str(log.rename("run")))
    read.Reload()
    assert set(read.Tags()["scalars"]) == set(SCALARS)
    for name, key in SCALARS.items():
        points = {point.step: point.value for point in read.Scalars(name)}
        assert points == {i: pytest.approx(getattr(epoch(i), key)) for i in (1, 2)}
