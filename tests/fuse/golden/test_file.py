"""Golden files: what is damaged is named, and no deviation hides."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sentifuse import DataError
from sentifuse.fuse.golden.file import (
    NO_SEED,
    GoldenFile,
    compare,
    compare_gradients,
    compare_with_rule,
    read_golden,
)
from sentifuse.fuse.golden.rule import reals

EXISTING = Path(__file__).parents[2] / "golden" / "heads" / "rnn_ca_s1.npz"


def test_files_that_are_no_archive_are_refused_by_what_they_are(tmp_path: Path) -> None:
    whole = EXISTING.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "objects.npz", x=objects)
    np.save(tmp_path / "single.npy", np.zeros(3))
    cases = {
        "nothing.npz": None,
        "empty.npz": b"",
        "text.npz": b"these are no numbers",
        "cut.npz": whole[: len(whole) // 2],
        "damaged.npz": bytes(damaged),
    }
    for name, content in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    for name in (*cases, "objects.npz", "single.npy", "."):
        with pytest.raises(DataError, match=r"expected a (golden file|NumPy archive).*doctor --golden FILE"):
            read_golden(tmp_path / name)


def test_missing_array_and_wrong_rank_are_named() -> None:
    golden = GoldenFile(path=Path("f.npz"), values={"a": np.zeros((2, 3))})
    assert golden.array("a", 2).shape == (2, 3)
    with pytest.raises(DataError, match=r"f\.npz: expected an array 'b', found none"):
        golden.array("b")
    with pytest.raises(DataError, match=r"expected an array 'a' of 1 dimensions, found one of shape \(2, 3\)"):
        golden.tensor("a", 1)


def test_deviation_is_the_worst_element_and_its_own_limit() -> None:
    golden = np.array([1000.0, 0.0, 1.0])
    fine = compare("s", "q", torch.tensor([1000.0 + 9e-7, 9e-11, 1.0], dtype=torch.float64), golden)
    assert fine.is_within
    large = compare("s", "q", torch.tensor([1000.0 + 9e-7, 2e-10, 1.0], dtype=torch.float64), golden)
    assert not large.is_within
    assert (large.value, large.limit) == (pytest.approx(2e-10), pytest.approx(1e-10))
    assert large.to_json()["ok"] is False
    assert "FAILS" in str(large)


@pytest.mark.parametrize("found", [[np.nan, 0.0], [np.inf, 0.0], [0.0]])
def test_what_is_no_number_or_has_another_shape_is_never_within(found: list[float]) -> None:
    row = compare("s", "q", np.array(found), np.zeros(2))
    assert not row.is_within


@pytest.mark.parametrize("stored", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_in_the_file_is_never_reached(stored: float) -> None:
    for found in (0.0, stored):
        row = compare("s", "q", np.array([1.0, found]), np.array([1.0, stored]))
        assert not row.is_within
        assert row.quantity == "q: not finite in the file"


def test_seed_is_that_of_the_large_arrays_and_one_of_these_may_be_damaged() -> None:
    """Four masks of one number each fit many seeds; the seed is the one that the larger arrays have."""
    values = {name: reals(40, name, (3, 5), 1.0) for name in "xy"} | {"mask": (reals(40, "mask", (1,), 1.0) > 0)}
    values["y"][0, 0] += 1e-12

    def make(seed: int, name: str) -> np.ndarray:  # type: ignore[type-arg]  # bool or float
        return reals(seed, name, values[name].shape, 1.0) > 0 if name == "mask" else reals(seed, name, (3, 5), 1.0)

    row = compare_with_rule(GoldenFile(path=Path("f.npz"), values=values), ["mask", "x", "y"], make)
    assert (row.quantity, row.value) == ("seed 40: arrays unlike the rule (y)", 1.0)


def test_worst_gradient_is_named_and_a_missing_one_counts() -> None:
    golden = GoldenFile(path=Path("f.npz"), values={f"grad.{name}": np.ones(2) for name in "abc"})
    found = {"a": torch.ones(2), "b": torch.tensor([1.0, 1.1]), "c": torch.ones(2)}
    row = compare_gradients("backward", golden, "grad.", found)
    assert row.quantity == "worst gradient: b"
    assert not row.is_within
    missing = compare_gradients("backward", golden, "grad.", {**found, "c": torch.zeros(())})
    assert missing.quantity.startswith("worst gradient: c")
    assert not missing.is_within


@pytest.mark.parametrize("name", ["x_s7.npz", "x_s3.npz", "x.npz"])
def test_seed_is_found_by_the_name_or_by_trying(name: str) -> None:
    values = {key: reals(7, key, (4,), 1.0) for key in ("a", "b")}
    golden = GoldenFile(path=Path(name), values=values)
    row = compare_with_rule(golden, ["a", "b"], lambda seed, key: reals(seed, key, (4,), 1.0))
    assert row.is_within
    assert row.quantity == "seed 7: arrays unlike the rule"


def test_arrays_that_the_rule_does_not_give_are_counted() -> None:
    values = {key: reals(7, key, (4,), 1.0) for key in ("a", "b", "c")}
    values["b"][2] = np.nextafter(values["b"][2], 2)  # one bit
    row = compare_with_rule(
        GoldenFile(path=Path("x_s7.npz"), values=values),
        ["a", "b", "c"],
        lambda seed, key: reals(seed, key, (4,), 1.0),
    )
    assert (row.value, row.is_within) == (1.0, False)
    assert "(b)" in row.quantity
    foreign = GoldenFile(path=Path("x_s7.npz"), values={"a": np.zeros(4), "b": values["b"]})
    row = compare_with_rule(foreign, ["a", "b"], lambda seed, key: reals(seed, key, (4,), 1.0))
    assert (row.value, row.quantity) == (2.0, f"{NO_SEED} gives these arrays")
