"""Why pairs were left out, counted. Knows no reason itself."""

from collections import Counter
from collections.abc import Mapping


def count_reasons(left_out: Mapping[str, str]) -> dict[str, int]:
    """How many pairs there are of each reason (id -> reason), the commonest first.

    >>> count_reasons({"a": "unsure: neutral", "b": "image: missing", "c": "unsure: neutral"})
    {'unsure: neutral': 2, 'image: missing': 1}
    """
    return dict(sorted(Counter(left_out.values()).items(), key=lambda item: (-item[1], item[0])))
