"""The kept set survives the disk, and its two parts divide no tweet and no group of near-duplicates."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse import ConfigError, DataError
from sentifuse.crowd.labels.kept import Kept, list_kept, read_kept, split_kept, write_kept
from sentifuse.data import files
from sentifuse.data.source import SENTIMENT


def some_kept(n: int = 4) -> Kept:
    rng = np.random.default_rng(n)
    probabilities = rng.dirichlet(np.ones(3), n).astype(np.float32)
    return Kept(
        ids=tuple(f"{i}-1" for i in range(n)),
        tweets=tuple(str(i) for i in range(n)),
        classes=probabilities.argmax(1).astype(np.int64),
        probabilities=probabilities,
        gold_seen=np.arange(n) % 2 == 0,
        split=tuple("val" if i == 1 else "train" for i in range(n)),
        metadata={"labels": {"name": "default", "digest": "d"}, "thresholds": {"negative": 0.7}, "seed": 0},
    )


@pytest.mark.parametrize("n", [0, 1, 4])
def test_write_then_read_is_identity(tmp_path: Path, n: int) -> None:
    kept = some_kept(n)
    write_kept(tmp_path, "tweets", "a", kept)
    found = read_kept(tmp_path, "tweets", "a")
    for name in ("ids", "tweets", "split", "metadata"):
        assert getattr(found, name) == getattr(kept, name)
    for name in ("classes", "probabilities", "gold_seen", "confidence"):
        assert np.array_equal(getattr(found, name), getattr(kept, name))
        assert getattr(found, name).dtype == getattr(kept, name).dtype
    assert list_kept(tmp_path, "tweets") == ["a"]


def test_the_table_names_its_classes_and_holds_the_confidence(tmp_path: Path) -> None:
    kept = some_kept()
    path = write_kept(tmp_path, "tweets", "default", kept)
    assert path == tmp_path / "crowd/tweets/kept-default.parquet"
    columns, _ = files.read_table(path, ("class", "confidence", "p_negative", "p_neutral", "p_positive"), hint="")
    assert columns["class"] == [SENTIMENT[k] for k in kept.classes]
    assert columns["confidence"] == [max(row) for row in kept.probabilities.tolist()]


def test_another_set_of_this_name_is_refused_and_replaced_only_when_told(tmp_path: Path) -> None:
    path = write_kept(tmp_path, "tweets", "a", some_kept())
    before = path.read_bytes()
    write_kept(tmp_path, "tweets", "a", some_kept())
    assert path.read_bytes() == before
    for other in (some_kept(5), replace(some_kept(), metadata={"seed": 1})):
        with pytest.raises(ConfigError, match="replace them: --force"):
            write_kept(tmp_path, "tweets", "a", other)
        assert path.read_bytes() == before
    write_kept(tmp_path, "tweets", "a", some_kept(5), overwrite=True)
    assert len(read_kept(tmp_path, "tweets", "a")) == 5


def test_what_is_not_there_names_what_is_and_the_command(tmp_path: Path) -> None:
    write_kept(tmp_path, "tweets", "sure", some_kept())
    with pytest.raises(DataError, match=re.escape("There are: sure. Run: sentifuse distil filter --dataset tweets")):
        read_kept(tmp_path, "tweets")


def test_a_class_of_another_coding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "crowd/tweets/kept-a.parquet"
    names = ("id", "tweet", "class", "p_negative", "p_neutral", "p_positive", "gold_seen", "split")
    columns = {name: ("string", ["1"]) for name in names}
    files.write_table(path, columns, {"version": 1, "kept": {}})
    with pytest.raises(DataError, match="found version 1 and the words 1, 1"):
        read_kept(tmp_path, "tweets", "a")


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), max_size=60),
    st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_parts_are_a_partition_that_divides_no_group(pairs: list[tuple[int, int]], share: float, seed: int) -> None:
    classes = {f"{i}-1": SENTIMENT[k] for i, (k, _) in enumerate(pairs)}
    groups = {f"{i}-1": f"g{group}" for i, (_, group) in enumerate(pairs)} | {"gone-1": "g0"}
    found = split_kept(classes, groups, val_share=share, seed=seed)
    assert list(found) == list(classes)
    parts = defaultdict(set)
    for id_, part in found.items():
        parts[groups[id_]].add(part)
    assert all(len(of_group) == 1 for of_group in parts.values())
    if share == 0:
        assert "val" not in found.values()
    backwards = split_kept(dict(reversed(classes.items())), groups, val_share=share, seed=seed)
    assert backwards == found


def test_of_pairs_on_their_own_every_class_gives_its_share_by_seed() -> None:
    classes = {f"{i}-1": SENTIMENT[(i % 10) // 4] for i in range(500)}  # 200, 200, 100
    alone = {id_: id_ for id_ in classes}
    found = split_kept(classes, alone, val_share=0.1, seed=0)
    counts = [sum(classes[id_] == name for id_ in found if found[id_] == "val") for name in SENTIMENT]
    assert counts == [20, 20, 10]
    assert split_kept(classes, alone, val_share=0.1, seed=1) != found


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="--val-share: expected a share from 0 to less than 1"):
        split_kept({}, {}, val_share=share, seed=0)
