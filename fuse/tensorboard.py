"""Scalars of a training for TensorBoard, epoch by epoch as they come. An optional extra; history.csv is always written.

Knows the report of an epoch and a folder. Trains nothing.
"""

from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from sentifuse import ResourceError
from sentifuse.fuse.loop import EpochReport

SCALARS = {
    "loss/train": "train_loss",
    "loss/validation": "val_loss",
    "accuracy/validation": "val_accuracy",
    "learning_rate": "learning_rate",
    "seconds": "seconds",
}


def open_writer(folder: Path) -> Any:
    """A `SummaryWriter` on a folder.

    Raises
    ------
    ResourceError
        The package tensorboard is not installed.
    """
    try:
        module = import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise ResourceError(
            "--log tensorboard: expected the package tensorboard, found none. "
            "Install the extra: pip install 'sentifuse[tensorboard]', or leave --log out: history.csv has every epoch"
        ) from error
    return module.SummaryWriter(str(folder))


class TensorboardLog:
    """Writes every epoch it hears of; a context, closed at the end of the training.

    Parameters
    ----------
    folder
        Made here, so that one can watch while the training runs.

    Raises
    ------
    ResourceError
        The package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epochs = 0
        self._writer = open_writer(folder)

    def __call__(self, epoch: EpochReport) -> None:
        for name, key in SCALARS.items():
            self._writer.add_scalar(name, getattr(epoch, key), epoch.epoch)
        self._writer.flush()
        self.epochs += 1

    def __enter__(self) -> "TensorboardLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def rename(self, name: str) -> Path:
        """Give the closed folder the run's name; what was logged of a training that failed keeps its own."""
        self.folder = self.folder.rename(self.folder.with_name(name))
        return self.folder
