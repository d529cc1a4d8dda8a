"""Split protocols: pure functions from ids, labels, groups and a seed to parts; stratified, seeded, order-free.

One filling serves them all: groups of near-duplicates first, whole, then pairs on their own to the exact counts.
Reads and writes no file.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from math import floor

from sentifuse import ConfigError
from sentifuse.data.source import SPLITS

PROTOCOLS = ("random", "folds", "grouped", "grouped-folds", "fair", "clmlf", "given")
FOLDED = ("folds", "grouped-folds", "fair")  # each fold is the test part once
GROUPED = ("grouped", "grouped-folds")  # near-duplicates never cross a boundary
PUBLISHED = ("fair", "clmlf")  # id lists that others published
DEFAULT_FOLDS = 10
MIN_FOLDS = 3  # a test part, a validation part, and something to train on

Quotas = Mapping[str, Mapping[str, int]]  # part -> class -> how many pairs it should get


def random_split(
    labels_by_id: Mapping[str, str],
    seed: int,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    groups: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Stratified split: id -> "train", "val" or "test", in the order of `labels_by_id`.

    Of a class with n pairs, val and test get floor(n · fraction) each and train the rest. Within the class pairs are
    ordered by SHA-256 of "seed:id", so neither the order of ids nor other classes matter, and one more pair moves at
    most three others.

    Parameters
    ----------
    groups
        id -> name of its group: no group is divided. See `fill_parts` for what that does to the counts.

    >>> parts = random_split({str(i): "positive" for i in range(25)}, seed=0)
    >>> [sum(part == name for part in parts.values()) for name in ("train", "val", "test")]
    [21, 2, 2]
    """
    exact = [Fraction(str(fraction)) for fraction in fractions]
    if len(exact) != len(SPLITS) or min(exact) < 0 or sum(exact) != 1:
        raise ConfigError(f"fractions: expected three shares of train, val, test that add up to 1, found {fractions}")
    quotas: dict[str, dict[str, int]] = {"test": {}, "val": {}, "train": {}}
    for name, n in Counter(labels_by_id.values()).items():
        n_val, n_test = floor(n * exact[1]), floor(n * exact[2])
        quotas["test"][name], quotas["val"][name], quotas["train"][name] = n_test, n_val, n - n_val - n_test
    return fill_parts(labels_by_id, quotas, seed, groups)


def fold_parts(
    labels_by_id: Mapping[str, str], seed: int, k: int, groups: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Stratified parts 1 to k: id -> part. Counts of a class, and of all pairs, differ by one between parts at most.

    Raises
    ------
    ConfigError
        Fewer than three folds, or a class with fewer pairs than folds.

    >>> parts = fold_parts({str(i): "ab"[i % 2] for i in range(9)}, seed=0, k=3)
    >>> [list(parts.values()).count(part) for part in (1, 2, 3)]
    [3, 3, 3]
    """
    counts = Counter(labels_by_id.values())
    rare = {name: n for name, n in sorted(counts.items()) if n < k}
    if k < MIN_FOLDS or rare:
        found = f"{k} folds" if k < MIN_FOLDS else f"{', '.join(f'{n} of {name}' for name, n in rare.items())}"
        raise ConfigError(
            f"--folds {k}: expected {MIN_FOLDS} folds or more and as many pairs of every class as folds, found "
            f"{found}. Prepare with fewer --folds, label more pairs, or take --protocol random"
        )
    quotas: dict[str, dict[str, int]] = {str(part): {} for part in range(1, k + 1)}
    start = 0  # where the pairs that are left over of each class go: on from the last ones, so that all parts are equal
    for name in sorted(counts):
        each, left = divmod(counts[name], k)
        for part in range(k):
            quotas[str(part + 1)][name] = each + ((part - start) % k < left)
        start = (start + left) % k
    return {id_: int(part) for id_, part in fill_parts(labels_by_id, quotas, seed, groups).items()}


def fold_split(part_by_id: Mapping[str, int], fold: int, k: int) -> dict[str, str]:
    """Fold f of k: the f-th part is for test, the next one (the first after the last) for validation.

    >>> fold_split({"a": 1, "b": 2, "c": 3}, fold=3, k=3)
    {'a': 'val', 'b': 'train', 'c': 'test'}
    """
    names = {fold: "test", fold % k + 1: "val"}
    return {id_: names.get(part, "train") for id_, part in part_by_id.items()}


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


def fill_parts(
    labels_by_id: Mapping[str, str], quotas: Quotas, seed: int, groups: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give every pair to a part: id -> part, groups undivided; the order of ids makes no difference.

    Groups of several pairs come first, the largest before the others, each to a part that has room for all of it,
    drawn in proportion to the room that the parts have left. Then pairs on their own, ordered by SHA-256 of "seed:id",
    fill each class of each part. So every part has exactly its quota of every class, wherever the groups leave enough
    pairs on their own: with MVSA they do. A group that fits nowhere goes where it exceeds the quotas least, and the
    other parts share what is then lacking.
    """
    members = _members(labels_by_id, groups)
    room = {part: Counter(quota) for part, quota in quotas.items()}
    found: dict[str, str] = {}
    several = {name: ids for name, ids in members.items() if len(ids) > 1}
    for name in sorted(several, key=lambda name: (-len(several[name]), _hash(seed, name))):
        counts = Counter(labels_by_id[id_] for id_ in several[name])
        part = _choose_part(room, counts, seed, name)
        room[part].subtract(counts)
        found |= dict.fromkeys(several[name], part)
    alone: dict[str, list[str]] = defaultdict(list)
    for ids in members.values():
        if len(ids) == 1:
            alone[labels_by_id[ids[0]]].append(ids[0])
    for label, ids in alone.items():
        ordered = iter(sorted(ids, key=lambda id_: _hash(seed, id_)))
        for part, n in _share_out(len(ids), {part: left[label] for part, left in room.items()}).items():
            found |= {next(ordered): part for _ in range(n)}
    return {id_: found[id_] for id_ in labels_by_id}


def _members(labels_by_id: Mapping[str, str], groups: Mapping[str, str] | None) -> dict[str, list[str]]:
    """Group -> its labelled pairs; without groups every pair is one."""
    if groups is None:
        return {id_: [id_] for id_ in labels_by_id}
    members: dict[str, list[str]] = defaultdict(list)
    for id_ in labels_by_id:
        members[groups[id_]].append(id_)
    return members


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _choose_part(room: Mapping[str, Counter[str]], counts: Counter[str], seed: int, name: str) -> str:
    """A part with room for all of a group, drawn by its name; where there is none, the part it exceeds least."""
    excess = {part: _excess(left, counts) for part, left in room.items()}
    least = min(excess.values())
    # Of the parts that are exceeded equally, those that lack most are likelier; +1: a full part may be drawn too.
    weights = {part: max(0, left.total()) + 1 for part, left in room.items() if excess[part] == least}
    point = int.from_bytes(_hash(seed, f"group {name}")) % sum(weights.values())
    for part, weight in weights.items():
        point -= weight
        if point < 0:
            return part
    raise AssertionError("the point lies within the weights")


def _excess(left: Counter[str], counts: Counter[str]) -> int:
    return sum(max(0, n - max(0, left[label])) for label, n in counts.items())


def _share_out(n: int, room: Mapping[str, int]) -> dict[str, int]:
    """How many of n pairs each part gets: its room; what is lacking is taken from the parts with most room, evenly."""
    shares = {part: max(0, left) for part, left in room.items()}
    for _ in range(sum(shares.values()) - n):
        fullest = max(shares, key=lambda part: shares[part])
        shares[fullest] -= 1
    return shares


def missing_class(
    parts: Mapping[str, str], labels_by_id: Mapping[str, str], names: Collection[str] = SPLITS
) -> tuple[str, str] | None:
    """(part, class) of a part among `names` that lacks a class which the others have; None when all is well."""
    counts = Counter((part, labels_by_id[id_]) for id_, part in parts.items())
    labels = sorted({label for _, label in counts})
    return next(((part, label) for part in names for label in labels if not counts[part, label]), None)


def digest_parts(parts: Mapping[str, str]) -> str:
    """SHA-256 of which id is in which part, in any order: what a card, a run and a table remember of a split."""
    return hashlib.sha256("\n".join(sorted(f"{part}\t{id_}" for id_, part in parts.items())).encode()).hexdigest()


def digest_folds(digests: Iterable[str]) -> str:
    """One digest of all folds of a protocol, in order; of a single split its own.

    >>> digest_folds(["ab"])
    'ab'
    """
    found: Sequence[str] = list(digests)
    return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()
