"""A recipe's name: SHA-256 of its canonical JSON. What belongs into a recipe is decided where the recipe is made.

A setting that was added later and stands at its default is left out of the recipe by its maker; then old fingerprints
stay valid. Numbers keep their type: 1 and 1.0 are two recipes.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from sentifuse.cache.errors import CacheError

__all__ = ["canonical_json", "fingerprint", "plain"]


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces, shortest floats; tuples become lists.

    Raises
    ------
    CacheError
        For NaN and infinities, keys that are no strings, and anything that JSON has no word for. Subclasses of the
        plain types (numpy scalars, enums) are refused too: their text may change with a library.

    Examples
    --------
    >>> canonical_json({"b": (1, 2.0), "a": None})
    b'{"a":null,"b":[1,2.0]}'
    """
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """64 hex digits that name a recipe."""
    return hashlib.sha256(canonical_json(recipe)).hexdigest()


def plain(value: Any, where: str = "recipe") -> Any:
    """A copy made of dict, list, str, int, float, bool and None only, equal to what its JSON reads back as."""
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is str:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise CacheError(f"{where}: {value!r} has a lone surrogate, which UTF-8 cannot hold") from error
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise CacheError(f"{where}: {value} has no place in a recipe; expected a finite number")
        return value
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise CacheError(f"{where}: key {key!r} is a {type(key).__name__}, expected a string")
        return {plain(key, where): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{position}]") for position, item in enumerate(value)]
    raise CacheError(
        f"{where}: {value!r} is a {type(value).__name__}, expected a mapping, list, string, number, bool or None"
    )
