"""How many duplicates a dataset has, by every notion of "the same": what the audit shows beside published counts.

Counts only; which pairs belong together for a split is decided in `groups.py`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sentifuse.data.groups import MAX_BITS, Edges, name_components, near_hashes, same_keys
from sentifuse.data.image_hashes import Hashes
from sentifuse.data.manifest import Pair
from sentifuse.data.text import normalise

BITS = (0, 2, MAX_BITS, 8, 10)

Counts = dict[str, int]  # "groups" of several pairs, their "members" in all, the "largest"


def count_duplicates(pairs: Sequence[Pair], hashes: Hashes) -> dict[str, Counts]:
    """Groups among these pairs alone, by text, by image, and by either as splits join them."""
    ids = [pair.id for pair in pairs]
    values = [hashes.get(pair.image_digest) if pair.image_digest else None for pair in pairs]
    normalised = same_keys([normalise(pair.text) for pair in pairs])
    near = {bits: near_hashes(values, bits) for bits in BITS}
    edges: dict[str, list[Edges]] = {
        "text, ends stripped": [same_keys([pair.text.strip() for pair in pairs])],
        "text, normalised": [normalised],
        "image file": [same_keys([pair.image_digest for pair in pairs])],
        **{f"image, hash within {bits} bits": [near[bits]] for bits in BITS},
        f"either: normalised text or {MAX_BITS} bits": [normalised, near[MAX_BITS]],
    }
    return {what: count_groups(name_components(ids, found)) for what, found in edges.items()}


def count_groups(names: Iterable[str]) -> Counts:
    """Counts from the group name of every pair.

    >>> count_groups(["a", "a", "b", "c", "c", "c"])
    {'groups': 2, 'members': 5, 'largest': 3}
    """
    sizes: Mapping[str, int] = Counter(names)
    several = [n for n in sizes.values() if n > 1]
    return {"groups": len(several), "members": sum(several), "largest": max(several, default=1)}
