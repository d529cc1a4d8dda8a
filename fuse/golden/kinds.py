"""Golden files of the heads: recognised by what is in them, each checked by the module that knows its head.

A new kind is one line in the table and one function `check(golden) -> list[Deviation]`.
"""

from importlib import import_module
from pathlib import Path

from sentifuse import DataError
from sentifuse.fuse.golden.file import HINT, Deviation, GoldenFile, read_golden
from sentifuse.fuse.golden.layout import check_layout
from sentifuse.fuse.golden.realsize import read_realsize

__all__ = ["KINDS", "Deviation", "check_golden", "check_heads_golden", "find_kind", "read_known"]

# Kind -> (how some of its names begin and those of no other kind do, who checks it)
KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "itin_paper": (
        ("scalar.", "vector."),
        "sentifuse.fuse.golden.itin:check_paper",
    ),
    "itin_code": (
        ("out.", "grad."),
        "sentifuse.fuse.golden.itin:check_code",
    ),
    "ctmwa_init": (
        ("forward.", "missing_"),
        "sentifuse.fuse.golden.ctmwa:check_init",
    ),
    "ctmwa_steps": (
        ("hyper.", "step1."),
        "sentifuse.fuse.golden.ctmwa:check_steps",
    ),
    "rnn_ca": (
        ("lstm.", "gru."),
        "sentifuse.fuse.golden.rnn_ca:check",
    ),
    # JSON files: recognised by their reader.
    "itin_realsize": ((), "sentifuse.fuse.golden.realsize:check_itin"),
    "ctmwa_realsize": ((), "sentifuse.fuse.golden.realsize:check_ctmwa"),
}


def find_kind(golden: GoldenFile) -> str | None:
    """The kind of a golden file, or None when it is none of the heads'."""
    for kind, (beginnings, _) in KINDS.items():
        if any(name.startswith(beginnings) for name in golden.values):
            return kind
    return None


def read_known(path: Path) -> tuple[str, GoldenFile]:
    """A golden file and its kind; its arrays are those of the kind.

    Raises
    ------
    DataError
        Not a golden file of a head, or a damaged one, or an array is missing, too many, of another shape or type.
    """
    if path.suffix == ".json":
        return read_realsize(path)
    golden = read_golden(path)
    kind = find_kind(golden)
    if kind is None:
        names = ", ".join(sorted(golden.values)[:3]) or "none"
        raise DataError(
            f"{path}: expected a golden file of kind {', '.join(KINDS)}, found arrays of none of them ({names}, …). "
            f"{HINT}"
        )
    check_layout(kind, golden)
    return kind, golden


def check_golden(kind: str, golden: GoldenFile) -> list[Deviation]:
    """Recompute everything in a golden file of this kind, in float64; one row per quantity.

    Raises
    ------
    DataError
        A JSON file says of a case what does not fit its kind.
    """
    module, _, function = KINDS[kind][1].partition(":")
    rows: list[Deviation] = getattr(import_module(module), function)(golden)
    return rows


def check_heads_golden(path: Path) -> list[Deviation]:
    """`read_known` and `check_golden`."""
    return check_golden(*read_known(path))
