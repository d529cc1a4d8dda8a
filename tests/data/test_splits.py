"""A split file holds what its protocol says, is renewed when it does not fit, and shows only what is asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.data.card import read_card, write_card
from sentifuse.data.groups import read_groups
from sentifuse.data.prepare import prepare
from sentifuse.data.protocols import PROTOCOLS, digest_parts
from sentifuse.data.splits import available_protocols, ensure_split, read_split, read_split_facts

ALL = ("train", "val", "test")


@pytest.fixture
def dataset(make_mvsa: Callable[..., Path], tmp_path: Path) -> Path:
    rows = {str(i): ("positive,positive", "negative,neutral", "neutral,neutral")[i % 3] for i in range(60)}
    prepare("mvsa_single", artifacts=tmp_path, root=make_mvsa(rows))
    return tmp_path / "datasets" / "mvsa_single"


def test_only_the_parts_asked_for_are_returned(dataset: Path) -> None:
    parts = read_split(dataset, parts=("train", "val"))
    assert list(parts) == ["train", "val"]
    assert {part: len(ids) for part, ids in parts.items()} == {"train": 48, "val": 6}
    assert not set(parts["train"]) & set(read_split(dataset, parts=("test",))["test"])
    with pytest.raises(ConfigError, match="part of the split"):
        read_split(dataset, parts=("tset",))


def test_split_file_is_left_alone_while_it_fits_and_renewed_when_the_labels_change(dataset: Path) -> None:
    path = ensure_split(dataset, seed=4)
    assert path == dataset / "splits" / "random-s4.parquet"
    before = path.stat().st_mtime_ns
    assert ensure_split(dataset, seed=4).stat().st_mtime_ns == before
    ensure_split(dataset, seed=4, rule="consistent")
    ids = read_split(dataset, seed=4, rule="consistent", parts=("train", "val", "test"))
    assert sum(len(part) for part in ids.values()) == 40  # negative,neutral pairs are unequal
    assert sum(len(part) for part in read_split(dataset, seed=4, parts=("train", "val", "test")).values()) == 60


def test_protocol_without_a_source_says_so(dataset: Path) -> None:
    with pytest.raises(DataError, match="--protocol random"):
        ensure_split(dataset, protocol="given")
    with pytest.raises(ConfigError, match="did you mean 'random'"):
        ensure_split(dataset, protocol="randon")
    with pytest.raises(DataError, match=r"never given .* Type: sentifuse data prepare mvsa_single --lists DIR"):
        ensure_split(dataset, protocol="clmlf")


def test_folds_are_read_one_by_one(dataset: Path) -> None:
    tested: list[str] = []
    for fold in range(1, 11):
        parts = read_split(dataset, protocol="folds", fold=fold, parts=ALL)
        facts = read_split_facts(dataset, protocol="folds", fold=fold)
        assert {part: len(ids) for part, ids in parts.items()} == facts.parts == {"train": 48, "val": 6, "test": 6}
        assert facts.digest == digest_parts({id_: part for part, ids in parts.items() for id_ in ids})
        assert (facts.fold, facts.k) == (fold, 10)
        tested += parts["test"]
    assert sorted(tested) == sorted(str(i) for i in range(60))


@pytest.mark.parametrize(
    ("protocol", "fold", "message"),
    [
        ("folds", 0, r"--fold: expected 1 to 10 \(protocol folds has 10 folds\), found none"),
        ("folds", 11, "expected 1 to 10 .* found 11"),
        ("folds", -1, "expected 1 to 10 .* found -1"),
        ("random", 1, "--fold: protocol random has no folds, found 1. Leave it out"),
    ],
)
def test_a_fold_that_is_not_there_is_refused_with_the_range(
    dataset: Path, protocol: str, fold: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_split(dataset, protocol=protocol, fold=fold, parts=("train",))
    with pytest.raises(ConfigError, match=message):
        read_split_facts(dataset, protocol=protocol, fold=fold)


def test_number_of_folds_is_the_cards(dataset: Path, tmp_path: Path) -> None:
    before = read_split(dataset, protocol="folds", fold=1, parts=("test",))["test"]
    assert prepare("mvsa_single", artifacts=tmp_path, folds=4).folds == 4
    assert prepare("mvsa_single", artifacts=tmp_path).folds == 4  # it is remembered
    assert len(read_split(dataset, protocol="folds", fold=4, parts=("test",))["test"]) == 15 != len(before)
    with pytest.raises(ConfigError, match="expected 1 to 4"):
        read_split(dataset, protocol="folds", fold=5, parts=("test",))


@pytest.mark.parametrize("protocol", ["grouped", "grouped-folds"])
def test_grouped_splits_leak_nothing_and_others_say_what_they_do(twins: Path, protocol: str) -> None:
    fold = 2 if protocol == "grouped-folds" else 0
    parts = read_split(twins, protocol=protocol, fold=fold, parts=ALL)
    groups = read_groups(twins)
    held_out = {groups[id_] for part in ("val", "test") for id_ in parts[part]}
    assert not held_out & {groups[id_] for id_ in parts["train"]}
    assert not {groups[id_] for id_ in parts["val"]} & {groups[id_] for id_ in parts["test"]}
    nothing = {"group": 0, "text": 0, "image": 0}
    for part, leak in read_split_facts(twins, protocol=protocol, fold=fold).leak.items():
        assert leak == {"n": len(parts[part])} | nothing
    assert read_split_facts(twins, protocol="random").leak["test"]["text"] > 0


@pytest.fixture
def twins(make_mvsa: Callable[..., Path], tmp_path: Path) -> Path:
    """60 pairs, of which 0-19 have the texts of 20-39 and no image to compare."""
    rows = {str(i): ("positive,positive", "negative,negative", "neutral,neutral")[i % 3] for i in range(60)}
    texts = {str(i): f"Tweet {i % 20 if i < 40 else i}!".encode() for i in range(60)}
    root = make_mvsa(rows, texts=texts)
    for image in (root / "data").glob("*.jpg"):
        image.unlink()
    prepare("mvsa_single", artifacts=tmp_path, root=root, folds=3)
    return tmp_path / "datasets" / "mvsa_single"


def test_a_new_near_duplicate_renews_the_split(twins: Path, tmp_path: Path) -> None:
    seed = next(seed for seed in range(50) if len(parts_of(twins, seed, "40", "41")) == 2)
    (tmp_path / "mvsa" / "data" / "40.txt").write_bytes(b"tweet 41")
    prepare("mvsa_single", artifacts=tmp_path)
    assert len(parts_of(twins, seed, "40", "41")) == 1


def parts_of(folder: Path, seed: int, *ids: str) -> set[str]:
    found = read_split(folder, protocol="grouped", seed=seed, parts=ALL)
    return {part for part, members in found.items() for id_ in ids if id_ in members}


def test_a_file_of_an_older_version_is_renewed_with_the_same_ids(dataset: Path) -> None:
    path = ensure_split(dataset)
    expected = read_split(dataset, parts=ALL)
    columns, metadata = files.read_table(path, ("id", "fold", "split"), hint="")
    older = {name: metadata[name] for name in ("protocol", "rule", "seed", "labels")}
    kinds = {"id": "string", "fold": "int32", "split": "string"}
    files.write_table(path, {name: (kinds[name], values) for name, values in columns.items()}, older)
    assert read_split(dataset, parts=ALL) == expected
    assert read_split_facts(dataset).parts == {"train": 48, "val": 6, "test": 6}


def test_facts_hold_no_id(dataset: Path) -> None:
    facts = read_split_facts(dataset)
    ids = {id_ for part in read_split(dataset, parts=ALL).values() for id_ in part}
    assert not ids & {str(getattr(facts, name)) for name in ("protocol", "rule", "digest")}
    assert set(facts.leak) == {"val", "test"}
    assert all(set(counts) == {"n", "group", "text", "image"} for counts in facts.leak.values())
    assert (facts.n_hashed, facts.n_pairs, facts.missing, facts.protocol) == (60, 60, 0, "random")


def test_protocols_of_a_dataset_are_those_it_has_what_it_takes_for(dataset: Path) -> None:
    assert available_protocols(dataset) == ("random", "folds", "grouped", "grouped-folds")
    assert set(available_protocols(dataset)) < set(PROTOCOLS)


def test_a_class_too_small_for_the_folds_is_refused(dataset: Path) -> None:
    write_card(dataset, type(card := read_card(dataset))(**card.to_json() | {"folds": 30}))
    with pytest.raises(ConfigError, match=r"--folds 30: .* found 20 of negative, 20 of neutral, 20 of positive"):
        ensure_split(dataset, protocol="folds")
