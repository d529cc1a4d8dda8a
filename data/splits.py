"""Splits: which labelled pair is for training, validation and test; stratified, seeded, stable when the dataset grows.

A split follows from ids, labels and a seed alone. Never looks at features, images or texts.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.data.card import read_card
from sentifuse.data.labels import Labels, read_labels
from sentifuse.data.manifest import prepare_hint
from sentifuse.data.source import SPLITS

PROTOCOLS = ("random", "given")
GIVEN_NAME = "given.parquet"  # the source's own split column, of all pairs, labelled or not


def random_split(
    labels_by_id: Mapping[str, str], seed: int, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> dict[str, str]:
    """Stratified split: id -> "train", "val" or "test", in the order of `labels_by_id`.

    Of a class with n pairs, val and test get floor(n · fraction) each and train the rest. Within the class pairs are
    ordered by SHA-256 of "seed:id", so neither the order of ids nor other classes matter, and one more pair moves at
    most three others.

    >>> parts = random_split({str(i): "positive" for i in range(25)}, seed=0)
    >>> [sum(part == name for part in parts.values()) for name in ("train", "val", "test")]
    [21, 2, 2]
    """
    exact = [Fraction(str(fraction)) for fraction in fractions]
    if len(exact) != len(SPLITS) or min(exact) < 0 or sum(exact) != 1:
        raise ConfigError(f"fractions: expected three shares of train, val, test that add up to 1, found {fractions}")
    by_class: dict[str, list[str]] = defaultdict(list)
    for id_, label in labels_by_id.items():
        by_class[label].append(id_)
    parts: dict[str, str] = {}
    for ids in by_class.values():
        ordered = sorted(ids, key=lambda id_: hashlib.sha256(f"{seed}:{id_}".encode()).digest())
        n_val, n_test = floor(len(ids) * exact[1]), floor(len(ids) * exact[2])
        for place, id_ in enumerate(ordered):
            parts[id_] = "test" if place < n_test else "val" if place < n_test + n_val else "train"
    return {id_: parts[id_] for id_ in labels_by_id}


def given_split(labels_by_id: Mapping[str, str], given: Mapping[str, str], seed: int) -> dict[str, str]:
    """The source's own split of the labelled pairs; pairs without a part in it are left out.

    Where the source names no validation part at all, a tenth of its training part (stratified, by seed) becomes one:
    selection needs it, and the test part must not serve for it.
    """
    parts = {id_: given[id_] for id_ in labels_by_id if given.get(id_)}
    if "val" not in parts.values():
        train = {id_: labels_by_id[id_] for id_, part in parts.items() if part == "train"}
        parts |= random_split(train, seed, (0.9, 0.1, 0.0))
    return parts


def ensure_split(dataset_dir: Path, *, protocol: str | None = None, seed: int = 0, rule: str | None = None) -> Path:
    """The file of this split, written or written anew when it does not fit the labels as they are now.

    Parameters
    ----------
    protocol, rule
        None takes the card's.

    Returns
    -------
    Path
        `splits/<protocol>-s<seed>.parquet` with columns id, fold, split; its metadata names rule, seed and labels.

    Raises
    ------
    ConfigError
        No such protocol or rule.
    DataError
        The dataset is not prepared, or its source gives no split.
    """
    card = read_card(dataset_dir)
    return write_split(
        dataset_dir, read_labels(dataset_dir, rule), protocol=card.protocol if protocol is None else protocol, seed=seed
    )


def write_split(dataset_dir: Path, labels: Labels, *, protocol: str, seed: int) -> Path:
    """Write the split of these labels when the file there does not fit them."""
    if protocol not in PROTOCOLS:
        raise ConfigError.unknown("protocol", protocol, PROTOCOLS, where="--protocol")
    path = dataset_dir / "splits" / f"{protocol}-s{seed}.parquet"
    labels_by_id = labels.by_id()
    given = _read_given(dataset_dir) if protocol == "given" else {}
    basis = json.dumps([labels_by_id, given], sort_keys=True)
    metadata: dict[str, Any] = {
        "protocol": protocol,
        "rule": labels.rule,
        "seed": seed,
        "labels": files.digest(basis.encode()),
    }
    if files.is_file(path) and _read_split_file(path, dataset_dir)[1] == metadata:
        return path
    is_given = protocol == "given"
    parts = given_split(labels_by_id, given, seed) if is_given else random_split(labels_by_id, seed)
    columns: dict[str, tuple[str, list[Any]]] = {
        "id": ("string", list(parts)),
        "fold": ("int32", [0] * len(parts)),
        "split": ("string", list(parts.values())),
    }
    files.write_table(path, columns, metadata)
    return path


def read_split(
    dataset_dir: Path,
    *,
    protocol: str | None = None,
    seed: int = 0,
    rule: str | None = None,
    parts: tuple[str, ...],
) -> dict[str, tuple[str, ...]]:
    """The ids of the parts asked for, and of no other: training asks for ("train", "val") and cannot see test.

    Parameters are those of `ensure_split`, which is called first. Ids are in the manifest's order.
    """
    for part in parts:
        if part not in SPLITS:
            raise ConfigError.unknown("part of the split", part, SPLITS)
    path = ensure_split(dataset_dir, protocol=protocol, seed=seed, rule=rule)
    columns, _ = _read_split_file(path, dataset_dir)
    rows = list(zip(columns["id"], columns["split"], strict=True))
    return {part: tuple(id_ for id_, found in rows if found == part) for part in parts}


def write_given(dataset_dir: Path, split_by_id: Mapping[str, str]) -> None:
    """Keep the source's own split column; without one, remove what an earlier source left."""
    path = dataset_dir / "splits" / GIVEN_NAME
    if split_by_id:
        columns = {"id": ("string", list(split_by_id)), "split": ("string", list(split_by_id.values()))}
        files.write_table(path, columns, {"version": 1})
    else:
        files.remove(path)


def _read_given(dataset_dir: Path) -> dict[str, str]:
    path = dataset_dir / "splits" / GIVEN_NAME
    columns, _ = files.read_table(
        path, ("id", "split"), hint="The source of this dataset has no split column: use --protocol random"
    )
    return dict(zip(columns["id"], columns["split"], strict=True))


def _read_split_file(path: Path, dataset_dir: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    hint = prepare_hint(dataset_dir)
    columns, metadata = files.read_table(path, ("id", "fold", "split"), hint=hint)
    unknown = sorted(set(columns["split"]) - set(SPLITS))
    if unknown:
        raise DataError(f"{path}: expected only the parts {', '.join(SPLITS)}, found {unknown}. Delete it. {hint}")
    return columns, metadata


def part_counts(dataset_dir: Path, path: Path, names: Sequence[str] = SPLITS) -> dict[str, int]:
    """How many pairs each part of a split file has."""
    columns, _ = _read_split_file(path, dataset_dir)
    return {name: columns["split"].count(name) for name in names}
