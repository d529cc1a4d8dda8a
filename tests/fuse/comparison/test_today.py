"""A finished run counts while the labels and inputs that it learned from are those of the dataset."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse.cache.featureset import open_feature_set
from sentifuse.cache.writer import FeatureWriter
from sentifuse.data.splits import read_split_facts
from sentifuse.fuse.comparison import gaps
from sentifuse.fuse.comparison.compare import compare, prepare
from sentifuse.fuse.run import RunDirectory

PARTS = ("train",) * 60 + ("val",) * 15 + ("test",) * 15
TOO_LONG = "failed: too long"


@pytest.fixture
def listed(make_world: Callable[..., Any], request_for: Callable[..., Any]) -> tuple[Any, Any]:
    """A world whose split is a list, which stays the same whatever the labels are; and a comparison of it."""
    world = make_world(given={f"p{i}": part for i, part in enumerate(PARTS)}, statuses={"tokens": {"p6": TOO_LONG}})
    request = request_for(world, heads=("text_only",), seeds="1")
    compare(request)
    return world, request


def missing(request: Any) -> list[str]:
    return [entry.name for entry in prepare(request).missing]


def relabel(world: Any, id_: str) -> None:
    world.labels = {one: world.label(one) for one in world.ids} | {id_: "negative"}
    world.write_dataset()


@pytest.mark.parametrize("id_", ["p1", "p61"], ids=["train", "val"])
def test_one_changed_label_is_trained_again(listed: Any, id_: str) -> None:
    world, request = listed
    digest = read_split_facts(world.dataset_dir, protocol="given").digest
    assert missing(request) == []
    relabel(world, id_)
    assert read_split_facts(world.dataset_dir, protocol="given").digest == digest  # nothing else would tell
    assert missing(request) == ["text_only, seed 0"]
    compare(request)
    assert missing(request) == []


def test_a_changed_label_of_a_test_pair_is_measured_again_and_not_trained(listed: Any) -> None:
    world, request = listed
    relabel(world, "p76")
    assert missing(request) == []
    assert compare(request)["runs"][0]["evaluations"] == {"test": 2}


def test_a_completed_feature_is_trained_again_by_heads_that_read_it(listed: Any, request_for: Any) -> None:
    world, request = listed
    context = request_for(world, heads=("image_only",), seeds="1")
    compare(context)
    complete(world, "p6")
    assert missing(request) == ["text_only, seed 0"]
    assert missing(context) == []
    compare(request)
    assert missing(request) == []


def test_a_completed_feature_of_a_test_pair_is_measured_again_and_not_trained(
    make_world: Callable[..., Any], request_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps, "RATES", (0.0, 0.5))
    given = {f"p{i}": part for i, part in enumerate(PARTS)}
    world = make_world(given=given, statuses={"tokens": {"p80": TOO_LONG}})
    request = request_for(world, heads=("text_only",), seeds="1", missing=True)
    before = compare(request)
    again = compare(request)
    assert (before["runs"][0]["n"], again["runs"][0]["n"]) == (14, 14)
    assert again["runs"][0]["evaluations"] == {"test": 2}  # answers, and answers with gaps: both kept
    complete(world, "p80")
    assert missing(request) == []
    after = compare(request)
    assert after["runs"][0]["n"] == 15
    assert after["runs"][0]["evaluations"] == {"test": 4}


def test_a_run_from_before_inputs_were_recorded_counts_and_is_told(listed: Any) -> None:
    world, request = listed
    (path,) = (world.artifacts / "runs").iterdir()
    document = json.loads((path / "run.json").read_text("utf-8"))
    del document["inputs"]
    (path / "run.json").write_text(json.dumps(document), "utf-8")
    relabel(world, "p1")
    assert missing(request) == []
    assert any(note.startswith("1 of 1 runs do not say which labels") for note in compare(request)["notes"])


def test_a_run_says_what_it_learned_from_and_nothing_of_the_test_part(listed: Any) -> None:
    (path,) = (listed[0].artifacts / "runs").iterdir()
    inputs = RunDirectory.open(Path(path)).document["inputs"]
    assert set(inputs) == {"train", "val"}
    assert set(inputs["train"]["features"]) == {"tokens"}


def complete(world: Any, id_: str) -> None:
    world.statuses = {}
    with FeatureWriter(open_feature_set(next(world.cache_dir.glob("tokens-*")))) as writer:
        writer.commit(writer.stage(2, [world._row("tokens", id_)]))
