"""The images that a student learns from: those whose pseudo-label was sure, each in training or validation.

Parts never divide a tweet, nor pairs that are near-duplicates of each other. Chooses no image: that is `choose.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError, DataError
from sentifuse.crowd.labels.pseudo_labels import DEFAULT_NAME, SHARES, crowd_file, refuse_overwriting, same_json
from sentifuse.data import files
from sentifuse.data.protocols import fill_parts
from sentifuse.data.source import SENTIMENT

__all__ = ["DIGEST", "PARTS", "Kept", "digest_kept", "kept_path", "list_kept", "read_kept", "split_kept", "write_kept"]

# Shapes: N kept images, 3 classes in the order negative, neutral, positive.

VERSION = 1
PARTS = ("train", "val")
DIGEST = "kept_sha256"  # in the report: of the file that holds the set
COLUMNS = ("id", "tweet", "class", *SHARES, "gold_seen", "split")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """N kept images, in the manifest's order.

    Attributes
    ----------
    tweets
        The tweet of each: images of one tweet share its text and its label.
    classes
        int64 (N,): 0 negative, 1 neutral, 2 positive.
    probabilities
        float32 (N, 3) of the teacher.
    gold_seen
        bool (N,): the teacher knew this pair's human label.
    split
        "train" or "val" of each.
    metadata
        Plain values: dataset, labels (name and digest of the pseudo-labels), thresholds, dedup, val_share,
        seed, report.
    """

    ids: tuple[str, ...]
    tweets: tuple[str, ...]
    classes: npt.NDArray[np.int64]
    probabilities: Floats
    gold_seen: npt.NDArray[np.bool_]
    split: tuple[str, ...]
    metadata: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def confidence(self) -> Floats:
        """(N,) the probability of the class."""
        confidence: Floats = self.probabilities.max(1, initial=0.0)
        return confidence


def split_kept(
    class_by_id: Mapping[str, str], components: Mapping[str, str], *, val_share: float, seed: int
) -> dict[str, str]:
    """id → "train" or "val": floor(n · share) of a class's n images for validation, or near that.

    Whole groups decide how near.

    Parameters
    ----------
    class_by_id
        Class name of every kept image.
    components
        id → name of what it belongs together with, over tweets and near-duplicates: none is divided.

    Raises
    ------
    ConfigError
        A share outside 0..1; 0 leaves the validation part empty.
    """
    if not 0.0 <= val_share < 1.0:
        raise ConfigError(
            f"--val-share: expected a share from 0 to less than 1, found {val_share}. Type: --val-share 0.1"
        )
    share = Fraction(str(val_share))
    names = list(class_by_id.values())
    counts = {name: names.count(name) for name in SENTIMENT}
    val = {name: floor(n * share) for name, n in counts.items()}
    quotas = {"val": val, "train": {name: n - val[name] for name, n in counts.items()}}
    return fill_parts(class_by_id, quotas, seed, {id_: components[id_] for id_ in class_by_id})


def kept_path(artifacts: Path, dataset: str, name: str = DEFAULT_NAME, ending: str = ".parquet") -> Path:
    """Where the kept set of this name lies, or will; with another ending what lies beside it."""
    return crowd_file(artifacts, dataset, "kept", name, ending)


def write_kept(artifacts: Path, dataset: str, name: str, kept: Kept, *, overwrite: bool = False) -> Path:
    """Write the set; the very same set may be written again, and gives the same bytes.

    Raises
    ------
    ConfigError
        Another set has this name already, and `overwrite` is not set.
    DataError
        The folder cannot be written.
    """
    path = kept_path(artifacts, dataset, name)
    columns = _columns(kept)
    if not overwrite and files.is_file(path):
        found, metadata = files.read_table(path, list(columns), hint=_hint(dataset, name))
        is_same = same_json(metadata.get("kept") or {}, kept.metadata)
        if not is_same or any(found[key] != list(columns[key][1]) for key in columns):
            refuse_overwriting(path, "kept images")
    files.write_table(path, columns, _metadata(kept))
    return path


def digest_kept(kept: Kept) -> str:
    """SHA-256 of the file that `write_kept` makes."""
    return files.digest(files.table_bytes(_columns(kept), _metadata(kept)))


def _columns(kept: Kept) -> dict[str, tuple[str, Sequence[Any]]]:
    return {
        "id": ("string", list(kept.ids)),
        "tweet": ("string", list(kept.tweets)),
        "class": ("string", [SENTIMENT[i] for i in kept.classes.tolist()]),
        "confidence": ("float32", kept.confidence.tolist()),
        **{share: ("float32", kept.probabilities[:, i].tolist()) for i, share in enumerate(SHARES)},
        "gold_seen": ("bool", kept.gold_seen.tolist()),
        "split": ("string", list(kept.split)),
    }


def _metadata(kept: Kept) -> dict[str, Any]:
    return {"version": VERSION, "kept": dict(kept.metadata)}


def read_kept(artifacts: Path, dataset: str, name: str = DEFAULT_NAME) -> Kept:
    """The kept set of this name.

    Raises
    ------
    DataError
        There is none (with the names there are), the file is damaged, or the report beside it is of another set.
    """
    path = kept_path(artifacts, dataset, name)
    hint = _hint(dataset, name)
    if not files.is_file(path):
        known = ", ".join(list_kept(artifacts, dataset)) or "none"
        raise DataError(f"{path}: expected a kept set of {dataset}, found none. There are: {known}. {hint}")
    _refuse_other_report(path, f"{hint} --force")
    columns, metadata = files.read_table(path, COLUMNS, hint=hint)
    odd = sorted({*columns["class"]} - {*SENTIMENT}) + sorted({*columns["split"]} - {*PARTS})
    if metadata.get("version") != VERSION or odd:
        found = f"version {metadata.get('version')!r}" + (f" and the words {', '.join(odd)}" if odd else "")
        raise DataError(f"{path}: expected a kept set of version {VERSION}, found {found}. Delete it. {hint}")
    positions = {label: i for i, label in enumerate(SENTIMENT)}
    return Kept(
        ids=tuple(columns["id"]),
        tweets=tuple(columns["tweet"]),
        classes=np.array([positions[label] for label in columns["class"]], dtype=np.int64),
        probabilities=np.array([columns[share] for share in SHARES], dtype=np.float32).T.copy(),
        gold_seen=np.array(columns["gold_seen"], dtype=np.bool_),
        split=tuple(columns["split"]),
        metadata=metadata["kept"],
    )


def _refuse_other_report(path: Path, hint: str) -> None:
    """A filter that was stopped leaves the new report beside the old set, which nobody wants to train on by mistake."""
    report = path.with_suffix(".json")
    if not files.is_file(report):
        return
    named = files.read_json(report, hint=hint).get(DIGEST)
    if named is not None and named != files.digest(files.read_bytes(path, hint=hint)):
        raise DataError(
            f"{path}: expected the set that {report.name} reports on, found another: a filter was stopped. {hint}"
        )


def list_kept(artifacts: Path, dataset: str) -> list[str]:
    """Names of the kept sets of a dataset."""
    folder = artifacts / "crowd" / dataset
    return sorted(path.name.removeprefix("kept-").removesuffix(".parquet") for path in folder.glob("kept-*.parquet"))


def _hint(dataset: str, name: str) -> str:
    return f"Run: sentifuse distil filter --dataset {dataset}" + ("" if name == DEFAULT_NAME else f" --name {name}")
