"""Evaluation: numbers that equal the written predictions, and refusal of anything but the run's own split."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import CacheError, ConfigError, DataError
from sentifuse.data.groups import read_groups
from sentifuse.data.splits import read_split
from sentifuse.fuse.evaluate import evaluate, measure, open_part
from sentifuse.fuse.run import RunDirectory, read_predictions
from sentifuse.fuse.train import TrainRequest, train

MakeWorld = Callable[..., Any]


def train_quickly(world: Any, head: str = "text_only", **overrides: Any) -> RunDirectory:
    settings = {} if head == "logreg" else {"epochs": 2, "batch_size": 16, **overrides}
    return train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head=head, overrides=settings))


def test_numbers_are_those_of_the_written_predictions(world: Any) -> None:
    run = train_quickly(world, "itin")
    found = evaluate(run.path)
    written = read_predictions(run, "test")
    assert found["n"] == len(written.ids) == 9
    assert found["accuracy"] == pytest.approx(float(np.mean(written.labels == written.predicted)))
    assert np.trace(np.array(found["confusion"])) == int((written.labels == written.predicted).sum())
    assert set(written.ids) == set(read_split(world.dataset_dir, parts=("test",))["test"])
    np.testing.assert_allclose(written.probabilities.sum(1), 1.0)


def test_everything_is_said_and_written(world: Any) -> None:
    run = train_quickly(world)
    found = evaluate(run)
    expected = {"run": str(run.path), "split": "test", "dataset": "pairs", "head": "text_only", "seed": 0}
    assert expected.items() <= found.items()
    assert {"f1_weighted", "f1_macro", "balanced_accuracy", "per_class", "classes", "rule", "protocol"} <= set(found)
    assert all(Path(path).is_file() for path in found["files"].values())
    written = json.loads(Path(found["files"]["metrics"]).read_text(encoding="utf-8"))
    assert written == {key: value for key, value in found.items() if key != "files"}


def test_the_written_table_of_predictions_is_enough_to_have_every_number_again(make_world: MakeWorld) -> None:
    sides = {f"p{i}": ("negative", "neutral", "positive")[i % 3] for i in range(0, 90, 2)}
    world = make_world(text_labels=sides, image_labels=sides)
    run = train_quickly(world)
    written = json.loads(Path(evaluate(run)["files"]["metrics"]).read_text(encoding="utf-8"))
    named = open_part(run, "test").subsets(read_groups(world.dataset_dir))
    again = json.loads(json.dumps(measure(read_predictions(run, "test"), named=named)))
    assert {"auroc", "ece", "nll", "brier", "reliability", "intervals", "subsets", "confusion"} <= set(again)
    assert {name: written[name] for name in again} == again


def test_every_average_has_its_interval(world: Any) -> None:
    found = evaluate(train_quickly(world))
    for name in ("accuracy", "f1_weighted", "f1_macro", "balanced_accuracy"):
        interval = found["intervals"][name]
        assert interval["low"] <= found[name] == interval["estimate"] <= interval["high"]
        assert (interval["n"], interval["unit"], interval["level"]) == (found["n"], "pairs", 0.95)
    assert "subsets" in found
    assert set(found["subsets"]) == {"leaked", "not_leaked"}  # the dataset has no labels of text and image alone


def test_pairs_are_also_scored_by_how_their_modalities_were_labelled(make_world: MakeWorld) -> None:
    test = read_split(make_world(name="plain").dataset_dir, parts=("test",))["test"]
    text = dict.fromkeys(test[:7], "positive")
    image = dict.fromkeys(test[:3], "positive") | dict.fromkeys(test[3:5], "neutral") | {test[5]: "negative"}
    found = evaluate(train_quickly(make_world(text_labels=text, image_labels=image)))["subsets"]
    assert {name: found[name]["n"] for name in ("agree", "soften", "conflict", "unlabelled")} == {
        "agree": 3,
        "soften": 2,
        "conflict": 1,
        "unlabelled": 3,
    }
    for figures in found.values():
        assert figures["n"] == 0 or figures["intervals"]["accuracy"]["n"] == figures["n"]


def test_pairs_with_a_near_duplicate_in_training_are_scored_apart(make_world: MakeWorld) -> None:
    parts = read_split(make_world(name="plain").dataset_dir, parts=("train", "test"))
    copied = dict(zip(parts["test"][:2], parts["train"][:2], strict=True))
    texts = {id_: f"the very same words {n}" for n, pair in enumerate(copied.items()) for id_ in pair}
    run = train_quickly(make_world(texts=texts))
    assert {name: figures["n"] for name, figures in evaluate(run)["subsets"].items()} == {"leaked": 2, "not_leaked": 7}
    assert evaluate(run, split="train")["subsets"] == {}  # of its own part nothing leaks


def test_under_a_grouped_split_intervals_draw_groups(make_world: MakeWorld) -> None:
    texts = {f"p{i}": f"the same words {i % 9 % 3} {i // 9}" for i in range(90)}
    world = make_world(texts=texts)
    request = TrainRequest(
        artifacts=world.artifacts,
        dataset=world.name,
        head="text_only",
        protocol="grouped",
        overrides={"epochs": 1, "batch_size": 16},
    )
    found = evaluate(train(request))
    groups = {
        read_groups(world.dataset_dir)[id_] for id_ in read_predictions(RunDirectory.open(found["run"]), "test").ids
    }
    interval = found["intervals"]["accuracy"]
    assert (interval["unit"], interval["units"]) == ("groups", len(groups))
    assert len(groups) < found["n"]
    assert found["subsets"]["leaked"]["n"] == 0


def test_each_look_at_a_part_is_counted(world: Any) -> None:
    run = train_quickly(world)
    assert [evaluate(run)["evaluations"] for _ in range(2)] == [1, 2]
    assert evaluate(run, split="val")["evaluations"] == 1
    assert RunDirectory.open(run.path).document["evaluations"] == {"test": 2, "val": 1}


def test_validation_gives_the_numbers_of_the_training(world: Any) -> None:
    for head in ("itin", "logreg"):
        run = train_quickly(world, head)
        found = evaluate(run, split="val")
        assert {name: found[name] for name in run.document["validation"]} == pytest.approx(run.document["validation"])


def test_planted_sentiment_is_found(make_world: MakeWorld) -> None:
    world = make_world(n=300)
    overrides = {"epochs": 10, "learning_rate": 3e-3, "width": 32, "align_width": 32}
    assert evaluate(train_quickly(world, "itin", **overrides))["accuracy"] > 0.8
    assert evaluate(train_quickly(world, "logreg"))["accuracy"] > 0.8


def test_pairs_without_features_are_counted_by_name(make_world: MakeWorld) -> None:
    plain = make_world(name="plain")
    lost = read_split(plain.dataset_dir, parts=("test",))["test"][:2]
    world = make_world(statuses={"tokens": dict.fromkeys(lost, "failed: too long")})
    found = evaluate(train_quickly(world))
    assert found["excluded"] == dict.fromkeys(lost, "tokens: failed: too long")
    assert found["n"] == 7


def test_no_usable_pair_is_refused(make_world: MakeWorld) -> None:
    plain = make_world(name="plain")
    lost = read_split(plain.dataset_dir, parts=("test",))["test"]
    run = train_quickly(make_world(statuses={"tokens": dict.fromkeys(lost, "missing")}))
    with pytest.raises(DataError, match="usable pairs in the test part, found none of 9"):
        evaluate(run)


def test_a_split_made_anew_is_refused(make_world: MakeWorld) -> None:
    world = make_world()
    run = train_quickly(world)
    world.n = 120
    world.write_dataset()
    with pytest.raises(DataError, match=r"train part of split random-s0 has 96 pairs, .* not the 72 .*Train again"):
        evaluate(run)
    assert RunDirectory.open(run.path).document["evaluations"] == {}


def test_other_classes_are_refused(make_world: MakeWorld) -> None:
    world = make_world()
    run = train_quickly(world)
    world.classes = ("negative", "positive", "neutral")
    world.write_dataset()
    with pytest.raises(DataError, match=r"the classes are .* expected .* as in run"):
        evaluate(run)


def test_an_edited_pair_is_refused(make_world: MakeWorld) -> None:
    world = make_world()
    run = train_quickly(world)
    world.texts = dict.fromkeys(read_split(world.dataset_dir, parts=("test",))["test"][:1], "edited")
    world.write_dataset()
    with pytest.raises(CacheError, match="1 of 9 pairs have changed since they were encoded"):
        evaluate(run)


def test_an_unknown_part_and_an_absent_run_are_refused(world: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown part of the split 'tset'; did you mean 'test'"):
        evaluate(train_quickly(world), split="tset")
    with pytest.raises(ConfigError, match="expected a run directory"):
        evaluate(tmp_path / "nothing")


def test_artefacts_may_be_moved(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    run = train_quickly(world)
    moved = world.artifacts.rename(tmp_path / "elsewhere")
    assert evaluate(moved / "runs" / run.name)["n"] == 9
