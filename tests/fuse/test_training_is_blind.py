"""Training cannot read the test part, neither ids nor features; a run says what it may know of it."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.data.splits import ensure_split, read_split, read_split_facts
from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.run import RunDirectory
from sentifuse.fuse.train import TrainRequest, train

ROOT = Path(__file__).parents[2]
MakeWorld = Callable[..., Any]


def train_quickly(world: Any, **options: Any) -> RunDirectory:
    options = {"head": "text_only", "overrides": {"epochs": 2, "batch_size": 16}} | options
    return train(TrainRequest(artifacts=world.artifacts, dataset=world.name, **options))


def model(run: RunDirectory) -> bytes:
    return (run.path / "model.safetensors").read_bytes()


def test_a_split_file_without_its_test_rows_trains_the_very_same_model(make_world: MakeWorld) -> None:
    world = make_world()
    expected = model(train_quickly(world))
    path = ensure_split(world.dataset_dir)
    columns, metadata = files.read_table(path, ("id", "fold", "split"), hint="")
    kept = [row for row, part in enumerate(columns["split"]) if part != "test"]
    kinds = {"id": "string", "fold": "int32", "split": "string"}
    blind = {name: (kinds[name], [values[row] for row in kept]) for name, values in columns.items()}
    files.write_table(path, blind, metadata)
    assert read_split(world.dataset_dir, parts=("test",)) == {"test": ()}
    assert model(train_quickly(world)) == expected


def test_a_cache_without_the_test_pairs_trains_the_very_same_model(make_world: MakeWorld) -> None:
    world = make_world()
    expected = model(train_quickly(world))
    tested = frozenset(read_split(world.dataset_dir, parts=("test",))["test"])
    lacking = make_world(artifacts=world.artifacts / "lacking", not_stored=dict.fromkeys(world.encoders, tested))
    assert model(train_quickly(lacking)) == expected


@pytest.mark.parametrize(
    "path",
    [ROOT / "fuse" / "train.py", ROOT / "fuse" / "loop.py", *sorted((ROOT / "fuse" / "heads").glob("*.py"))],
    ids=lambda path: path.name,
)
def test_the_training_code_names_no_test_part(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert "test" not in strings
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "read_split"]
    assert all(ast.unparse(word.value) == "PARTS" for call in calls for word in call.keywords if word.arg == "parts")
    assert len(calls) == (path.name == "train.py")


def test_a_run_knows_its_split_by_digest_and_leak(make_world: MakeWorld) -> None:
    world = make_world(texts={"p1": "the same", "p2": "The same!"})
    heard: list[Any] = []
    request = TrainRequest(artifacts=world.artifacts, dataset="pairs", head="text_only", overrides={"epochs": 1})
    run = train(request, report_split=heard.append)
    facts = read_split_facts(world.dataset_dir)
    assert heard == [facts]
    document = run.document
    assert (document["protocol"], document["fold"], document["folds"]) == ("random", 0, 0)
    assert (document["split_digest"], document["missing_listed"]) == (facts.digest, 0)
    assert document["leak"] == facts.leak
    assert document["images_compared"] == {"n": 0, "of": 90}  # this world has no image files


def test_a_fold_is_trained_and_evaluated_as_such(make_world: MakeWorld) -> None:
    world = make_world()
    run = train_quickly(world, protocol="folds", fold=3)
    assert "-pairs-folds-s0-f3-" in run.name
    assert (run.document["fold"], run.document["folds"]) == (3, 10)
    found = evaluate(run)
    expected = read_split(world.dataset_dir, protocol="folds", fold=3, parts=("test",))["test"]
    assert found["n"] == len(expected) == 9
    columns, _ = files.read_table(run.path / "predictions-test.parquet", ("id",), hint="")
    assert columns["id"] == list(expected)
    assert found["fold"] == 3


@pytest.mark.parametrize(("protocol", "fold"), [("folds", None), ("folds", 11), ("random", 1)])
def test_a_fold_that_is_not_there_stops_before_any_run(make_world: MakeWorld, protocol: str, fold: int | None) -> None:
    world = make_world()
    with pytest.raises(ConfigError, match="--fold"):
        train_quickly(world, protocol=protocol, fold=fold)
    assert not (world.artifacts / "runs").exists()


def test_a_run_of_another_test_part_is_refused(make_world: MakeWorld) -> None:
    run = train_quickly(make_world())
    path = run.path / "run.json"
    digest = run.document["split_digest"]
    path.write_text(path.read_text(encoding="utf-8").replace(digest, "0" * 64), encoding="utf-8")
    with pytest.raises(DataError, match="the test part of split random-s0 is not that of run"):
        evaluate(run.path)
