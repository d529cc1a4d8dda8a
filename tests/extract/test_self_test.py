"""The self-test of encoders: those of the tiny profile pass, and one that breaks a promise does not."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest

from sentifuse import DataError, SentifuseError
from sentifuse.extract.encoder import Array
from sentifuse.extract.encoders.context import Context
from sentifuse.extract.profile import load_profile
from sentifuse.extract.self_test import SelfTestFailed, check_encoder

TINY = load_profile("tiny").encoders


@pytest.mark.parametrize("name", TINY)
def test_the_tiny_encoders_pass(name: str) -> None:
    seen = check_encoder(TINY[name])
    assert "the same twice" in seen
    assert "in a batch off by" in seen


Change = Callable[[dict[str, Array], int], Any]


def breaking(change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row that the encoder `context` reads goes through `change`, with the number of rows in the batch."""
    true = Context.read

    def read(self: Context, outputs: Any, batch: Sequence[Any]) -> list[Any]:
        return [change(dict(row), len(batch)) for row in true(self, outputs, batch) if isinstance(row, dict)]

    monkeypatch.setattr(Context, "read", read)


CALLS = count()

BROKEN: dict[str, tuple[Change, str]] = {
    "a field missing": (lambda row, rows: {}, r"gives \[\], promised \['vector'\]"),
    "another dtype": (lambda row, rows: {"vector": row["vector"].astype(np.float64)}, "dtype float64"),
    "another shape": (lambda row, rows: {"vector": row["vector"][:-1]}, "shape"),
    "not finite": (lambda row, rows: {"vector": row["vector"] * np.float32(np.nan)}, "not finite"),
    "other bytes the second time": (
        lambda row, rows: {"vector": row["vector"] + np.float32(next(CALLS))}, "other bytes when the same input"
    ),
    "dependent on its batch": (
        lambda row, rows: {"vector": row["vector"] + np.float32(1e-3 * (rows - 1))}, "beside another row"
    ),
    "refused": (lambda row, rows: DataError("does not like it"), "were refused: does not like it"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, message = BROKEN[name]
    breaking(change, monkeypatch)
    with pytest.raises(SentifuseError, match=message):
        check_encoder(TINY["context"])


def test_what_fails_exits_with_5() -> None:
    assert SelfTestFailed.exit_code == 5
