"""Laws of the loss: hand-computed targets, weights and scores; a step's parts add up; neutral can be left out."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sentifuse.crowd.finetune_loss import loss_sum, make_targets, make_weights, score
from sentifuse.crowd.finetune_recipe import FinetuneRecipe

CLASSES = np.array([0, 0, 0, 1, 2, 2], dtype=np.int64)


def test_hard_targets_are_smoothed_over_all_classes() -> None:
    found = make_targets(FinetuneRecipe(label_smoothing=0.3), CLASSES[2:4], None)
    np.testing.assert_allclose(found, [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], rtol=1e-6)
    assert found.dtype == np.float32


def test_soft_targets_are_the_teachers_shares() -> None:
    shares = np.array([[0.2, 0.3, 0.5]], dtype=np.float32)
    found = make_targets(FinetuneRecipe(targets="soft", label_smoothing=0.0), CLASSES[:1], shares)
    np.testing.assert_allclose(found, shares, rtol=1e-6)


def test_balanced_weights_come_from_the_training_rows_alone() -> None:
    """Training rows 0..3: three negative, one neutral; scikit-learn's n / (classes · count), and their mean is 1."""
    train = np.arange(4)
    found = make_weights(FinetuneRecipe(), CLASSES, None, train)
    np.testing.assert_allclose(found[:4], [4 / 6, 4 / 6, 4 / 6, 2.0], rtol=1e-6)
    assert found[train].mean() == pytest.approx(1.0)
    plain = make_weights(FinetuneRecipe(is_balanced=False), CLASSES, np.full(6, 5, np.float32), train)
    np.testing.assert_allclose(plain, 1.0, rtol=1e-6)


def test_the_loss_is_weighted_cross_entropy_and_its_parts_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, weights = torch.randn(6, 3, generator=generator), torch.rand(6, generator=generator)
    targets = torch.from_numpy(make_targets(FinetuneRecipe(label_smoothing=0.2), CLASSES, None))
    whole = loss_sum(logits, targets, weights)
    each = F.cross_entropy(logits, torch.from_numpy(CLASSES), reduction="none", label_smoothing=0.2)
    assert whole.item() == pytest.approx((weights * each).sum().item(), rel=1e-5)
    parts = sum(loss_sum(logits[a:b], targets[a:b], weights[a:b]).item() for a, b in ((0, 4), (4, 6)))
    assert parts == pytest.approx(whole.item(), rel=1e-5)


def test_without_neutral_its_logit_changes_nothing() -> None:
    logits = torch.tensor([[1.0, 50.0, 0.0]])
    targets = torch.tensor([[0.9, 0.05, 0.05]])
    found = loss_sum(logits, targets, torch.ones(1), without_neutral=True)
    negative, positive = 0.9 / 0.95, 0.05 / 0.95
    expected = -(negative * math.log(math.e / (math.e + 1)) + positive * math.log(1 / (math.e + 1)))
    assert found.item() == pytest.approx(expected, rel=1e-6)
    logits[0, 1] = -50.0
    assert loss_sum(logits, targets, torch.ones(1), without_neutral=True).item() == found.item()


def test_ties_go_to_the_first_class() -> None:
    logits = np.array([[1, 1, 1], [0, 2, 2], [3, 0, 3]], dtype=np.float32)
    assert score(logits, np.array([0, 1, 0]))["val_accuracy"] == 1.0
    assert score(logits, np.array([0, 2, 0]), without_neutral=True)["val_accuracy"] == 1.0


def test_scores_by_hand() -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]] * 100
    found = score(logits, np.array([0, 1, 1, 2]))
    assert found["val_accuracy"] == 0.75
    assert found["val_macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["val_loss"] == pytest.approx(25.0)
