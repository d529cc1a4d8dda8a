"""Golden files of the heads: recognised by what is in them, each checked by the module that knows its head.

A new kind is one line in the table and one function `check(golden) -> list[Deviation]`.
"""

from importlib import import_module
from pathlib import Path

from sentifuse import DataError
from sentifuse.fuse.heads.golden_file import HINT, Deviation, GoldenFile, read_golden

__all__ = ["KINDS", "Deviation", "check_golden", "check_heads_golden", "find_kind", "read_known"]

# Kind -> (arrays that no other kind has all of, who checks it)
KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "itin_paper": (
        ("param.word_gru.forward.w_input", "scalar.logits", "vector.logits"),
        "sentifuse.fuse.heads.itin_golden:check_paper",
    ),
    "itin_code": (
        ("param.context_gru.layer0.forward.w_input", "out.logits"),
        "sentifuse.fuse.heads.itin_golden:check_code",
    ),
    "ctmwa_init": (
        ("param.text_weight_net.linear1.weight", "forward.logits_joint"),
        "sentifuse.fuse.heads.ctmwa_golden:check_init",
    ),
    "ctmwa_steps": (
        ("hyper.inner_lr", "step1.meta_grad.text_weight_net.linear1.weight"),
        "sentifuse.fuse.heads.ctmwa_golden:check_steps",
    ),
    "rnn_ca": (
        ("lstm.param.attention.score.weight", "lstm.out.logits"),
        "sentifuse.fuse.heads.rnn_ca_golden:check",
    ),
}


def find_kind(golden: GoldenFile) -> str | None:
    """The kind of a golden file, or None when it is none of the heads'."""
    for kind, (names, _) in KINDS.items():
        if golden.values.keys() >= set(names):
            return kind
    return None


def read_known(path: Path) -> tuple[str, GoldenFile]:
    """A golden file and its kind.

    Raises
    ------
    DataError
        Not a golden file of a head, or a damaged one.
    """
    golden = read_golden(path)
    kind = find_kind(golden)
    if kind is None:
        names = ", ".join(sorted(golden.values)[:3]) or "none"
        raise DataError(
            f"{path}: expected a golden file of kind {', '.join(KINDS)}, found arrays of none of them ({names}, …). "
            f"{HINT}"
        )
    return kind, golden


def check_golden(kind: str, golden: GoldenFile) -> list[Deviation]:
    """Recompute everything in a golden file of this kind, in float64; one row per quantity.

    Raises
    ------
    DataError
        An array is missing, or parameters are not those of the head.
    """
    module, _, function = KINDS[kind][1].partition(":")
    rows: list[Deviation] = getattr(import_module(module), function)(golden)
    return rows


def check_heads_golden(path: Path) -> list[Deviation]:
    """`read_known` and `check_golden`."""
    return check_golden(*read_known(path))
