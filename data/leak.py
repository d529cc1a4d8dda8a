"""The leak of a split: how many validation and test pairs share a group of near-duplicates with a training pair.

Counts only. Gives no id away, so training may read the result.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from sentifuse.data.groups import Groups
from sentifuse.data.protocols import random_split

HELD_OUT = ("val", "test")
KINDS = {"group": "group", "text": "text_group", "image": "image_group"}

Leak = dict[str, dict[str, int]]  # part -> "n" pairs, and how many share a "group", "text" or "image" with training


def count_leak(parts: Mapping[str, str], groups: Groups) -> Leak:
    """Counts for the validation and the test part of one split (id -> part).

    "text" and "image" pairs have the normalised text, or nearly the picture, of a training pair; "group" ones either,
    over any number of steps.
    """
    leak: Leak = {part: {"n": list(parts.values()).count(part)} for part in HELD_OUT}
    for kind, column in KINDS.items():
        names = groups.by_id(column)
        in_training = {names[id_] for id_, part in parts.items() if part == "train"}
        for part in HELD_OUT:
            leak[part][kind] = sum(names[id_] in in_training for id_, found in parts.items() if found == part)
    return leak


def random_leak(labels_by_id: Mapping[str, str], groups: Groups, seeds: Sequence[int]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over seeds of the share of test pairs that leak, under 8:1:1 at random, by kind."""
    leaks = [count_leak(random_split(labels_by_id, seed), groups)["test"] for seed in seeds]
    shares = {kind: [leak[kind] / max(1, leak["n"]) for leak in leaks] for kind in KINDS}
    return {kind: {"mean": fmean(values), "sd": stdev(values)} for kind, values in shares.items()}
