"""Which pairs belong together: images of one tweet, and near-duplicates by text or image, over any number of steps.

What belongs together shares a part of a kept set and a fold of the students.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from sentifuse.data.groups import ensure_groups, name_components, same_keys
from sentifuse.data.tweets import tweet_of

__all__ = ["components_of", "read_components"]


def read_components(dataset_dir: Path, progress: Callable[[int, int], None] | None = None) -> dict[str, str]:
    """id -> name of the pairs that it belongs together with, for every pair of a prepared dataset.

    Parameters
    ----------
    progress
        Called with (images hashed, images to hash), if there are new ones.
    """
    groups = ensure_groups(dataset_dir, progress)
    return components_of(groups.by_id())


def components_of(groups: Mapping[str, str]) -> dict[str, str]:
    """Groups of near-duplicates (id -> name) joined by their tweets.

    >>> components_of({"7-1": "7-1", "7-2": "7-2", "8-1": "7-2", "9-1": "9-1"})
    {'7-1': '7-1', '7-2': '7-1', '8-1': '7-1', '9-1': '9-1'}
    """
    ids = list(groups)
    edges = [same_keys([groups[id_] for id_ in ids]), same_keys([tweet_of(id_) for id_ in ids])]
    return dict(zip(ids, name_components(ids, edges), strict=True))
