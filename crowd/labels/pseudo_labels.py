"""Pseudo-labels on disk: what a teacher says of the texts of a dataset, and whose human label it had seen by then.

One table per dataset and name, written whole; the same teacher gives the same bytes. Knows no teacher and no image.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.data.prepare import NAME_PATTERN
from sentifuse.data.source import SENTIMENT

__all__ = [
    "DEFAULT_NAME",
    "SHARES",
    "PseudoLabels",
    "check_probabilities",
    "crowd_file",
    "labels_path",
    "read_pseudo_labels",
    "refuse_overwriting",
    "same_json",
    "write_pseudo_labels",
]

# Shapes: N labelled pairs, 3 classes in the order negative, neutral, positive.

DEFAULT_NAME = "default"
VERSION = 2
SUM_TOLERANCE = 1e-3
SHARES = tuple(f"p_{name}" for name in SENTIMENT)  # names of the columns
COLUMNS = ("id", *SHARES, "gold_seen")

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PseudoLabels:
    """What a teacher says of N pairs.

    Attributes
    ----------
    ids
        In the manifest's order, each once.
    probabilities
        float32 (N, 3): negative, neutral, positive; rows add up to 1.
    gold_seen
        bool (N,): the teacher was trained or chosen with this pair's human label.
    provenance
        Plain values: dataset, teacher, digest, cleaning, versions.
    left_out
        id → why a pair of the dataset has no pseudo-label; with `ids` these are all of its pairs.
    gold_pairs
        Dataset → id → SHA-256 of the image ("": none), of every pair whose human label the teacher was trained or
        chosen with, wherever it is: a student may be asked for features of that dataset.
    """

    ids: tuple[str, ...]
    probabilities: Floats
    gold_seen: Bools
    provenance: Mapping[str, Any]
    left_out: Mapping[str, str] = field(default_factory=dict)
    gold_pairs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """SHA-256 in hex of ids, probabilities and what was seen."""
        head = "\n".join(self.ids).encode()
        body = np.ascontiguousarray(self.probabilities, dtype="<f4").tobytes()
        return files.digest(b"\0".join((head, body, self.gold_seen.astype(np.uint8).tobytes())))

    def check(self, where: str) -> None:
        """Refuse arrays that do not fit the ids, and numbers that are no probabilities.

        Raises
        ------
        DataError
            Naming the first row that is wrong.
        """
        if len(set(self.ids)) != len(self.ids):
            raise DataError(f"{where}: expected every id once, found repetitions. Label again: sentifuse distil label")
        if self.gold_seen.shape != (len(self.ids),) or self.gold_seen.dtype != np.bool_:
            raise DataError(f"{where}: gold_seen is {self.gold_seen.shape}, expected ({len(self.ids)},) of bool")
        check_probabilities(self.probabilities, where, ids=self.ids)


def check_probabilities(probabilities: npt.NDArray[Any], where: str, *, ids: tuple[str, ...] | None = None) -> None:
    """Refuse what is not (N, 3) of finite shares that add up to 1; `DataError` naming the first such row."""
    n = len(probabilities) if ids is None else len(ids)
    if probabilities.shape != (n, len(SENTIMENT)):
        raise DataError(f"{where}: probabilities are {probabilities.shape}, expected ({n}, {len(SENTIMENT)})")
    is_bad = ~np.isfinite(probabilities).all(1) | (probabilities < 0).any(1)
    is_bad |= np.abs(probabilities.sum(1) - 1) > SUM_TOLERANCE
    if is_bad.any():
        row = int(np.argmax(is_bad))
        name = f"row {row}" if ids is None else ids[row]
        raise DataError(
            f"{where}: expected shares of {', '.join(SENTIMENT)} that add up to 1, found "
            f"{probabilities[row].tolist()} for {name} ({int(is_bad.sum()):,} such rows). Other columns, or scores of "
            "another kind? Label again: sentifuse distil label"
        )


def crowd_file(artifacts: Path, dataset: str, kind: str, name: str, ending: str = ".parquet") -> Path:
    """`artifacts/crowd/<dataset>/<kind>-<name><ending>`; `ConfigError` for names that are no plain file names."""
    for what, value in (("dataset name", dataset), ("--name", name)):
        if not NAME_PATTERN.fullmatch(value):
            raise ConfigError(f"{what}: expected letters, digits, '_', '-', '.', found {value!r}")
    return artifacts / "crowd" / dataset / f"{kind}-{name}{ending}"


def labels_path(artifacts: Path, dataset: str, name: str = DEFAULT_NAME) -> Path:
    """Where the pseudo-labels of this name lie, or will."""
    return crowd_file(artifacts, dataset, "labels", name)


def write_pseudo_labels(
    artifacts: Path, dataset: str, name: str, labels: PseudoLabels, *, overwrite: bool = False
) -> Path:
    """Write the table; the very same labels may be written again.

    Raises
    ------
    ConfigError
        Others have this name already, and `overwrite` is not set.
    DataError
        The labels are none, or the folder cannot be written.
    """
    path = labels_path(artifacts, dataset, name)
    labels.check(str(path))
    if not overwrite and files.is_file(path):
        found = read_pseudo_labels(artifacts, dataset, name)
        is_same = same_json(found.provenance, labels.provenance) and same_json(found.gold_pairs, labels.gold_pairs)
        if found.digest != labels.digest or not is_same:
            refuse_overwriting(path, "labels")
    columns: dict[str, tuple[str, list[Any]]] = {"id": ("string", list(labels.ids))}
    columns |= {column: ("float32", labels.probabilities[:, i].tolist()) for i, column in enumerate(SHARES)}
    columns["gold_seen"] = ("bool", labels.gold_seen.tolist())
    metadata = {
        "version": VERSION,
        "provenance": dict(labels.provenance),
        "left_out": dict(labels.left_out),
        "gold_pairs": {dataset: dict(pairs) for dataset, pairs in labels.gold_pairs.items()},
        "digest": labels.digest,
    }
    files.write_table(path, columns, metadata)
    return path


def read_pseudo_labels(artifacts: Path, dataset: str, name: str = DEFAULT_NAME) -> PseudoLabels:
    """The pseudo-labels of this name.

    Raises
    ------
    DataError
        There are none, or the file is damaged; the message has the command to type.
    """
    path = labels_path(artifacts, dataset, name)
    as_name = "" if name == DEFAULT_NAME else f" --name {name}"
    hint = f"Run: sentifuse distil label --dataset {dataset}{as_name}"
    columns, metadata = files.read_table(path, COLUMNS, hint=hint)
    if metadata.get("version") != VERSION:
        raise DataError(f"{path}: expected version {VERSION}, found {metadata.get('version')!r}. Delete it. {hint}")
    labels = PseudoLabels(
        ids=tuple(columns["id"]),
        probabilities=np.array([columns[column] for column in SHARES], dtype=np.float32).T.copy(),
        gold_seen=np.array(columns["gold_seen"], dtype=np.bool_),
        provenance=metadata["provenance"],
        left_out=metadata["left_out"],
        gold_pairs=metadata["gold_pairs"],
    )
    labels.check(str(path))
    if labels.digest != metadata["digest"]:
        raise DataError(f"{path}: its rows are not those that were written. Delete it. {hint}")
    return labels


def same_json(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two metadata are written alike."""
    return json.dumps(dict(one), sort_keys=True) == json.dumps(dict(other), sort_keys=True)


def refuse_overwriting(path: Path, what: str) -> None:
    """Say that other results of this kind have the name already."""
    raise ConfigError(f"{path}: other {what} have this name already. Choose another --name, or replace them: --force")
