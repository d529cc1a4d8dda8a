"""Groups of near-duplicate pairs: the same normalised text, or images whose perceptual hashes differ in few bits.

So are the images of one tweet, in a dataset of tweets. Pairs are joined over any number of steps (connected
components). Knows no labels and no splits.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from sentifuse.data import files
from sentifuse.data.card import FILE_NAME as CARD_NAME
from sentifuse.data.card import read_card
from sentifuse.data.image_hashes import FILE_NAME as HASHES_NAME
from sentifuse.data.image_hashes import ensure_image_hashes
from sentifuse.data.manifest import FILE_NAME as MANIFEST_NAME
from sentifuse.data.manifest import prepare_hint, read_manifest
from sentifuse.data.text import normalise
from sentifuse.data.tweets import tweet_of

FILE_NAME = "groups.parquet"
VERSION = 1
MAX_BITS = 4  # up to here pictures are the same to the eye; from 6 on they are often unrelated
HASH_BITS = 64
MANY_EDGES = 1 << 20  # that wait to be thinned out: 16 MiB
TWEET_READERS = ("t4sa",)  # only their ids say which pairs are of one tweet: elsewhere 12-3 is a name like others
COLUMNS = ("id", "group", "text_group", "image_group")

Edges = np.ndarray[Any, np.dtype[np.int64]]  # (E, 2) positions of pairs that are near-duplicates


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Which pairs of a manifest belong together. A group is named by its smallest id, so a pair on its own by itself.

    `group` joins by text, image or tweet; `text_group` and `image_group` by one of them alone. `n_hashed` pairs have
    an image that could be decoded. `digest` changes with any of it.
    """

    ids: tuple[str, ...]
    group: tuple[str, ...]
    text_group: tuple[str, ...]
    image_group: tuple[str, ...]
    n_hashed: int
    digest: str

    def by_id(self, kind: str = "group") -> dict[str, str]:
        """id -> name of its `group`, `text_group` or `image_group`."""
        return dict(zip(self.ids, getattr(self, kind), strict=True))


def read_groups(dataset_dir: Path) -> dict[str, str]:
    """id -> name of its group, for every pair of the manifest; see `ensure_groups`."""
    return ensure_groups(dataset_dir).by_id()


def joins_tweets(dataset_dir: Path) -> bool:
    """Whether the pairs of a prepared dataset are images of tweets, whose ids say which belong to one."""
    return files.is_file(dataset_dir / CARD_NAME) and read_card(dataset_dir).reader in TWEET_READERS


def ensure_groups(
    dataset_dir: Path, progress: Callable[[int, int], None] | None = None, *, reader: str | None = None
) -> Groups:
    """The groups of a prepared dataset, computed and kept when pairs or images are new.

    An image that is missing or cannot be decoded joins its pair to no other; so does a text without a word.

    Parameters
    ----------
    progress
        Called with (images hashed, images to hash), if there are any.
    reader
        Of the dataset, while its card is not there yet; None: as the card says.

    Raises
    ------
    DataError
        The dataset is not prepared, or a file of it is damaged.
    """
    manifest = read_manifest(dataset_dir)
    hashes = ensure_image_hashes(dataset_dir, manifest, progress)
    path = dataset_dir / FILE_NAME
    has_tweets = joins_tweets(dataset_dir) if reader is None else reader in TWEET_READERS
    expected: dict[str, Any] = {"version": VERSION, "max_bits": MAX_BITS, "inputs": _inputs_digest(dataset_dir)}
    expected |= {"has_tweets": True} if has_tweets else {}
    if files.is_file(path):
        columns, metadata = files.read_table(path, COLUMNS, hint=prepare_hint(dataset_dir))
        if {key: metadata.get(key) for key in ("has_tweets", *expected)} == {"has_tweets": None, **expected}:
            return _groups(columns, metadata)
    values = [hashes.get(pair.image_digest) if pair.image_digest else None for pair in manifest.pairs]
    text_edges = same_keys([normalise(pair.text) for pair in manifest.pairs])
    image_edges = near_hashes(values, MAX_BITS)
    tweet_edges = [same_keys([tweet_of(id_) for id_ in manifest.ids])] if has_tweets else []
    edges = {"group": [text_edges, image_edges, *tweet_edges], "text_group": [text_edges], "image_group": [image_edges]}
    columns = {"id": list(manifest.ids)} | {name: name_components(manifest.ids, edges[name]) for name in COLUMNS[1:]}
    rows = sorted(zip(*columns.values(), strict=True))
    metadata = expected | {
        "n_hashed": sum(value is not None for value in values),
        "digest": files.digest("\n".join("\t".join(row) for row in rows).encode()),
    }
    files.write_table(path, {name: ("string", column) for name, column in columns.items()}, metadata)
    return _groups(columns, metadata)


def _groups(columns: Mapping[str, Sequence[str]], metadata: Mapping[str, Any]) -> Groups:
    return Groups(
        ids=tuple(columns["id"]),
        group=tuple(columns["group"]),
        text_group=tuple(columns["text_group"]),
        image_group=tuple(columns["image_group"]),
        n_hashed=int(metadata["n_hashed"]),
        digest=str(metadata["digest"]),
    )


def same_keys(keys: Sequence[str]) -> Edges:
    """Edges between positions with the same key, each position of a kind joined to its first one; "" equals nothing."""
    first: dict[str, int] = {}
    edges = [(first[key], place) for place, key in enumerate(keys) if key and first.setdefault(key, place) != place]
    return np.array(edges, dtype=np.int64).reshape(-1, 2)


def near_hashes(hashes: Sequence[int | None], max_bits: int) -> Edges:
    """Edges that join all positions whose 64-bit hashes differ in at most `max_bits` bits; None is near to nothing.

    Joined over any number of steps, that is: each edge is between near hashes, but of a family of many not every near
    pair has one (`near_values` gives them all). Equal hashes are joined in a star.

    >>> near_hashes([0, None, 0b111, 0, 1 << 63], max_bits=1).tolist()
    [[0, 3], [0, 4]]
    """
    places = np.array([place for place, value in enumerate(hashes) if value is not None], dtype=np.int64)
    known = np.array([value for value in hashes if value is not None], dtype=np.uint64)
    values, first, inverse = np.unique(known, return_index=True, return_inverse=True)
    equal = np.stack([first[inverse], np.arange(len(known))], axis=1)
    found, waiting, n_waiting = np.empty((0, 2), dtype=np.int64), [], 0
    for pairs in near_values(values, max_bits):
        waiting.append(pairs)
        n_waiting += len(pairs)
        if n_waiting > max(len(values), MANY_EDGES):
            found, waiting, n_waiting = join_with_few(np.concatenate([found, *waiting]), len(values)), [], 0
    found = join_with_few(np.concatenate([found, *waiting]), len(values))
    edges = np.sort(np.concatenate([equal[equal[:, 0] != equal[:, 1]], first[found]]), axis=1)
    # One number an edge: numpy sorts rows slowly.
    numbers = np.unique(edges[:, 0] * len(known) + edges[:, 1])
    joined: Edges = places[np.stack(np.divmod(numbers, max(1, len(known))), axis=1)]
    return joined


def near_values(values: np.ndarray[Any, np.dtype[np.uint64]], max_bits: int) -> Iterable[Edges]:
    """All pairs of positions of distinct hashes that differ in at most `max_bits` bits, some at a time.

    Such hashes are equal in at least one of max_bits + 1 bands of bits, so only those of one band value are compared:
    in vectors, never N x N. A pair comes once for every band that it shares.
    """
    limits = np.linspace(0, HASH_BITS, max_bits + 2).astype(np.uint64)
    for low, high in pairwise(limits):
        band = (values >> low) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        band, ordered = band[order], values[order]
        # Neighbours at distance 1, 2, … within a run of one band value; a run shorter than that takes no more part.
        here = np.arange(len(values))
        step = 1
        while len(here):
            here = here[here + step < len(values)]
            here = here[band[here] == band[here + step]]
            near = here[np.bitwise_count(ordered[here] ^ ordered[here + step]) <= max_bits]
            yield np.stack([order[near], order[near + step]], axis=1)
            step += 1


def join_with_few(edges: Edges, n: int) -> Edges:
    """Fewer than `n` of these edges that join the same of `n` positions: a family of k has up to k² / 2 of them.

    >>> len(join_with_few(np.array([[0, 1], [0, 2], [1, 2], [1, 2]]), 3))
    2
    """
    if len(edges) < n:
        return edges
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    tree = minimum_spanning_tree(graph).tocoo()
    return np.stack([tree.row, tree.col], axis=1).astype(np.int64)


def name_components(ids: Sequence[str], edges: Sequence[Edges]) -> list[str]:
    """For every id the smallest id (as text) of those it is joined to, over any number of edges.

    >>> name_components(["b", "a", "c"], [np.array([[0, 2]])])
    ['b', 'a', 'b']
    """
    if not ids:
        return []
    rows, columns = np.concatenate([np.empty((0, 2), dtype=np.int64), *edges]).T
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(ids), len(ids)))
    numbers = connected_components(graph, directed=False)[1].tolist()
    members: dict[int, list[str]] = defaultdict(list)
    for id_, number in zip(ids, numbers, strict=True):
        members[number].append(id_)
    names = {number: min(group) for number, group in members.items()}
    return [names[number] for number in numbers]


def _inputs_digest(dataset_dir: Path) -> str:
    contents = [files.read_bytes(dataset_dir / MANIFEST_NAME, hint=prepare_hint(dataset_dir))]
    hashes = dataset_dir / HASHES_NAME
    contents += [files.read_bytes(hashes, hint="")] if files.is_file(hashes) else []
    return files.digest("".join(files.digest(content) for content in contents).encode())
