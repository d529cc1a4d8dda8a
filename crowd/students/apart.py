"""Validation apart from training: no tweet and no near-duplicate is learned from and scored on.

Looks at ids and groups alone. Which test part is left out is decided in `material`.
"""

from collections import defaultdict
from collections.abc import Mapping

from sentifuse import ConfigError
from sentifuse.crowd.students.material import MaterialRequest, read_parts
from sentifuse.data.groups import joins_tweets
from sentifuse.data.prepare import dataset_dir
from sentifuse.data.source import SPLITS
from sentifuse.data.tweets import tweet_of

__all__ = ["SHARED", "find_shared", "refuse_divided_tweets"]

SHARED = "shares its tweet or a near-duplicate with the training part"
SHOWN_IDS = 3


def find_shared(train_ids: tuple[str, ...], val_ids: tuple[str, ...], components: Mapping[str, str]) -> dict[str, str]:
    """id -> `SHARED`, of the validation pairs that belong together with a training pair."""
    trained = {components[id_] for id_ in train_ids}
    return {id_: SHARED for id_ in val_ids if components[id_] in trained}


def refuse_divided_tweets(request: MaterialRequest) -> None:
    """Refuse a split by image, of a dataset whose tweets have several.

    Raises
    ------
    ConfigError
        Images of one tweet lie in different parts; the message has the protocols to take.
    """
    if not request.uses_split or not joins_tweets(dataset_dir(request.artifacts, request.dataset)):
        return
    parts_of: dict[str, set[str]] = defaultdict(set)
    for part, ids in read_parts(request, SPLITS).items():
        for id_ in ids:
            parts_of[tweet_of(id_)].add(part)
    divided = [tweet for tweet, found in parts_of.items() if len(found) > 1]
    if divided:
        raise ConfigError(
            f"--protocol {request.protocol}: expected a split by tweet, found {len(divided):,} tweets of "
            f"{request.dataset} with images in several parts ({', '.join(divided[:SHOWN_IDS])}"
            f"{', …' if len(divided) > SHOWN_IDS else ''}). Type: --protocol given or --protocol grouped"
        )
