"""Training end to end on a real small cache: what is written, what is refused, what is never read."""

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sentifuse import CacheError, ConfigError, DataError, ResourceError, SentifuseError, TrainingError
from sentifuse.data import splits
from sentifuse.fuse import train as train_module
from sentifuse.fuse.heads import HEADS
from sentifuse.fuse.run import RunDirectory
from sentifuse.fuse.train import TrainRequest, find_device, train

MakeWorld = Callable[..., Any]
QUICK = {"epochs": "2", "batch_size": "16"}
# One head of each way to train; the others are slow tests here, and are all trained in test_heads_shared.py.
KINDS = ("itin", "ctmwa", "rnn_ca_embedding", "logreg")
EVERY_HEAD = [head if head in KINDS else pytest.param(head, marks=pytest.mark.slow) for head in HEADS]


def request(world: Any, head: str = "text_only", **settings: Any) -> TrainRequest:
    defaults = {"overrides": {} if head == "logreg" else QUICK}
    return TrainRequest(artifacts=world.artifacts, dataset=world.name, head=head, **(defaults | settings))


def run_names(world: Any) -> list[str]:
    folder = world.artifacts / "runs"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("head", EVERY_HEAD)
def test_every_head_leaves_a_whole_run(world: Any, head: str) -> None:
    run = train(request(world, head, command=("sentifuse", "train")))
    names = {path.name for path in run.path.iterdir()}
    assert names == {"run.json", "history.csv", "model.safetensors", "predictions-val.parquet", "metrics-val.json"}
    document = run.document
    assert (document["head"], document["dataset"], document["rule"], document["protocol"]) == (
        head,
        "pairs",
        "given",
        "random",
    )
    assert document["classes"] == ["negative", "neutral", "positive"]
    assert document["command"] == ["sentifuse", "train"]
    assert document["samples"]["train"]["n"] == 72
    assert document["samples"]["val"]["n"] == document["split"]["val"]["n"] == 9
    for recorded in document["feature_sets"].values():
        assert recorded["directory"].endswith(recorded["fingerprint"][:12])
    metrics = json.loads((run.path / "metrics-val.json").read_text(encoding="utf-8"))
    assert metrics["accuracy"] == document["validation"]["accuracy"] == pytest.approx(document["best"]["val_accuracy"])


def test_config_records_where_each_value_comes_from(world: Any) -> None:
    config = train(request(world)).document["config"]
    assert (config["train"]["epochs"], config["origins"]["epochs"]) == (2, "--set")
    assert config["origins"]["hidden"] == "preset default"
    assert config["origins"]["gradient_clip"] == "default"


def test_the_precision_of_a_training_is_in_its_run(world: Any) -> None:
    runs = {name: train(request(world, overrides=QUICK | {"precision": name})) for name in ("float32", "bfloat16")}
    for name, run in runs.items():
        assert run.document["config"]["train"]["precision"] == name
        assert {value.dtype for value in run.load_head().state_dict().values()} == {torch.float32}
    plain = train(request(world)).document
    assert plain["config"]["origins"]["precision"] == "default"
    assert plain["best"] == runs["float32"].document["best"] != runs["bfloat16"].document["best"]


def test_the_test_part_is_never_asked_for(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def watch(*arguments: Any, parts: tuple[str, ...], **options: Any) -> Any:
        asked.append(parts)
        return splits.read_split(*arguments, parts=parts, **options)

    monkeypatch.setattr(train_module, "read_split", watch)
    train(request(world))
    assert asked == [("train", "val")]


@pytest.mark.parametrize("head", ["itin", "logreg", "ctmwa"])
def test_whatever_the_test_part_holds_the_same_head_is_learned(
    make_world: MakeWorld, tmp_path: Path, head: str
) -> None:
    parts = {f"p{i}": ("val" if i % 10 == 8 else "test" if i % 10 == 9 else "train") for i in range(90)}
    test = frozenset(id_ for id_, part in parts.items() if part == "test")
    plain = make_world(artifacts=tmp_path / "plain", given=parts)
    turned = {"negative": "neutral", "neutral": "positive", "positive": "negative"}
    other = make_world(
        artifacts=tmp_path / "other",
        given=parts,
        labels={id_: turned[plain.label(id_)] if id_ in test else plain.label(id_) for id_ in parts},
        texts=dict.fromkeys(test, "other words"),
        not_stored=dict.fromkeys(("tokens", "context", "regions"), test),
    )
    runs = [train(request(world, head)) for world in (plain, other)]
    for name in ("model.safetensors", "predictions-val.parquet"):
        assert (runs[0].path / name).read_bytes() == (runs[1].path / name).read_bytes()
    assert runs[0].document["best"] == runs[1].document["best"]


def test_nothing_that_training_imports_can_open_the_test_part() -> None:
    """All modules of `fuse` within reach of `train` and the heads: one call of `read_split`, for two fixed parts."""
    reached = [train_module.__name__, *(target.partition(":")[0] for target in HEADS.values())]
    calls = {}
    for name in reached:  # grows
        tree = ast.parse(Path(importlib.import_module(name).__file__).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sentifuse.fuse"):
                reached += [] if node.module in reached else [node.module]
            if isinstance(node, ast.ImportFrom) and node.module == "sentifuse.data.splits":
                calls[name] = {alias.name for alias in node.names}
    assert {"sentifuse.fuse.loop", "sentifuse.fuse.features.samples", "sentifuse.fuse.heads.itin"} <= set(reached)
    assert not {"sentifuse.fuse.evaluate", "sentifuse.fuse.missing"} & set(reached)
    assert calls == {train_module.__name__: {"SplitFacts", "read_split", "read_split_facts"}}
    source = ast.parse(Path(train_module.__file__).read_text(encoding="utf-8"))
    opened = [
        {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}["parts"]
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "read_split"
    ]
    assert opened == ["PARTS"]
    assert train_module.PARTS == ("train", "val")


@pytest.mark.slow
def test_same_seed_same_run_in_another_process(world: Any) -> None:
    here = train(request(world, "itin"))
    code = (
        "import sys, torch; from pathlib import Path; from sentifuse.fuse.train import TrainRequest, train\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "run = train(TrainRequest(artifacts=Path(sys.argv[1]), dataset='pairs', head='itin',"
        " overrides={'epochs': 2, 'batch_size': 16}))\n"
        "sys.stdout.write(run.name)"
    )
    command = [sys.executable, "-c", code, str(world.artifacts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    there = RunDirectory.open(world.artifacts / "runs" / done.stdout)
    files = [(run.path / "model.safetensors").read_bytes() for run in (here, there)]
    assert files[0] == files[1]
    assert there.document["best"] == here.document["best"]


def test_two_and_seven_classes_train(make_world: MakeWorld) -> None:
    for classes in (("no", "yes"), tuple("abcdefg")):
        world = make_world(name=f"classes{len(classes)}", n=140, classes=classes)
        for head in ("itin", "logreg"):
            run = train(request(world, head))
            assert run.classes == classes
            assert run.load_head().class_count == len(classes)


def test_a_given_split_is_honoured(make_world: MakeWorld) -> None:
    parts = {f"p{i}": "train" if i < 60 else "val" if i < 75 else "test" for i in range(90)}
    document = train(request(make_world(given=parts))).document
    assert document["protocol"] == "given"
    assert (document["split"]["train"]["n"], document["split"]["val"]["n"]) == (60, 15)


def test_excluded_pairs_are_in_the_run_by_name(make_world: MakeWorld) -> None:
    statuses = {"context": {f"p{i}": "unreadable: truncated" for i in range(0, 90, 10)}}
    document = train(request(make_world(statuses=statuses), "itin")).document
    excluded = {**document["excluded"]["train"], **document["excluded"]["val"]}
    assert set(excluded) <= {f"p{i}" for i in range(0, 90, 10)}
    assert set(excluded.values()) == {"context: unreadable: truncated"}
    assert document["samples"]["train"]["n"] + len(document["excluded"]["train"]) == document["split"]["train"]["n"]


def test_a_text_head_trains_where_every_image_is_missing(make_world: MakeWorld) -> None:
    missing = {f"p{i}": "missing" for i in range(90)}
    world = make_world(statuses={"context": missing, "regions": missing})
    assert train(request(world)).document["samples"]["train"]["n"] == 72
    with pytest.raises(TrainingError, match=r"usable pairs in the train part, found none \(72 pairs context: missing"):
        train(request(world, "itin"))


def test_unimodal_labels_can_be_the_target(make_world: MakeWorld) -> None:
    text_labels = {f"p{i}": ("negative", "neutral", "positive")[(i + 1) % 3] for i in range(0, 90, 2)}
    document = train(request(make_world(text_labels=text_labels), target="text_label")).document
    assert document["target"] == "text_label"
    assert set(document["excluded"]["train"].values()) == {"no text_label"}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"head": "ctmva"},
            ConfigError,
            "--head: unknown head 'ctmva'; did you mean 'ctmwa'.*There are: .*image_only, itin, late_lr",
        ),
        ({"preset": "papr"}, ConfigError, "unknown preset 'papr'; did you mean 'paper'"),
        ({"overrides": {"epoch": "3"}}, ConfigError, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"target": "labels"}, ConfigError, "--target: unknown target 'labels'; did you mean 'label'"),
        ({"protocol": "randm"}, ConfigError, "--protocol: unknown protocol 'randm'; did you mean 'random'"),
        ({"rule": "multisentimet"}, ConfigError, "unknown label rule"),
        ({"device": "gpu"}, ConfigError, "--device: unknown device 'gpu'"),
        (
            {"overrides": {"precision": "bf16"}},
            ConfigError,
            "unknown value of precision 'bf16'; did you mean 'bfloat16'",
        ),
        ({"head": "logreg", "overrides": {"precision": "bfloat16"}}, ConfigError, "precision: head logreg is solved"),
        ({"head": "late_lr", "overrides": {"precision": "bfloat16"}}, ConfigError, "precision: head late_lr is solved"),
        ({"seed": -1}, ConfigError, "--seed: expected a whole number from 0"),
        ({"dataset": "nowhere"}, DataError, "nowhere.*not there.*sentifuse data prepare"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_wrong_request_is_refused_before_any_work(
    world: Any, settings: dict[str, Any], error: type[SentifuseError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("training was started")

    monkeypatch.setattr(train_module, "fit_head", never)
    before = run_names(world)
    values = {"artifacts": world.artifacts, "dataset": world.name, "head": "text_only"} | settings
    with pytest.raises(error, match=f"(?s){message}"):
        train(TrainRequest(**values))
    assert run_names(world) == before


def test_a_class_without_training_pairs_is_refused(make_world: MakeWorld) -> None:
    labels = {f"p{i}": "negative" if i % 2 else "positive" for i in range(90)}
    with pytest.raises(TrainingError, match=r"training pairs of every class, found none of neutral \(\{'negative': 37"):
        train(request(make_world(labels=labels)))


def test_an_empty_validation_part_is_refused(make_world: MakeWorld) -> None:
    with pytest.raises(TrainingError, match=r"in the val part, found none \(the part is empty\)\. .* too small"):
        train(
            request(make_world(n=45, labels={f"p{i}": ("negative", "neutral", "positive")[i % 3] for i in range(24)}))
        )


def test_features_that_were_not_extracted_are_named(make_world: MakeWorld) -> None:
    with pytest.raises(CacheError, match="--encoders regions,context"):
        train(request(make_world(n=45, encoders=("tokens",)), "itin"))


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(n=45)
    (world.artifacts / "runs").write_text("a file where the folder should be", encoding="utf-8")
    monkeypatch.setattr(train_module, "fit_head", None)
    with pytest.raises(DataError, match=r"runs: cannot be written.*--artifacts"):
        train(request(world))


@pytest.mark.parametrize("error", [KeyboardInterrupt, TrainingError])
def test_a_training_that_stops_leaves_no_run(
    world: Any, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any, **options: Any) -> None:
        raise error

    before = run_names(world)
    monkeypatch.setattr(train_module, "fit_head", stop)
    with pytest.raises(error):
        train(request(world))
    assert run_names(world) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_a_device_that_is_not_there_is_a_missing_resource() -> None:
    with pytest.raises(ResourceError, match=r"--device cuda: .*found 0\. Use --device cpu"):
        find_device("cuda")
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("head", HEADS)
def test_every_head_trains_on_a_gpu(world: Any, head: str) -> None:
    run = train(request(world, head, device="cuda"))
    assert Path(run.path / "model.safetensors").is_file()
