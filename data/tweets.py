"""Which tweet a pair belongs to: a tweet has one text and up to four images, and each image is a pair."""

import re

_IMAGE = re.compile(r"(?P<tweet>.+)-\d+", re.DOTALL)


def tweet_of(pair_id: str) -> str:
    """The tweet's id: the pair's own without its last `-<k>`, or the pair's own where there is none.

    >>> tweet_of("769573412310167552-2"), tweet_of("4711"), tweet_of("a-b")
    ('769573412310167552', '4711', 'a-b')
    """
    found = _IMAGE.fullmatch(pair_id)
    return found["tweet"] if found else pair_id
