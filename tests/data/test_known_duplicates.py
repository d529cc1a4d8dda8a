"""The published counts of duplicates, groups and leaks come out, as far as the pairs at hand allow."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse.data.audit import Audit, audit
from sentifuse.data.prepare import prepare
from sentifuse.data.splits import read_split_facts

pytestmark = pytest.mark.slow

EITHER = "either: normalised text or 4 bits"


def counts(found: Audit, kind: str, scope: str = "all") -> tuple[int, int, int]:
    one = found.groups[kind][scope]
    return one["groups"], one["members"], one["largest"]


@pytest.fixture(scope="module")
def single(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Audit]:
    """The real pairs with their published lists, audited."""
    artifacts = tmp_path_factory.mktemp("single")
    source = shared / "mvsa_single"
    prepare("mvsa_single", artifacts=artifacts, root=source, lists=source / "splits", allow_missing=True)
    folder = artifacts / "datasets" / "mvsa_single"
    return folder, audit(folder)


def test_groups_of_the_4358_pairs(single: tuple[Path, Audit]) -> None:
    found = single[1]
    assert counts(found, "text, ends stripped")[:2] == (138, 303)
    assert counts(found, "text, normalised") == (172, 405, 11)
    assert counts(found, "image file")[:2] == (43, 87)
    within = {bits: counts(found, f"image, hash within {bits} bits")[:2] for bits in (0, 2, 4, 8, 10)}
    assert within == {0: (147, 297), 2: (154, 311), 4: (155, 313), 8: (156, 315), 10: (162, 328)}
    assert counts(found, EITHER) == (187, 442, 21)
    assert counts(found, EITHER, "labelled") == (162, 382, 13)
    assert found.components == 4103


def test_leak_of_random_splits_of_the_4000(single: tuple[Path, Audit]) -> None:
    leak = single[1].random_leak["group"]  # published 7.8 ± 1.1 %, over 20 other shuffles
    assert leak["mean"] == pytest.approx(0.078, abs=0.008)
    assert leak["sd"] == pytest.approx(0.011, abs=0.006)


def test_lists_of_the_whole_dataset_lack_511_here(single: tuple[Path, Audit]) -> None:
    folder, found = single
    facts = read_split_facts(folder, protocol="clmlf")
    assert facts.missing == 511
    assert (facts.parts["train"], facts.parts["val"], facts.parts["test"]) == (3196, 405, 399)
    assert facts.leak["test"] == {"n": 399, "group": 25, "text": 25, "image": 16}  # of all 450: 37 and 36
    tested = [row["group"] / row["n"] for row in found.leaks if row["split"] == "fair-s0" and row["part"] == "test"]
    assert (len(tested), round(min(tested), 3), round(max(tested), 3)) == (10, 0.007, 0.123)  # of all: 0.007 … 0.146


def test_grouped_splits_leak_nothing_and_have_the_exact_sizes(single: tuple[Path, Audit]) -> None:
    folder, found = single
    grouped = [row for row in found.leaks if row["split"].startswith("grouped")]
    assert len(grouped) == 22
    assert all(row["group"] == row["text"] == row["image"] == 0 for row in grouped)
    for fold in range(1, 11):
        facts = read_split_facts(folder, protocol="grouped-folds", fold=fold)
        assert facts.parts == {"train": 3200, "val": 400, "test": 400}
    assert read_split_facts(folder, protocol="grouped").parts == {"train": 3204, "val": 398, "test": 398}


@pytest.fixture(scope="module")
def multiple(
    shared: Path, tmp_path_factory: pytest.TempPathFactory, write_multiple: Callable[..., None]
) -> tuple[Path, Audit]:
    """The texts of MVSA-Multiple with both published lists; the three pairs with unreadable images left out."""
    folder = tmp_path_factory.mktemp("multiple")
    source = shared / "mvsa_multiple"
    write_multiple(source, folder / "MVSA", leave_out=("3910", "5995", "15324"))
    prepare(
        "mvsa_multiple", artifacts=folder, root=folder / "MVSA", lists=source / "splits" / "clmlf", max_failures=20_000
    )
    return folder / "datasets" / "mvsa_multiple", audit(folder / "datasets" / "mvsa_multiple")


def test_texts_of_multiple(multiple: tuple[Path, Audit]) -> None:
    found = multiple[1]
    assert sum(found.classes.values()) == 17024
    assert counts(found, "text, ends stripped", "labelled") == (147, 773, 312)
    assert counts(found, "text, normalised", "labelled") == (243, 1187, 317)
    assert found.random_leak["text"]["mean"] == pytest.approx(0.064, abs=0.004)  # published 6.4 ± 0.5 %
    assert found.random_leak["text"]["sd"] == pytest.approx(0.005, abs=0.003)


def test_published_lists_of_multiple(multiple: tuple[Path, Audit]) -> None:
    facts = read_split_facts(multiple[0], protocol="clmlf")
    assert facts.parts == {"train": 13624, "val": 1700, "test": 1700}
    assert (facts.leak["test"]["text"], facts.leak["val"]["text"]) == (105, 114)
    assert facts.missing == 0
