"""Golden files of the heads are recognised by content and hold, for the seeds and sizes that a file has."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import DataError
from sentifuse.fuse.golden import ctmwa as ctmwa_golden
from sentifuse.fuse.golden import file as golden_file
from sentifuse.fuse.golden import itin as itin_golden
from sentifuse.fuse.golden import rnn_ca as rnn_ca_golden
from sentifuse.fuse.golden.file import Deviation, GoldenFile, read_golden
from sentifuse.fuse.golden.kinds import KINDS, check_golden, check_heads_golden, find_kind, read_known

GOLDEN = Path(__file__).parents[2] / "golden" / "heads"
FILES = ("itin_paper", "itin_code", "rnn_ca", "ctmwa_init", "ctmwa_clip", "ctmwa_noclip", "ctmwa_dropout")


def test_every_file_is_of_the_kind_its_name_says() -> None:
    kinds = {file.stem.removesuffix("_s1"): find_kind(read_golden(file)) for file in sorted(GOLDEN.glob("*.npz"))}
    assert kinds.keys() >= {"itin_paper", "itin_code", "rnn_ca"}
    one_kind = dict.fromkeys(("ctmwa_clip", "ctmwa_noclip", "ctmwa_dropout"), "ctmwa_steps")
    assert kinds == {name: one_kind.get(name, name) for name in kinds}
    assert set(kinds.values()) <= set(KINDS)


@pytest.mark.parametrize("kind", ["itin_paper", "itin_code", "rnn_ca"])
def test_golden_file_holds_under_any_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "some numbers.npz"
    shutil.copy(GOLDEN / f"{kind}_s1.npz", path)
    rows = check_heads_golden(path)
    assert [str(row) for row in rows if not row.is_within] == []
    assert rows[0].quantity == "seed 1: arrays unlike the rule"
    assert len(rows) > 15


def test_other_archives_are_refused_with_what_they_hold(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(DataError, match=r"expected a golden file of kind itin_paper, .* found .* \(a, b, …\)"):
        check_heads_golden(tmp_path / "other.npz")


GIVEN = ("input.", "param.", "train", "meta", "mask.", "hyper.", "lstm.param.", "gru.param.")  # what is no result


def nudged(golden: GoldenFile) -> GoldenFile:
    """One number of each result a little off: by 1e-6 of itself and 1e-8."""
    values = {name: np.array(value) for name, value in golden.values.items()}
    for name, value in values.items():
        if not name.startswith(GIVEN):
            value.ravel()[-1] += np.copysign(1e-6 * abs(value.ravel()[-1]) + 1e-8, value.ravel()[-1])
    return replace(golden, values=values)


@pytest.mark.parametrize("file", FILES)
def test_every_result_in_a_file_is_compared_and_seen_when_it_is_off(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are off; none can hide, for the row of each one is looked at."""
    kind, golden = read_known(GOLDEN / f"{file}_s1.npz")
    golden = nudged(golden)
    names = {id(value): name for name, value in golden.values.items()}
    seen: dict[str, bool] = {}
    true = golden_file.compare

    def watched(stage: str, quantity: str, found: Any, stored: Any) -> Deviation:
        row = true(stage, quantity, found, stored)
        name = names[id(stored)]
        seen[name] = row.is_within or seen.get(name, False)
        assert name.endswith(quantity.removeprefix("worst gradient: "))
        return row

    for module in (golden_file, itin_golden, rnn_ca_golden, ctmwa_golden):
        monkeypatch.setattr(module, "compare", watched)
    check_golden(kind, golden)
    assert seen == dict.fromkeys((name for name in golden.values if not name.startswith(GIVEN)), False)


@pytest.mark.parametrize("file", [file for file in FILES if file not in ("ctmwa_clip", "ctmwa_noclip")])
def test_every_input_in_a_file_is_compared_with_the_rule(file: str) -> None:
    """All but the largest, by which the seed is found. Lengths follow no rule: they are seen in the results."""
    kind, golden = read_known(GOLDEN / f"{file}_s1.npz")
    given = [name for name in golden.values if name.startswith(GIVEN) and not name.startswith(("hyper.", "input.len"))]
    kept = sorted(given, key=lambda name: golden.values[name].size)[-1]
    values = dict(golden.values)
    for name in set(given) - {kept}:
        values[name] = values[name].copy()
        first = values[name].ravel()
        first[0] = 1 - first[0] if name.startswith("mask.") else (first[0] + 1) % 2
    row = check_golden(kind, replace(golden, values=values))[0]
    assert row.quantity.startswith("seed 1: arrays unlike the rule (")
    assert row.value == len(given) - 1


@pytest.mark.parametrize("kind", ["itin_paper", "itin_code", "rnn_ca"])
def test_changed_lengths_or_labels_are_seen(kind: str) -> None:
    _, golden = read_known(GOLDEN / f"{kind}_s1.npz")
    for name in {"input.lengths", "input.label"} & golden.values.keys():
        changed = golden.values[name].copy()
        changed[0] = changed[0] - 1 if changed[0] else 1
        rows = check_golden(kind, replace(golden, values=golden.values | {name: changed}))
        assert any(not row.is_within and row.quantity == "loss" for row in rows)


@pytest.mark.parametrize("kind", ["itin_paper", "itin_code", "rnn_ca"])
def test_one_changed_number_fails_one_row(kind: str, tmp_path: Path) -> None:
    values = dict(read_golden(GOLDEN / f"{kind}_s1.npz").values)
    name = next(name for name in values if name.endswith("logits"))
    values[name] = values[name] * (1 + 3e-9)
    np.savez(tmp_path / "changed_s1.npz", **values)
    failing = [row for row in check_heads_golden(tmp_path / "changed_s1.npz") if not row.is_within]
    assert [row.quantity for row in failing] == ["logits"]
