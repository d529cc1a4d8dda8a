"""Laws of the log: what is written is what was said, and going on drops the rows that will be said again."""

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

from sentifuse import ResourceError
from sentifuse.crowd.finetune.log import HISTORY_COLUMNS, STEP_COLUMNS, FinetuneLog, write_left_out
from sentifuse.crowd.finetune.recipe import LeftOut


def step(number: int) -> dict[str, Any]:
    return dict.fromkeys(STEP_COLUMNS) | {"step": number, "epoch": 1, "stage": "all", "loss": 0.5}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_there_as_soon_as_they_are_said(tmp_path: Path) -> None:
    with FinetuneLog(tmp_path) as log:
        log.add_step(step(1))
        log.add_validation(dict.fromkeys(HISTORY_COLUMNS) | {"step": 1, "is_best": True})
        assert [row["loss"] for row in rows_of(tmp_path / "steps.csv")] == ["0.5"]
        assert [row["is_best"] for row in rows_of(tmp_path / "history.csv")] == ["True"]
    assert log.steps == [step(1)]


def test_going_on_drops_rows_after_the_checkpoint(tmp_path: Path) -> None:
    with FinetuneLog(tmp_path) as log:
        for number in (1, 2, 3):
            log.add_step(step(number))
    with FinetuneLog(tmp_path, steps=log.steps[:1]) as again:
        again.add_step(step(2))
    assert [row["step"] for row in rows_of(tmp_path / "steps.csv")] == ["1", "2"]


def test_tensorboard_gets_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, float, int]] = []

    class Writer:
        """What the log asks of a SummaryWriter."""

        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, name: str, value: float, number: int) -> None:
            said.append((name, value, number))

        def flush(self) -> None: ...

        def close(self) -> None:
            said.append(("closed", 0.0, 0))

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with FinetuneLog(tmp_path, writes_tensorboard=True) as log:
        log.add_step(step(7))
    assert said == [("steps/loss", 0.5, 7), ("closed", 0.0, 0)]


def test_tensorboard_that_is_not_there_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules: Any = sys.modules
    monkeypatch.setitem(modules, "torch.utils.tensorboard", None)
    with pytest.raises(ResourceError, match=r"pip install 'sentifuse\[tensorboard\]'"):
        FinetuneLog(tmp_path, writes_tensorboard=True)


def test_images_that_were_left_out_have_a_row_each(tmp_path: Path) -> None:
    write_left_out(tmp_path, [LeftOut(id="t1-1", path="a,b.jpg", reason="missing")])
    assert rows_of(tmp_path / "left-out.csv") == [{"id": "t1-1", "path": "a,b.jpg", "reason": "missing", "detail": ""}]
