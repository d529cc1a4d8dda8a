"""The log of a fine-tuning: `history.csv` per validation, `steps.csv` every so many steps, TensorBoard if asked for.

Rows are kept in memory, for the checkpoint holds them: a training that goes on writes the files anew without the rows
of steps that it takes again. Knows no network.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sentifuse.crowd.finetune.recipe import LeftOut
from sentifuse.data.files import write_bytes
from sentifuse.fuse.tensorboard import open_writer

__all__ = ["HISTORY_FILE", "LEFT_OUT_FILE", "STEPS_FILE", "FinetuneLog", "write_left_out"]

HISTORY_FILE, STEPS_FILE, LEFT_OUT_FILE, TENSORBOARD = "history.csv", "steps.csv", "left-out.csv", "tensorboard"
HISTORY_COLUMNS = (
    "step", "epoch", "stage", "train_loss", "val_loss", "val_accuracy", "val_macro_f1", "is_best", "learning_rate",
    "seconds",
)  # fmt: skip
# learning_rate: of the head in the first stage, below the head in the second. waiting_share: of the time, for images.
STEP_COLUMNS = (
    "step", "epoch", "stage", "loss", "learning_rate", "images_per_s", "waiting_share", "gpu_share", "gpu_memory_gib",
)  # fmt: skip
Row = Mapping[str, Any]


class FinetuneLog:
    """A context that writes the rows it is given and remembers them.

    Parameters
    ----------
    history, steps
        Rows from before a training was stopped.

    Raises
    ------
    ResourceError
        TensorBoard is asked for and not installed.
    """

    def __init__(
        self, folder: Path, *, history: Sequence[Row] = (), steps: Sequence[Row] = (), writes_tensorboard: bool = False
    ) -> None:
        self.folder = folder
        self.history = [dict(row) for row in history]
        self.steps = [dict(row) for row in steps]
        self._writer = open_writer(folder / TENSORBOARD) if writes_tensorboard else None
        write_bytes(folder / HISTORY_FILE, _lines(HISTORY_COLUMNS, self.history, has_header=True))
        write_bytes(folder / STEPS_FILE, _lines(STEP_COLUMNS, self.steps, has_header=True))

    def add_validation(self, row: Row) -> None:
        """One row of the history."""
        self._add(self.history, HISTORY_FILE, HISTORY_COLUMNS, row, prefix="validation")

    def add_step(self, row: Row) -> None:
        """One row of what the steps since the last one came to."""
        self._add(self.steps, STEPS_FILE, STEP_COLUMNS, row, prefix="steps")

    def __enter__(self) -> "FinetuneLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, rows: list[dict[str, Any]], name: str, columns: Sequence[str], row: Row, *, prefix: str) -> None:
        rows.append(dict(row))
        with (self.folder / name).open("ab") as file:
            file.write(_lines(columns, [row]))
        if self._writer is None:
            return
        for column in columns:
            value = row[column]
            if column not in ("step", "epoch") and isinstance(value, int | float):
                self._writer.add_scalar(f"{prefix}/{column}", float(value), row["step"])
        self._writer.flush()


def write_left_out(folder: Path, left_out: Sequence[LeftOut]) -> None:
    """The images that were left out and why; a header alone when there are none."""
    columns = tuple(LeftOut.__dataclass_fields__)
    rows = [{name: getattr(image, name) for name in columns} for image in left_out]
    write_bytes(folder / LEFT_OUT_FILE, _lines(columns, rows, has_header=True))


def _lines(columns: Sequence[str], rows: Sequence[Row], *, has_header: bool = False) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if has_header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")
