"""Laws of fine-tuning: it learns, loses nothing, and a stopped training ends as if it had not been stopped."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import ConfigError, DataError, ResourceError, TrainingError
from sentifuse.cache.errors import Locked
from sentifuse.crowd.finetune.checkpoints import CHECKPOINT
from sentifuse.crowd.finetune.images import Squares
from sentifuse.crowd.finetune.job import finetune, remove_checkpoint
from sentifuse.crowd.finetune.network import build_student, read_base
from sentifuse.crowd.finetune.recipe import Finetuned, FinetuneRequest, LeftOut, resolve_recipe
from sentifuse.crowd.folder_lock import only_here

Request = Callable[..., FinetuneRequest]
TIMES = {"seconds", "images_per_s", "waiting_share"}


class Stopped(Exception):
    """Stands for a process that was killed."""


def stop_after(step: int) -> Callable[[Mapping[str, Any]], None]:
    def hear(row: Mapping[str, Any]) -> None:
        if "val_loss" not in row and row["step"] == step:
            raise Stopped

    return hear


def same(a: Finetuned, b: Finetuned) -> bool:
    return (
        a.tensors.keys() == b.tensors.keys()
        and all(np.array_equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
        and np.array_equal(a.val_logits, b.val_logits)
        and timeless(a.history) == timeless(b.history)
    )


def weights_of(folder: Path) -> dict[str, Any]:
    from transformers import ViTModel

    net = ViTModel.from_pretrained(folder, add_pooling_layer=False)
    return {name: value.numpy() for name, value in net.state_dict().items()}


def timeless(rows: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return timeless(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_colours_are_learned(finetune_request: Request, kind: str) -> None:
    found = finetune(finetune_request({"epochs": 8, "patience": 0}, kind=kind))
    assert found.best["val_accuracy"] == 1.0
    assert (found.val_logits.argmax(1) == np.arange(18, 24) % 3).all()


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("stop", [8, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (3, 12))])
def test_stopping_and_going_on_gives_the_same_bytes(finetune_request: Request, kind: str, stop: int) -> None:
    """15 steps, 5 of the head alone; dropout, augmentation, shuffling and warm-up are all on."""
    recipe = {"dropout": 0.1, "lora_dropout": 0.1, "patience": 0}
    whole = finetune_request(recipe, kind=kind, checkpoint_every=2)
    expected = finetune(replace(whole, out=whole.out / "whole"))
    stopped = replace(whole, out=whole.out / "stopped")
    with pytest.raises(Stopped):
        finetune(stopped, progress=stop_after(stop))
    assert (stopped.out / CHECKPOINT).is_file()
    heard: list[Any] = []
    found = finetune(replace(stopped, resume=True), progress=heard.append)
    assert heard[0] == {"resumed_step": heard[1]["step"] - 1, "is_finished": False}
    assert same(found, expected)
    for name in ("history.csv", "steps.csv"):
        assert rows_of(stopped.out / name) == rows_of(whole.out / "whole" / name)
    assert len(rows_of(stopped.out / "steps.csv")) == 15


def test_going_on_without_a_checkpoint_is_beginning(finetune_request: Request) -> None:
    request = finetune_request(checkpoint_every=0)
    with pytest.raises(Stopped):
        finetune(request, progress=stop_after(2))
    first = finetune(replace(request, resume=True))
    assert same(first, finetune(replace(request, out=request.out / "other")))


def test_a_finished_training_gives_its_result_again_without_a_step(finetune_request: Request) -> None:
    request = finetune_request()
    first = finetune(request)
    heard: list[Any] = []
    assert same(finetune(replace(request, resume=True), progress=heard.append), first)
    assert heard == [{"resumed_step": 15, "is_finished": True}]


def test_how_many_images_at_a_time_and_threads_do_not_change_the_result(finetune_request: Request) -> None:
    request = finetune_request()
    whole = finetune(request)
    in_parts = finetune(
        replace(request, recipe=replace(request.recipe, micro_batch=3), out=request.out / "b", loader_threads=1)
    )
    assert in_parts.history[-1]["train_loss"] == pytest.approx(whole.history[-1]["train_loss"], rel=1e-3)
    for name, value in whole.tensors.items():
        np.testing.assert_allclose(in_parts.tensors[name], value, atol=2e-3, err_msg=name)
    assert same(finetune(replace(request, out=request.out / "c", loader_threads=1)), whole)


def test_a_training_that_ran_out_of_memory_goes_on_with_fewer_images_at_a_time(finetune_request: Request) -> None:
    request = finetune_request({"patience": 0}, checkpoint_every=2)
    whole = finetune(replace(request, out=request.out / "whole"))
    stopped = replace(request, out=request.out / "stopped")
    with pytest.raises(Stopped):
        finetune(stopped, progress=stop_after(7))
    found = finetune(replace(stopped, recipe=replace(request.recipe, micro_batch=2), resume=True))
    assert found.history[-1]["step"] == whole.history[-1]["step"]
    assert found.history[-1]["train_loss"] == pytest.approx(whole.history[-1]["train_loss"], rel=1e-2)


def test_too_little_memory_in_a_step_names_the_way_out(
    finetune_request: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **more: object) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch.Tensor, "backward", fail)
    with pytest.raises(ResourceError, match=r"for 4 images of 32 pixels.*--set micro_batch=2 .*goes on with it"):
        finetune(finetune_request())


def test_two_equal_trainings_at_a_time_are_refused(finetune_request: Request) -> None:
    request = finetune_request()
    with only_here(request.out), pytest.raises(Locked):
        finetune(request)
    assert list(request.out.iterdir()) == []
    finetune(request)


def test_images_that_are_known_to_be_of_no_use_are_not_looked_at_again(finetune_request: Request) -> None:
    """What was found of all folds is cut down to the images of this one."""
    request = finetune_request({"epochs": 1})
    request.images[1].path.unlink()
    expected = finetune(replace(request, out=request.out / "a"))
    known = [LeftOut(id=image.id, path=str(image.path), reason="missing") for image in request.images[:2]]
    known[0] = replace(known[0], path="elsewhere")
    found = finetune(replace(request, out=request.out / "b", find_left_out=lambda: tuple(known)))
    assert [image.id for image in found.left_out] == ["t1-1"]
    assert same(found, expected)


def test_the_first_stage_moves_the_head_alone(finetune_request: Request, tiny_vit: Path) -> None:
    found = finetune(finetune_request({"epochs": 0, "head_epochs": 1}))
    base = weights_of(tiny_vit)
    assert {name.removeprefix("vit.") for name in found.tensors if name.startswith("vit.")} == base.keys()
    assert all(np.array_equal(found.tensors[f"vit.{name}"], value) for name, value in base.items())
    later = finetune(finetune_request({"epochs": 1, "head_epochs": 0}, out=finetune_request().out / "later"))
    assert not any(np.array_equal(later.tensors[f"vit.{name}"], value) for name, value in base.items())


def test_lora_moves_queries_and_values_alone(finetune_request: Request, tiny_vit: Path) -> None:
    found = finetune(finetune_request(kind="lora"))
    base = weights_of(tiny_vit)
    assert {name.removeprefix("vit.") for name in found.tensors if name.startswith("vit.")} == base.keys()
    moved = {name for name, value in base.items() if not np.array_equal(found.tensors[f"vit.{name}"], value)}
    assert moved == {f"layers.{i}.attention.{part}_proj.weight" for i in (0, 1) for part in "qv"}
    assert found.notes["adapted"] == ["q_proj", "v_proj"]


def test_unreadable_images_are_named_and_left_out(finetune_request: Request) -> None:
    request = finetune_request()
    paths = [image.path for image in request.images]
    paths[1].unlink()
    paths[2].write_bytes(b"<!DOCTYPE html><title>404</title>")
    paths[20].write_bytes(paths[20].read_bytes()[:60])
    paths[4].write_bytes(paths[3].read_bytes())
    found = finetune(request)
    assert [(image.id, image.reason) for image in found.left_out] == [
        ("t1-1", "missing"),
        ("t2-1", "not an image"),
        ("t4-1", "changed"),
        ("t20-1", found.left_out[3].reason),
    ]
    assert found.left_out[3].reason in ("truncated", "undecodable", "corrupt")
    assert found.val_rows.tolist() == [18, 19, 21, 22, 23]
    assert [row["id"] for row in rows_of(request.out / "left-out.csv")] == ["t1-1", "t2-1", "t4-1", "t20-1"]
    paths[1].write_bytes(paths[0].read_bytes())  # decided once: a training that goes on has the same parts
    assert same(finetune(replace(request, resume=True)), found)


def test_a_class_without_a_usable_image_is_refused(finetune_request: Request) -> None:
    request = finetune_request(classes=[0, 1, 2] + [0, 1] * 9 + [2, 0, 1])
    request.images[2].path.write_bytes(b"")
    with pytest.raises(TrainingError, match=r"no usable image of class positive \(found: negative 9, neutral 8, pos"):
        finetune(request)
    assert "empty file" in (request.out / "left-out.csv").read_text()


def test_an_image_that_goes_away_meanwhile_is_named(finetune_request: Request) -> None:
    request = finetune_request()

    def hear(row: Mapping[str, Any]) -> None:
        request.images[19].path.unlink(missing_ok=True)

    with pytest.raises(DataError, match=r"19\.png.*could be read when the training began"):
        finetune(request, progress=hear)


def test_another_training_in_the_folder_is_refused(finetune_request: Request) -> None:
    request = finetune_request({"epochs": 1})
    finetune(request)
    with pytest.raises(ConfigError, match=r"was begun here. Go on with it \(--resume\)"):
        finetune(request)
    other = replace(request, recipe=replace(request.recipe, epochs=2), seed=1, resume=True)
    with pytest.raises(ConfigError, match=r"recipe\.epochs was 1, is 2; seed was 0, is 1"):
        finetune(other)
    remove_checkpoint(request.out)
    assert finetune(replace(other, resume=False)).best["epoch"] >= 1


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_weights_are_those_of_the_best_validation(finetune_request: Request, tiny_vit: Path, kind: str) -> None:
    """Steps that are far too large spoil what the head alone has learned."""
    recipe = {"head_epochs": 3, "epochs": 1, "learning_rate": 3.0, "warmup": 0.0, "schedule": "constant"}
    request = finetune_request(recipe, kind=kind)
    found = finetune(request)
    assert found.best["stage"] == "head"
    assert found.history[-1]["val_loss"] > found.best["val_loss"]
    student = build_student(read_base(tiny_vit, 0), request.recipe).eval()
    student.load_state_dict({name: torch.from_numpy(value) for name, value in found.tensors.items()})
    squares = [Squares(side_px=32, resample=2).load(request.images[row].path) for row in found.val_rows]
    with torch.no_grad():
        logits = student(torch.from_numpy(np.stack(squares)))
    np.testing.assert_allclose(logits.numpy(), found.val_logits, atol=1e-5)


def test_waiting_for_better_weights_ends(finetune_request: Request) -> None:
    """With a step size of 0 nothing gets better after the first validation."""
    still = {"learning_rate": 0.0, "head_learning_rate": 0.0, "epochs": 9, "patience": 2}
    request = finetune_request(still)
    found = finetune(request)
    assert [row["is_best"] for row in found.history] == [True, False, False]
    assert found.best["epoch"] == 1
    last = finetune(replace(request, recipe=replace(request.recipe, select="last"), out=request.out / "last"))
    assert (len(last.history), last.best["epoch"]) == (10, 10)


def test_no_validation_is_needed_for_the_last_weights(finetune_request: Request) -> None:
    found = finetune(finetune_request({"select": "last"}, val_rows=np.zeros(0, np.int64)))
    assert found.val_logits.shape == (0, 3)
    assert found.best["val_loss"] is None
    assert found.best["step"] == 15


def test_a_larger_square_stretches_the_positions(finetune_request: Request) -> None:
    found = finetune(finetune_request({"image_px": 48, "epochs": 1, "head_epochs": 0}))
    assert found.vit_config["image_size"] == 48
    assert found.tensors["vit.embeddings.position_embeddings"].shape == (1, 37, 32)
    assert found.processor["size"] == {"height": 48, "width": 48}


def test_five_fold_trains_and_scores_two_classes(finetune_request: Request) -> None:
    request = finetune_request(classes=[0, 2] * 12)
    recipe = resolve_recipe("full", preset="five_fold", overrides={"epochs": 2, "batch_size": 4, "image_px": 32})
    found = finetune(replace(request, recipe=recipe))
    assert [row["stage"] for row in found.history] == ["all", "all"]
    right = (found.val_logits[:, 2] > found.val_logits[:, 0]) == (np.arange(18, 24) % 2 == 1)
    assert found.best["val_accuracy"] == right.mean()
    with pytest.raises(DataError, match="the training part has 1 neutral images"):
        finetune(replace(request, recipe=recipe, classes=np.array([1, 2, *[0, 2] * 11]), out=request.out / "b"))


def test_a_loss_that_is_not_finite_is_refused(finetune_request: Request) -> None:
    recipe = {"learning_rate": 1e30, "head_learning_rate": 1e30, "gradient_clip": 0.0}
    with pytest.raises(TrainingError, match=r"step \d+: the loss is (nan|inf).*Images of this step: t\d+-1"):
        finetune(finetune_request(recipe))


def test_the_global_generators_are_left_as_they_were(finetune_request: Request) -> None:
    before = torch.get_rng_state()
    finetune(finetune_request({"epochs": 1, "head_epochs": 0}))
    assert torch.equal(torch.get_rng_state(), before)


def test_products_in_bfloat16_train_too(finetune_request: Request) -> None:
    found = finetune(finetune_request({"precision": "bfloat16", "epochs": 1}))
    assert found.notes["precision"] == "bfloat16"
    assert {value.dtype for value in found.tensors.values()} == {np.dtype("float32")}
    assert np.isfinite(found.best["val_loss"])


def test_packages_that_are_missing_are_named_before_an_image_is_read(
    finetune_request: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = finetune_request(kind="lora")
    for image in request.images:
        image.path.unlink()
    for name in ("peft", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(ResourceError, match=r"sentifuse\[peft\]"):
        finetune(request)
    with pytest.raises(ResourceError, match=r"sentifuse\[tensorboard\]"):
        finetune(replace(request, kind="full", writes_tensorboard=True))


KILLED = """
import sys
from pathlib import Path
import numpy as np
from sentifuse.crowd.finetune.job import finetune
from sentifuse.crowd.finetune.recipe import FinetuneRecipe, FinetuneRequest, ImageRow

base, images, out = map(Path, sys.argv[1:4])
finetune(
    FinetuneRequest(
        recipe=FinetuneRecipe(batch_size=4, epochs=2, learning_rate=1e-3, head_learning_rate=1e-2),
        base=base, kind="full", out=out, loader_threads=2, log_every=1, checkpoint_every=1,
        images=[ImageRow(id=f"t{i}-1", path=images / f"{i}.png", digest=d) for i, d in enumerate(sys.argv[4:])],
        classes=np.arange(24) % 3, train_rows=np.arange(18), val_rows=np.arange(18, 24),
    ),
    progress=lambda row: print(row["step"], flush=True),
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 9])
def test_a_killed_process_loses_nothing_but_its_last_steps(
    finetune_request: Request, tiny_vit: Path, step: int
) -> None:
    request = finetune_request(checkpoint_every=1)
    digests = [image.digest for image in request.images]
    folders = [str(tiny_vit), str(request.images[0].path.parent), str(request.out)]
    command = [sys.executable, "-c", KILLED, *folders, *digests]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums depend on how many there are
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | threads) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == step:
                process.kill()
                break
    found = finetune(replace(request, resume=True))
    assert same(found, finetune(replace(request, out=request.out / "whole")))
    assert len(rows_of(request.out / "steps.csv")) == 15


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_gpu_trains_and_goes_on(finetune_request: Request, kind: str) -> None:
    request = finetune_request({"epochs": 8, "patience": 0}, kind=kind, device="cuda:0", checkpoint_every=2)
    with pytest.raises(Stopped):
        finetune(request, progress=stop_after(7))
    found = finetune(replace(request, resume=True))
    assert (found.notes["precision"], found.notes["device"]) == ("bfloat16", "cuda:0")
    assert found.best["val_accuracy"] == 1.0


def test_the_papers_recipe_runs_in_small(finetune_request: Request) -> None:
    """RAdam for both stages, six passes in the order of the rows, the last weights."""
    small = {"image_px": 32, "batch_size": 4, "learning_rate": 1e-3, "head_learning_rate": 1e-2}
    request = replace(finetune_request(), recipe=resolve_recipe("full", preset="paper", overrides=small))
    found = finetune(request)
    assert [row["stage"] for row in found.history] == ["head"] + ["all"] * 5
    assert found.best == found.history[-1]
    assert found.best["val_loss"] < found.history[0]["val_loss"]
    assert {float(row["learning_rate"]) for row in rows_of(request.out / "history.csv")} == {1e-2, 1e-3}
