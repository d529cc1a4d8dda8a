"""What of a benchmarking is done, on disk: the document as far as it goes, and the answers of each fine-tuning.

A benchmarking that was stopped goes on behind what is there; one of another model, other lists or settings is refused.
Scores nothing.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sentifuse import ConfigError
from sentifuse.crowd.benchmarks.answers import Answers
from sentifuse.crowd.benchmarks.tasks import MEANWHILE, Task, Trained, Trainer
from sentifuse.crowd.folder_lock import LOCK
from sentifuse.data import files

__all__ = ["JSON_FILE", "Record", "refuse_other_content"]

JSON_FILE = "benchmark.json"
PARTS = "fine-tuned"  # answers of the fine-tunings of an entry that is not whole yet
HINT = "Name a new folder with --out"


def refuse_other_content(out: Path) -> None:
    """Refuse, before any work, a place where something else than a benchmarking lies (`ConfigError`)."""
    is_free = not out.exists() or (out.is_dir() and all(path.name.startswith(LOCK) for path in out.iterdir()))
    if not is_free and not files.is_file(out / JSON_FILE):
        raise ConfigError(f"--out {out}: expected a new or an empty folder, found something there. Name another")


class Record:
    """The document of a folder and its parts.

    Parameters
    ----------
    identity
        Plain values that fix every number of the benchmarking.
    empty
        The document before the first entry.
    save
        Writes the document.

    Raises
    ------
    ConfigError
        The folder holds another benchmarking.
    DataError
        benchmark.json is damaged.
    """

    def __init__(
        self,
        out: Path,
        identity: Mapping[str, Any],
        empty: Mapping[str, Any],
        save: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.out = out
        self._save = save
        self.is_begun = files.is_file(out / JSON_FILE)
        self.document: dict[str, Any] = {**empty, "identity": dict(identity), "is_complete": False}
        if self.is_begun:
            self.document = _same(files.read_json(out / JSON_FILE, hint=HINT), identity, out)
            for left in sorted(out.glob(f"{MEANWHILE}*")):
                shutil.rmtree(left, ignore_errors=True)
        else:
            self._save(self.document)

    def add(self, key: str, entry: Mapping[str, Any]) -> None:
        """Append to a list of the document and write it."""
        self.document[key].append(dict(entry))
        self._save(self.document)

    def put(self, key: str, value: Any) -> None:
        """Set a value of the document and write it."""
        self.document[key] = value
        self._save(self.document)

    def names(self, key: str) -> set[str]:
        """Of the entries of a list that are there."""
        return {entry["name"] for entry in self.document[key]}

    def complete(self) -> None:
        """Everything is in the document; what it was put together from goes."""
        self.put("is_complete", True)
        shutil.rmtree(self.out / PARTS, ignore_errors=True)

    def kept(self, trainer: Trainer) -> Trainer:
        """A trainer whose outcomes are written when they are there, and read where they were before."""

        def train(task: Task) -> Trained:
            path = self.out / PARTS / f"{task.name}.json"
            if files.is_file(path):
                return _read(files.read_json(path, hint=HINT))
            made = trainer(task)
            files.write_json(path, _to_json(made))
            return made

        return train


def _same(document: dict[str, Any], identity: Mapping[str, Any], out: Path) -> dict[str, Any]:
    theirs = document.get("identity")
    if not isinstance(theirs, dict):
        raise ConfigError(f"--out {out}: a benchmarking of an earlier release, which cannot be gone on with. {HINT}")
    other = sorted(key for key in {*theirs, *identity} if theirs.get(key) != identity.get(key))
    if other:
        raise ConfigError(
            f"--out {out}: another benchmarking was begun there; these differ: {', '.join(other)}. Type its command "
            f"again ({' '.join(map(str, document.get('command', ())))}), or name a new folder"
        )
    return document


def _to_json(made: Trained) -> dict[str, Any]:
    is_ok = made.answers.is_ok.tolist()
    shares = made.answers.probabilities.tolist()  # float32 as float64: the way back is exact
    answers = asdict(made.answers) | {
        "probabilities": [row if ok else None for row, ok in zip(shares, is_ok, strict=True)]
    }
    return {"answers": answers, "n_train": made.n_train, "left_out": dict(made.left_out), "best": dict(made.best)}


def _read(document: Mapping[str, Any]) -> Trained:
    stored = document["answers"]
    rows = [[np.nan] * 3 if row is None else row for row in stored["probabilities"]]
    answers = Answers(
        probabilities=np.array(rows, dtype=np.float32).reshape(-1, 3),
        **{name: tuple(stored[name]) for name in ("statuses", "details", "digests")},
    )
    return Trained(answers=answers, n_train=document["n_train"], left_out=document["left_out"], best=document["best"])
