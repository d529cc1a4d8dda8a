"""Run directories: whole or absent, rebuilt exactly, refused when the features are others."""

import csv
import errno
import fcntl
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import CacheError, ConfigError, DataError
from sentifuse.data import files
from sentifuse.fuse import run as run_module
from sentifuse.fuse.features.batches import BatchSource
from sentifuse.fuse.heads import HEADS
from sentifuse.fuse.infer import infer_logits, softmax
from sentifuse.fuse.run import Predictions, RunDirectory, check_runs_folder, read_predictions, run_name
from sentifuse.fuse.train import TrainRequest, train

MakeWorld = Callable[..., Any]
STARTED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
# One head of each way to train; the others are slow tests here, and are all trained in test_heads_shared.py.
KINDS = ("itin", "ctmwa", "rnn_ca_embedding", "logreg")
EVERY_HEAD = [head if head in KINDS else pytest.param(head, marks=pytest.mark.slow) for head in HEADS]


def train_quickly(world: Any, head: str = "text_only") -> RunDirectory:
    overrides = {} if head == "logreg" else {"epochs": 2, "batch_size": 16}
    return train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head=head, overrides=overrides))


def test_names_say_what_and_when() -> None:
    name = run_name(STARTED, head="itin", dataset="mvsa_single", protocol="random", seed=3)
    assert re.fullmatch(r"20260304T050607Z-itin-mvsa_single-random-s3-[0-9a-f]{4}", name)
    folded = run_name(STARTED, head="itin", dataset="d", protocol="folds", seed=0, fold=2)
    assert re.fullmatch(r"20260304T050607Z-itin-d-folds-s0-f2-[0-9a-f]{4}", folded)


@pytest.mark.parametrize("head", EVERY_HEAD)
def test_a_reopened_run_predicts_what_was_written(world: Any, head: str) -> None:
    run = RunDirectory.open(train_quickly(world, head).path)
    written = read_predictions(run, "val")
    source = BatchSource(run.open_features(), run.requests(), written.ids)
    found = softmax(infer_logits(run.load_head(), source, device=torch.device("cpu")))
    np.testing.assert_allclose(found, written.probabilities, atol=1e-6)
    assert run.artifacts == world.artifacts


def test_history_has_one_row_per_epoch(world: Any) -> None:
    run = train_quickly(world)
    with (run.path / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    best = rows[run.document["best"]["epoch"] - 1]
    assert float(best["val_accuracy"]) == run.document["best"]["val_accuracy"]


def test_predictions_come_back(tmp_path: Path, world: Any) -> None:
    run = train_quickly(world)
    probabilities = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    given = Predictions(
        ids=("x", "y"),
        labels=np.array([2, 0]),
        probabilities=probabilities,
        classes=("negative", "neutral", "positive"),
    )
    assert given.predicted.tolist() == [1, 0]
    given.write(tmp_path, "test")
    columns, _ = files.read_table(tmp_path / "predictions-test.parquet", ("id", "predicted", "p_neutral"), hint="")
    assert columns == {"id": ["x", "y"], "predicted": ["neutral", "negative"], "p_neutral": [0.5, 0.1]}
    back = read_predictions(RunDirectory(tmp_path, run.document), "test")
    assert back.ids == given.ids
    assert back.labels.tolist() == [2, 0]
    np.testing.assert_array_equal(back.probabilities, probabilities)


def test_a_crash_while_writing_leaves_no_run(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(n=45)

    def crash(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "write_metrics", crash)
    with pytest.raises(KeyboardInterrupt):
        train_quickly(world)
    assert list((world.artifacts / "runs").iterdir()) == []


def test_a_full_disk_leaves_no_run(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(n=45)

    write = files.write_bytes

    def full(path: Path, content: bytes) -> bool:
        if path.name == "model.safetensors":
            raise DataError(f"{path}: cannot be written: No space left on device")
        return write(path, content)

    monkeypatch.setattr(run_module.files, "write_bytes", full)
    with pytest.raises(DataError, match="No space left"):
        train_quickly(world)
    assert list((world.artifacts / "runs").iterdir()) == []


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a run directory with run\.json, found none"):
        RunDirectory.open(tmp_path)
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="not JSON"):
        RunDirectory.open(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 99}', encoding="utf-8")
    with pytest.raises(DataError, match="expected format 1, found 99"):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize("damage", [{"best": None}, {"config": {}}, {"seed": "0"}, {"classes": {}}, {"split": []}])
def test_a_run_that_is_damaged_inside_is_refused_by_name(tmp_path: Path, damage: dict[str, Any]) -> None:
    whole = {name: kind() for name, kind in run_module.KINDS.items()} | {"format": run_module.FORMAT_VERSION}
    whole |= {"config": {"head": {}, "train": {}}}
    (tmp_path / "run.json").write_text(json.dumps(whole), encoding="utf-8")
    assert RunDirectory.open(tmp_path).document == whole
    (tmp_path / "run.json").write_text(json.dumps(whole | damage), encoding="utf-8")
    with pytest.raises(DataError, match=rf"run\.json: expected what a training writes, found {next(iter(damage))}"):
        RunDirectory.open(tmp_path)


def test_damaged_weights_are_refused(world: Any) -> None:
    run = train_quickly(world)
    model = run.path / "model.safetensors"
    content = model.read_bytes()
    model.write_bytes(content[:-3])
    with pytest.raises(DataError, match="not a readable safetensors file"):
        run.load_head()
    model.unlink()
    with pytest.raises(DataError, match="not there"):
        run.load_head()


def test_weights_of_another_shape_are_refused(world: Any) -> None:
    run = train_quickly(world)
    wider = {**run.document, "widths": {"tokens.states": 13}}
    with pytest.raises(DataError, match=r"hidden\.weight has shape \(128, 12\), expected \(128, 13\)"):
        replace(run, document=wider).load_head()


def test_features_of_another_recipe_are_refused_key_by_key(make_world: MakeWorld) -> None:
    world = make_world(n=45)
    run = train_quickly(world)
    for folder in world.cache_dir.glob("tokens-*"):
        folder.rename(folder.with_name("away"))
    world.recipe = {"model": "b", "layer": {"depth": 2}}
    world.write_cache()
    message = r'(?s)layer\.depth: 1 in the run, 2 in the cache; model: "a" in the run, "b" in the cache'
    with pytest.raises(CacheError, match=message):
        run.open_features()


def test_features_extracted_later_do_not_disturb_a_run(make_world: MakeWorld) -> None:
    world = make_world(n=45)
    run = train_quickly(world)
    world.recipe = {"model": "b"}
    world.write_cache()
    assert run.open_features()["tokens"].fingerprint == run.document["feature_sets"]["tokens"]["fingerprint"]


def test_features_that_are_gone_are_named(make_world: MakeWorld) -> None:
    world = make_world(n=45)
    run = train_quickly(world)
    for folder in world.cache_dir.glob("tokens-*"):
        folder.rename(folder.with_name("away"))
    (world.cache_dir / "current.json").unlink()
    with pytest.raises(CacheError, match="sentifuse extract --dataset pairs"):
        run.open_features()


def test_the_folder_for_runs_is_made_and_left_empty(tmp_path: Path) -> None:
    assert list(check_runs_folder(tmp_path / "new").iterdir()) == []


def test_looks_at_the_same_time_are_all_counted(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both read, and only then both write, if nothing keeps the second one waiting."""
    run, meeting, read = train_quickly(world), Barrier(2), files.read_json

    def read_together(path: Path, **options: Any) -> dict[str, Any]:
        found = read(path, **options)
        with suppress(BrokenBarrierError):
            meeting.wait(0.1)
        return found

    monkeypatch.setattr(files, "read_json", read_together)
    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(run.count_evaluation, ("test", "test")))
    assert sorted(counts) == [1, 2]
    monkeypatch.undo()
    assert RunDirectory.open(run.path).document["evaluations"] == {"test": 2}
    assert [path.name for path in run.path.iterdir() if "lock" in path.name] == []


def test_where_there_are_no_locks_a_look_is_counted_all_the_same(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train_quickly(world)

    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run.count_evaluation("val") == 1
