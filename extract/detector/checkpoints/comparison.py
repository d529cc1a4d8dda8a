"""Names and shapes of the arrays in a file beside those a network needs: what differs, in words. Reads no file.

Works on shapes alone, so that a file which claims to hold terabytes is refused before anything is made of it.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

__all__ = ["SHOWN", "differences"]

SHOWN = 12  # names in a message, of each kind of difference
LONGEST = 100  # characters of a name

Shape = tuple[int, ...]


def differences(
    found: Mapping[str, Shape], expected: Mapping[str, Shape], *, optional: AbstractSet[str] = frozenset()
) -> str:
    """What is missing, unexpected or of another shape; "" if nothing is.

    >>> differences({"a": (2, 3), "b": (4,)}, {"a": (3, 2), "c": (1,)})
    '1 tensor missing: c; 1 tensor unexpected: b; 1 tensor of another shape: a (2, 3) instead of (3, 2): transposed?'
    """
    if not found.keys() & expected.keys():
        held = f"it has {_listed(sorted(found))}" if found else "it is empty"
        return f"none of the {len(expected.keys() - optional)} tensors expected; {held}"
    missing = sorted(expected.keys() - found.keys() - optional)
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = [
        _misshapen(name, tuple(found[name]), shape)
        for name, shape in sorted(expected.items())
        if name in found and tuple(found[name]) != shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
    return "; ".join(
        f"{len(names)} tensor{'s' if len(names) > 1 else ''} {what}: {_listed(names)}" for what, names in kinds if names
    )


def _misshapen(name: str, found: Shape, expected: Shape) -> str:
    text = f"{name} {found} instead of {expected}"
    if len(found) < 2 or sorted(found) != sorted(expected):
        return text
    return f"{text}: transposed?" if len(found) == 2 else f"{text}: axes in another order?"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(_shown(name) for name in names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _shown(name: str) -> str:
    """A name from a file may hold anything, and be of any length."""
    if len(name) > LONGEST and " instead of " not in name:
        return f"{name[:LONGEST]!r}…"
    return name if name.isprintable() else repr(name)
