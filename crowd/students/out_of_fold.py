"""Folds of pairs that belong together, and which student may answer for which pair.

Pairs of one tweet, and near-duplicates by text or image, always share a fold, over any number of steps. Folds follow
from ids, groups and a seed alone: no label moves a pair. Trains nothing.
"""

import heapq
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from sentifuse import ConfigError, DataError
from sentifuse.cache.fingerprint import fingerprint

__all__ = ["ALL", "assign_folds", "choose_students", "digest_folds"]

ALL = 0  # the student that saw every pair of the training; also where a pair that no student saw is answered
SHOWN_IDS = 5


def assign_folds(components: Mapping[str, str], k: int, seed: int) -> dict[str, int]:
    """id -> fold, from 1 to k; folds have as nearly the same number of pairs as whole components allow.

    Raises
    ------
    ConfigError
        Fewer than two folds, or fewer components than folds.
    """
    sizes: dict[str, int] = defaultdict(int)
    for name in components.values():
        sizes[name] += 1
    if k < 2:
        raise ConfigError(f"--folds: expected 0 (none) or at least 2, found {k}")
    if len(sizes) < k:
        raise ConfigError(
            f"--folds {k}: expected at least {k} groups of pairs that belong together, found {len(sizes)} in "
            f"{len(components):,} pairs. Take fewer folds; or do the ids end in -1, -2, … without being images of one "
            "tweet?"
        )
    names = sorted(sizes)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    fold_of: dict[str, int] = {}
    heap = [(0, fold) for fold in range(1, k + 1)]
    for name in sorted(shuffled, key=lambda name: -sizes[name]):  # the largest first; the sort keeps the shuffled order
        count, fold = heapq.heappop(heap)
        fold_of[name] = fold
        heapq.heappush(heap, (count + sizes[name], fold))
    return {id_: fold_of[name] for id_, name in components.items()}


def choose_students(
    ids: Collection[str],
    components: Mapping[str, str],
    seen: Mapping[str, Collection[int]],
    *,
    where: str,
) -> dict[str, int]:
    """id -> the fold whose student answers for this pair: it saw neither the pair nor what belongs together with it.

    Parameters
    ----------
    ids
        Of the pairs that ask.
    components
        id -> name of what it belongs together with, in the same dataset.
    seen
        id -> the folds that its image was held out from; 0: from none, every student saw it.
    where
        Student and dataset, for messages.

    Raises
    ------
    DataError
        A pair that every student saw, itself or its near-duplicate.
    """
    held_out: dict[str, set[int]] = defaultdict(set)
    for id_, folds in seen.items():
        held_out[components[id_]].update(folds)
    _refuse_seen(held_out, components, where)
    return {id_: next(iter(held_out.get(components[id_], {ALL}))) for id_ in ids}


def digest_folds(fold_of: Mapping[str, int]) -> str:
    """64 hex digits of who is answered by a student of a fold; new pairs that nobody saw change nothing."""
    return fingerprint({id_: fold for id_, fold in fold_of.items() if fold != ALL})


def _refuse_seen(held_out: Mapping[str, set[int]], components: Mapping[str, str], where: str) -> None:
    by_all = _members({name for name, folds in held_out.items() if ALL in folds}, components)
    if by_all:
        raise DataError(
            f"{where}: the student saw {len(by_all):,} of these pairs or their near-duplicates ({_some(by_all)}), and "
            "none was trained without them. Train it out of fold: sentifuse distil train … --folds 5"
        )
    torn = _members({name for name, folds in held_out.items() if len(folds) > 1}, components)
    if torn:
        raise DataError(
            f"{where}: {len(torn):,} pairs ({_some(torn)}) belong together with pairs of several folds, so every "
            "student saw a near-duplicate of them. Pairs came in since the training: train again with --folds"
        )


def _members(names: set[str], components: Mapping[str, str]) -> list[str]:
    return [id_ for id_, name in components.items() if name in names]


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN_IDS]) + (", …" if len(ids) > SHOWN_IDS else "")
