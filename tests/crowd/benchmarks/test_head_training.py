"""A head trained on by a protocol's recipe: masked neutral, the choice by validation, equal seeds."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sentifuse import TrainingError
from sentifuse.crowd.benchmarks.head_training import answer_by_head, train_head
from sentifuse.crowd.finetune.recipe import FinetuneRecipe, resolve_recipe
from sentifuse.extract.backbones.student_head import build_head

N, WIDTH = 40, 6


@pytest.fixture
def head() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build_head({"kind": "mlp", "in": WIDTH, "width": 8, "dropout": 0.2})


@pytest.fixture
def linear() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return build_head({"kind": "linear", "in": WIDTH})


@pytest.fixture
def vectors() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The first number carries the class."""
    values = np.random.default_rng(0).normal(size=(N, WIDTH)).astype(np.float32)
    values[:, 0] += np.where(CLASSES == 2, 3, -3)
    return values


CLASSES = np.where(np.arange(N) % 2, 2, 0).astype(np.int64)
ROWS = np.arange(N)


def recipe_of(preset: str, **changes: object) -> FinetuneRecipe:
    return resolve_recipe("full", preset=preset, overrides={"head_learning_rate": 0.01, **changes})


def test_a_class_that_can_be_learned_is_learned(head: nn.Module, vectors: np.ndarray) -> None:
    recipe = recipe_of("five_fold", batch_size=4, head_learning_rate=0.03)
    learned = train_head(head, vectors, CLASSES, recipe, train_rows=ROWS[:30], val_rows=ROWS[:0])
    answers = answer_by_head(learned.head, vectors[30:])
    assert ((answers[:, 2] > answers[:, 0]) == (CLASSES[30:] == 2)).all()
    assert learned.best == {"epoch": 12, "step": 96}  # the last one


def test_a_masked_softmax_leaves_the_neutral_output_alone(linear: nn.Module, vectors: np.ndarray) -> None:
    before = copy.deepcopy(linear.state_dict())
    recipe = recipe_of("five_fold", epochs=2)
    after = train_head(linear, vectors, CLASSES, recipe, train_rows=ROWS, val_rows=ROWS[:0]).head.state_dict()
    assert torch.equal(before["classifier.weight"][1], after["classifier.weight"][1])
    assert not torch.equal(before["classifier.weight"][2], after["classifier.weight"][2])


def test_without_a_mask_the_neutral_output_is_pushed_down(linear: nn.Module, vectors: np.ndarray) -> None:
    before = answer_by_head(linear, vectors)[:, 1].mean()
    recipe = recipe_of("fi_splits", epochs=5, batch_size=4, select="last")
    learned = train_head(linear, vectors, CLASSES, recipe, train_rows=ROWS[:30], val_rows=ROWS[30:])
    assert answer_by_head(learned.head, vectors)[:, 1].mean() < before


def test_the_kept_weights_are_the_first_of_the_best_validation(head: nn.Module, vectors: np.ndarray) -> None:
    recipe = recipe_of("fi_splits", epochs=4, validate_every=1, batch_size=10)
    learned = train_head(head, vectors, CLASSES, recipe, train_rows=ROWS[:30], val_rows=ROWS[30:])
    answers = answer_by_head(learned.head, vectors[30:])
    accuracy = ((answers[:, 2] > answers[:, 0]) == (CLASSES[30:] == 2)).mean()
    assert learned.best["val_accuracy"] == pytest.approx(accuracy)
    assert learned.best["step"] <= 12


def test_equal_seeds_give_equal_answers_and_torchs_generator_is_left_alone(
    head: nn.Module, vectors: np.ndarray
) -> None:
    state = torch.get_rng_state()
    found = [
        answer_by_head(
            train_head(
                copy.deepcopy(head),
                vectors,
                CLASSES,
                recipe_of("five_fold"),
                train_rows=ROWS,
                val_rows=ROWS[:0],
                seed=s,
            ).head,
            vectors,
        )
        for s in (4, 4, 5)
    ]
    assert found[0].tobytes() == found[1].tobytes() != found[2].tobytes()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_class_without_images_is_refused(head: nn.Module, vectors: np.ndarray) -> None:
    with pytest.raises(TrainingError, match="positive"):
        train_head(head, vectors, CLASSES, recipe_of("five_fold"), train_rows=ROWS[::2], val_rows=ROWS[:0])


def test_the_head_follows_the_recipes_step_sizes_and_clip(linear: nn.Module, vectors: np.ndarray) -> None:
    def moved(**changes: object) -> float:
        recipe = recipe_of("five_fold", **{"epochs": 1, "batch_size": N, "optimiser": "adamw"} | changes)
        head = copy.deepcopy(linear)
        train_head(head, vectors, CLASSES, recipe, train_rows=ROWS, val_rows=ROWS[:0])
        return float((head.classifier.weight - linear.classifier.weight).abs().max().detach())

    assert moved(head_learning_rate=0.2) == pytest.approx(0.2, rel=1e-3)  # AdamW's first step
    assert moved(head_learning_rate=0.2, epochs=4) > moved(head_learning_rate=0.2, epochs=4, schedule="cosine")
    assert moved(head_learning_rate=0.2, gradient_clip=1e-9) < 0.19  # below AdamW's epsilon


def test_of_equal_accuracies_the_first_weights_are_kept(linear: nn.Module, vectors: np.ndarray) -> None:
    steps = []
    for select in ("accuracy", "macro_f1"):
        recipe = recipe_of(
            "fi_splits", epochs=8, batch_size=10, optimiser="adamw", head_learning_rate=0.1, validate_every=1,
            select=select,
        )  # fmt: skip
        head = copy.deepcopy(linear)
        learned = train_head(head, vectors, CLASSES, recipe, train_rows=ROWS[:30], val_rows=ROWS[30:])
        assert learned.best["val_accuracy"] == 1.0
        steps.append(learned.best["step"])
    assert steps[0] < steps[1]  # of equal macro-F1 the lower loss counts, which falls on
