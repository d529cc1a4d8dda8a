"""A training's state on disk, whole or not at all: what stopping and going on needs, and the best weights so far.

Files in the working folder: `checkpoint.pt` (a dict of tensors and plain values, read by torch's restricted reader)
and `best-<step>.safetensors`, which the checkpoint names; older ones go once the new checkpoint lies there. A result
that waits there for others is `result.safetensors`. Knows nothing of what the state means.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

from sentifuse import ConfigError, DataError
from sentifuse.cache.files import fsync_directory

__all__ = ["CHECKPOINT", "Checkpoints", "TensorFile"]

FORMAT = 1
CHECKPOINT = "checkpoint.pt"
BEST = "best-*.safetensors"
RESULT = "result.safetensors"
# What torch's reader raises on torn files and on pickles that hold more than tensors and plain values.
READ_ERRORS = (OSError, RuntimeError, UnpicklingError, EOFError, KeyError, ValueError)


class Checkpoints:
    """The checkpoint of one working folder.

    Parameters
    ----------
    identity
        Plain values that fix every number of the training; a checkpoint with others is refused.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = dict(identity)

    @property
    def path(self) -> Path:
        return self.folder / CHECKPOINT

    def read(self) -> dict[str, Any] | None:
        """The state last written, on the CPU; None where there is no checkpoint.

        Raises
        ------
        DataError
            The file is damaged, or of another version of the format.
        ConfigError
            It belongs to a training with other settings, images or weights.
        """
        if not self.path.is_file():
            return None
        hint = "Delete the folder and train again"
        try:
            document = torch.load(self.path, map_location="cpu", weights_only=True)
        except READ_ERRORS as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{self.path}: cannot be read as a checkpoint ({first}). {hint}") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise DataError(f"{self.path}: expected a checkpoint of format {FORMAT}, found another file. {hint}")
        theirs = document["identity"]
        keys = sorted({*theirs, *self.identity})
        other = [key for key in keys if theirs.get(key) != self.identity.get(key)]
        if other:
            differences = "; ".join(f"{key} was {theirs.get(key)!r}, is {self.identity.get(key)!r}" for key in other)
            raise ConfigError(
                f"{self.path}: belongs to another training: {differences}. "
                "Go on with the settings and images it was begun with, or take another folder"
            )
        state: dict[str, Any] = document["state"]
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint; then remove best weights that `state["best_file"]` does not name.

        Raises
        ------
        DataError
            No space, no permission; the old checkpoint is still there.
        """
        document = {"format": FORMAT, "identity": self.identity, "state": dict(state)}
        _replace(self.path, lambda file: torch.save(document, file))
        for old in sorted(self.folder.glob(BEST)):
            if old.name != state.get("best_file"):
                old.unlink(missing_ok=True)

    def write_best(self, step: int, tensors: Mapping[str, torch.Tensor]) -> str:
        """Weights after so many steps, under a name of their own: the older best stays until the next checkpoint."""
        name = BEST.replace("*", f"{step:08d}")
        content = safetensors.torch.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
        _replace(self.folder / name, lambda file: file.write(content))
        return name

    def read_best(self, name: str) -> dict[str, torch.Tensor]:
        """The weights that a state names.

        Raises
        ------
        DataError
            The file is missing or damaged.
        """
        path = self.folder / name
        try:
            tensors: dict[str, torch.Tensor] = safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise DataError(
                f"{path}: the best weights so far cannot be read ({error}). Delete the folder and train again"
            ) from error
        return tensors

    def remove(self) -> None:
        """Take the checkpoint and the best weights away, once the result lies elsewhere; logs stay."""
        rest = [*sorted(self.folder.glob(BEST)), *sorted(self.folder.glob(".*.tmp"))]
        for path in (self.path, self.folder / RESULT, *rest):
            path.unlink(missing_ok=True)


class TensorFile(Mapping[str, npt.NDArray[np.float32]]):
    """Tensors that lie in a file of a working folder; each is read when it is asked for, and none is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with safetensors.safe_open(path, framework="numpy") as file:
            self._names = tuple(file.keys())

    @classmethod
    def write(cls, folder: Path, tensors: Mapping[str, npt.NDArray[np.float32]]) -> "TensorFile":
        """Put tensors into a working folder.

        Raises
        ------
        DataError
            No space, no permission.
        """
        path = folder / RESULT
        content = safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
        _replace(path, lambda file: file.write(content))
        return cls(path)

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        if name not in self._names:
            raise KeyError(name)
        with safetensors.safe_open(self.path, framework="numpy") as file:
            value: npt.NDArray[np.float32] = file.get_tensor(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def plain(value: Any) -> Any:
    """A value as JSON would give it back, so that identities compare equal after a round trip."""
    return json.loads(json.dumps(value))


def _replace(path: Path, write: Any) -> None:
    """Written aside, flushed, synced, renamed; not by way of memory, for states of large networks are gigabytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file: BinaryIO
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_directory(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise DataError(
            f"{path}: cannot be written: {error}. What was there before is untouched; free some space or mend the "
            "permissions, then go on with --resume"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
