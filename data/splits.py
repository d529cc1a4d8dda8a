"""Splits on disk: which labelled pair is for training, validation and test, under a protocol and a seed.

A split follows from ids, labels, groups of near-duplicates, published lists and a seed. Never looks at features.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.data.card import read_card
from sentifuse.data.groups import Groups, ensure_groups
from sentifuse.data.labels import Labels, read_labels
from sentifuse.data.leak import HELD_OUT, count_leak
from sentifuse.data.manifest import prepare_hint, read_manifest
from sentifuse.data.protocols import (
    FOLDED,
    GROUPED,
    PROTOCOLS,
    PUBLISHED,
    digest_folds,
    digest_parts,
    fold_parts,
    fold_split,
    given_split,
    missing_class,
    random_split,
)
from sentifuse.data.published import check_lists, has_lists, published_splits, read_lists, refusal
from sentifuse.data.source import SPLITS

GIVEN_NAME = "given.parquet"  # the source's own split column, of all pairs, labelled or not
VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFacts:
    """What may be known of a split without its ids.

    `fold` is 0 and `k` is 0 under a protocol without folds. `digest` is of the ids of all three parts of this fold,
    `parts` their sizes. `leak`: for "val" and "test" the pairs ("n") and how many of them share a "group", a "text" or
    an "image" with training. `n_hashed` of the dataset's `n_pairs` have an image that could be compared. `missing`:
    listed ids of a published protocol that the manifest lacks.
    """

    protocol: str
    rule: str
    seed: int
    fold: int
    k: int
    digest: str
    parts: Mapping[str, int]
    leak: Mapping[str, Mapping[str, int]]
    n_hashed: int
    n_pairs: int
    missing: int


def ensure_split(dataset_dir: Path, *, protocol: str | None = None, seed: int = 0, rule: str | None = None) -> Path:
    """The file of this split, written or written anew when it does not fit the labels and groups as they are now.

    Parameters
    ----------
    protocol, rule
        None takes the card's.

    Returns
    -------
    Path
        `splits/<protocol>-s<seed>.parquet` with columns id, fold, split, one row per fold and id; its metadata names
        rule, seed, labels and groups, and per fold digest, sizes and leak.

    Raises
    ------
    ConfigError
        No such protocol or rule; or more folds than a class has pairs.
    DataError
        The dataset is not prepared, its source gives no split, or published lists were never given.
    """
    card = read_card(dataset_dir)
    protocol = card.protocol if protocol is None else protocol
    if protocol not in PROTOCOLS:
        raise ConfigError.unknown("protocol", protocol, PROTOCOLS, where="--protocol")
    return write_split(
        dataset_dir,
        read_labels(dataset_dir, rule),
        protocol=protocol,
        seed=seed,
        k=card.folds,
        groups=ensure_groups(dataset_dir),
    )


def write_split(dataset_dir: Path, labels: Labels, *, protocol: str, seed: int, k: int, groups: Groups) -> Path:
    """Write the split of these labels and groups when the file there does not fit them."""
    path = dataset_dir / "splits" / f"{protocol}-s{seed}.parquet"
    labels_by_id = labels.by_id()
    given = _read_given(dataset_dir) if protocol == "given" else {}
    lists = read_lists(dataset_dir, protocol) if protocol in PUBLISHED else None
    missing = 0
    if lists is not None:
        check = check_lists(lists, read_manifest(dataset_dir), labels)
        missing = len(check.missing)
        if refusal(lists, check):
            raise DataError(refusal(lists, check))
    basis = json.dumps([labels_by_id, given, lists.folds if lists else None], sort_keys=True)
    metadata: dict[str, Any] = {
        "version": VERSION,
        "protocol": protocol,
        "rule": labels.rule,
        "seed": seed,
        "k": 0 if protocol not in FOLDED else len(lists.folds) if lists else k,
        "labels": files.digest(basis.encode()),
        "groups": groups.digest,
    }
    if files.is_file(path):
        found = files.read_metadata(path, hint=prepare_hint(dataset_dir))
        if {name: found.get(name) for name in metadata} == metadata:
            return path
    joined = groups.by_id() if protocol in GROUPED else None
    if lists is not None:
        splits = published_splits(lists, labels_by_id)
    elif protocol in FOLDED:
        part_by_id = fold_parts(labels_by_id, seed, k, joined)
        splits = {fold: fold_split(part_by_id, fold, k) for fold in range(1, k + 1)}
        _refuse_lacking(splits, labels_by_id, protocol, k)
    elif protocol == "given":
        splits = {0: given_split(labels_by_id, given, seed)}
    else:
        splits = {0: random_split(labels_by_id, seed, groups=joined)}
    digests = {fold: digest_parts(parts) for fold, parts in splits.items()}
    folds = [
        {
            "fold": fold,
            "digest": digests[fold],
            "parts": {part: list(parts.values()).count(part) for part in SPLITS},
            "leak": count_leak(parts, groups),
        }
        for fold, parts in splits.items()
    ]
    columns: dict[str, tuple[str, list[Any]]] = {
        "id": ("string", [id_ for parts in splits.values() for id_ in parts]),
        "fold": ("int32", [fold for fold, parts in splits.items() for _ in parts]),
        "split": ("string", [part for parts in splits.values() for part in parts.values()]),
    }
    facts = {
        "digest": digest_folds(digests.values()),
        "folds": folds,
        "missing": missing,
        "n_hashed": groups.n_hashed,
        "n_pairs": len(groups.ids),
    }
    files.write_table(path, columns, metadata | facts)
    return path


def read_split(
    dataset_dir: Path,
    *,
    protocol: str | None = None,
    seed: int = 0,
    rule: str | None = None,
    fold: int = 0,
    parts: tuple[str, ...],
) -> dict[str, tuple[str, ...]]:
    """The ids of the parts asked for, and of no other: training asks for ("train", "val") and cannot see test.

    Parameters
    ----------
    protocol, seed, rule
        Those of `ensure_split`, which is called first.
    fold
        1 to k under a protocol with folds, 0 under the others.

    Returns
    -------
    dict
        part -> ids in the manifest's order. Rows of other parts and folds do not leave the file.

    Raises
    ------
    ConfigError
        No such part, no such fold; and what `ensure_split` refuses.
    """
    for part in parts:
        if part not in SPLITS:
            raise ConfigError.unknown("part of the split", part, SPLITS)
    path = ensure_split(dataset_dir, protocol=protocol, seed=seed, rule=rule)
    _fold_facts(dataset_dir, path, fold)
    hint = f"Delete it. {prepare_hint(dataset_dir)}"
    wanted = {"fold": (fold,), "split": parts}
    columns, _ = files.read_table(path, ("id", "split"), hint=hint, where=wanted)
    rows = list(zip(columns["id"], columns["split"], strict=True))
    return {part: tuple(id_ for id_, found in rows if found == part) for part in parts}


def read_split_facts(
    dataset_dir: Path, *, protocol: str | None = None, seed: int = 0, rule: str | None = None, fold: int = 0
) -> SplitFacts:
    """Digest, sizes and leak of a split; parameters and errors are those of `read_split`. Reads no id."""
    path = ensure_split(dataset_dir, protocol=protocol, seed=seed, rule=rule)
    metadata, facts = _fold_facts(dataset_dir, path, fold)
    return SplitFacts(
        protocol=metadata["protocol"],
        rule=metadata["rule"],
        seed=metadata["seed"],
        fold=fold,
        k=metadata["k"],
        digest=facts["digest"],
        parts={part: facts["parts"][part] for part in SPLITS},
        leak={part: facts["leak"][part] for part in HELD_OUT},
        n_hashed=metadata["n_hashed"],
        n_pairs=metadata["n_pairs"],
        missing=metadata["missing"],
    )


def available_protocols(dataset_dir: Path) -> tuple[str, ...]:
    """The protocols that this dataset has what it takes for; those with folds may still find a class too small."""
    has = {name: has_lists(dataset_dir, name) for name in PUBLISHED}
    has["given"] = files.is_file(dataset_dir / "splits" / GIVEN_NAME)
    return tuple(name for name in PROTOCOLS if has.get(name, True))


def describe_split(dataset_dir: Path, path: Path) -> dict[str, Any]:
    """What a card says of a split file: folds, digest of the id lists, missing ids, sizes and leak (fold by fold)."""
    metadata = files.read_metadata(path, hint=prepare_hint(dataset_dir))
    return {name: metadata[name] for name in ("seed", "k", "digest", "missing", "folds")}


def write_given(dataset_dir: Path, split_by_id: Mapping[str, str]) -> None:
    """Keep the source's own split column; without one, remove what an earlier source left."""
    path = dataset_dir / "splits" / GIVEN_NAME
    if split_by_id:
        columns: dict[str, tuple[str, Sequence[Any]]] = {
            "id": ("string", list(split_by_id)),
            "split": ("string", list(split_by_id.values())),
        }
        files.write_table(path, columns, {"version": 1})
    else:
        files.remove(path)


def _read_given(dataset_dir: Path) -> dict[str, str]:
    path = dataset_dir / "splits" / GIVEN_NAME
    columns, _ = files.read_table(
        path, ("id", "split"), hint="The source of this dataset has no split column: use --protocol random"
    )
    return dict(zip(columns["id"], columns["split"], strict=True))


def _fold_facts(dataset_dir: Path, path: Path, fold: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The file's metadata and those of one fold; `ConfigError` with the range when there is no such fold."""
    metadata = files.read_metadata(path, hint=prepare_hint(dataset_dir))
    by_fold = {facts["fold"]: facts for facts in metadata["folds"]}
    if fold not in by_fold:
        protocol, k = metadata["protocol"], metadata["k"]
        found = f"found {fold}" if fold else "found none"
        if not k:
            raise ConfigError(f"--fold: protocol {protocol} has no folds, {found}. Leave it out")
        raise ConfigError(f"--fold: expected 1 to {k} (protocol {protocol} has {k} folds), {found}. Type: --fold 1")
    return metadata, by_fold[fold]


def _refuse_lacking(
    splits: Mapping[int, Mapping[str, str]], labels_by_id: Mapping[str, str], name: str, k: int
) -> None:
    for fold, parts in splits.items():
        lacking = missing_class(parts, labels_by_id)
        if lacking is not None:
            raise ConfigError(
                f"--folds {k}: protocol {name}, fold {fold}: expected pairs of every class in every part, found none "
                f"of {lacking[1]} in {lacking[0]}: its pairs form too few groups. Prepare with fewer --folds"
            )
