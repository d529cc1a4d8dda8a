"""Pseudo-labels survive the disk, say whose labels were seen, and are never replaced by others in silence."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sentifuse import ConfigError, DataError
from sentifuse.crowd.labels.pseudo_labels import PseudoLabels, labels_path, read_pseudo_labels, write_pseudo_labels
from sentifuse.data import files


def some_labels(n: int = 5, seed: int = 0) -> PseudoLabels:
    rng = np.random.default_rng(seed)
    return PseudoLabels(
        ids=tuple(f"7{i}-1" for i in range(n)),
        probabilities=rng.dirichlet(np.ones(3), n).astype(np.float32),
        gold_seen=rng.random(n) < 0.5,
        provenance={"dataset": "tweets", "teacher": "encoder", "cleaning": "teacher"},
        left_out={"99-1": "text: missing"},
        gold_pairs={"other": {"5": "a" * 64, "6": ""}},
    )


@pytest.mark.parametrize("n", [0, 1, 5])
def test_write_then_read_is_identity(tmp_path: Path, n: int) -> None:
    labels = some_labels(n)
    path = write_pseudo_labels(tmp_path, "tweets", "default", labels)
    assert path == tmp_path / "crowd/tweets/labels-default.parquet"
    found = read_pseudo_labels(tmp_path, "tweets")
    assert found.ids == labels.ids
    assert np.array_equal(found.probabilities, labels.probabilities)
    assert found.probabilities.dtype == np.float32
    assert np.array_equal(found.gold_seen, labels.gold_seen)
    assert (found.provenance, found.left_out) == (labels.provenance, labels.left_out)
    assert found.gold_pairs == {"other": {"5": "a" * 64, "6": ""}}
    assert found.digest == labels.digest


def test_the_same_labels_again_give_the_same_bytes(tmp_path: Path) -> None:
    path = write_pseudo_labels(tmp_path, "tweets", "a", some_labels())
    before = path.read_bytes()
    write_pseudo_labels(tmp_path, "tweets", "a", some_labels())
    assert path.read_bytes() == before


def test_other_labels_of_this_name_are_refused_and_replaced_only_when_told(tmp_path: Path) -> None:
    path = write_pseudo_labels(tmp_path, "tweets", "a", some_labels())
    before = path.read_bytes()
    for other in (some_labels(seed=1), replace(some_labels(), gold_pairs={})):
        with pytest.raises(ConfigError, match=re.escape("Choose another --name, or replace them: --force")):
            write_pseudo_labels(tmp_path, "tweets", "a", other)
    assert path.read_bytes() == before
    write_pseudo_labels(tmp_path, "tweets", "a", some_labels(seed=1), overwrite=True)
    assert read_pseudo_labels(tmp_path, "tweets", "a").digest == some_labels(seed=1).digest


def test_the_digest_sees_ids_numbers_and_what_was_seen() -> None:
    labels = some_labels()
    others = (
        replace(labels, ids=(*labels.ids[:-1], "x")),
        replace(labels, probabilities=labels.probabilities[::-1].copy()),
        replace(labels, gold_seen=~labels.gold_seen),
    )
    assert len({labels.digest, *(other.digest for other in others)}) == 4
    assert replace(labels, provenance={}).digest == labels.digest


def test_what_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Run: sentifuse distil label --dataset tweets --name b"):
        read_pseudo_labels(tmp_path, "tweets", "b")


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".a"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--name: expected letters"):
        labels_path(Path("artifacts"), "tweets", name)


def test_swapped_columns_and_repeated_ids_are_refused(tmp_path: Path) -> None:
    labels = some_labels()
    scores = labels.probabilities * 2
    with pytest.raises(DataError, match=re.escape("for 70-1 (5 such rows)")):
        write_pseudo_labels(tmp_path, "tweets", "a", replace(labels, probabilities=scores))
    with pytest.raises(DataError, match="expected every id once"):
        write_pseudo_labels(tmp_path, "tweets", "a", replace(labels, ids=("7-1",) * 5))
    assert not (tmp_path / "crowd").exists()


def test_rows_changed_on_the_disk_are_refused(tmp_path: Path) -> None:
    path = write_pseudo_labels(tmp_path, "tweets", "a", some_labels())
    names = ("id", "p_negative", "p_neutral", "p_positive", "gold_seen")
    columns, metadata = files.read_table(path, names, hint="")
    columns["gold_seen"] = [not seen for seen in columns["gold_seen"]]
    kinds = ("string", "float32", "float32", "float32", "bool")
    files.write_table(path, {n: (k, columns[n]) for n, k in zip(names, kinds, strict=True)}, metadata)
    with pytest.raises(DataError, match="its rows are not those that were written"):
        read_pseudo_labels(tmp_path, "tweets", "a")
