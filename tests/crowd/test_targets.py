"""What a student learns from: smoothing and softening by hand, weights from the training part alone, the loss."""

import math

import numpy as np
import pytest
import torch

from sentifuse import ConfigError, DataError, TrainingError
from sentifuse.crowd.targets import (
    Targets,
    balanced_weights,
    refuse_absent,
    row_losses,
    row_weights,
    smooth_targets,
    soften,
)


def classes(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def shares(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_smoothing_is_that_of_the_paper() -> None:
    assert np.allclose(smooth_targets(classes(0, 2), 0.2), [[13 / 15, 1 / 15, 1 / 15], [1 / 15, 1 / 15, 13 / 15]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_softening_probabilities_is_softmax_of_logits_over_the_temperature(temperature: float) -> None:
    logits = torch.tensor([[2.0, -1.0, 0.3], [0.0, 5.0, 1.0]], dtype=torch.float64)
    softened = soften(torch.softmax(logits, 1).float().numpy(), temperature)
    assert np.allclose(softened, torch.softmax(logits / temperature, 1).numpy(), atol=1e-6)


def test_a_teacher_that_is_certain_is_softened_without_nan() -> None:
    assert np.allclose(soften(shares((1, 0, 0)), 1.0), [[1, 0, 0]])


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    known = classes(0, 0, 0, 1, 2, 2)
    assert np.allclose(balanced_weights(known), compute_class_weight("balanced", classes=np.arange(3), y=known))


def test_class_weights_come_from_the_training_part_alone() -> None:
    train = np.arange(6)
    few = Targets(classes=classes(0, 0, 0, 1, 2, 2, 0, 0))
    others = Targets(classes=classes(0, 0, 0, 1, 2, 2, 1, 2))
    assert np.array_equal(
        row_weights(few, train, is_balanced=True)[:6], row_weights(others, train, is_balanced=True)[:6]
    )
    weights = row_weights(few, train, is_balanced=True)
    assert weights[train].mean() == pytest.approx(1)
    totals = [weights[:6][few.classes[:6] == k].sum() for k in range(3)]
    assert np.allclose(totals, 2.0)  # every class counts alike


def test_confidence_weighs_on_top_of_classes() -> None:
    targets = Targets(classes=classes(0, 0, 1, 2), weights=np.array([1, 0.5, 1, 1], dtype=np.float32))
    weights = row_weights(targets, np.arange(4), is_balanced=True)
    assert weights[0] == pytest.approx(2 * weights[1])


def test_weights_of_nothing_but_zeros_are_refused() -> None:
    with pytest.raises(DataError, match="--weights none"):
        row_weights(
            Targets(classes=classes(0, 1, 2), weights=np.zeros(3, dtype=np.float32)), np.arange(3), is_balanced=False
        )


def test_the_loss_is_cross_entropy_at_alpha_one_and_hintons_below() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    known = torch.tensor([0, 1, 2, 2, 1])
    hard = torch.from_numpy(smooth_targets(known.numpy(), 0.2))
    ce = torch.nn.functional.cross_entropy(logits, known, label_smoothing=0.2, reduction="none")
    assert torch.allclose(row_losses(logits, hard), ce)
    soft = torch.softmax(teacher / 2, 1)
    kl = (soft * (soft.log() - torch.log_softmax(logits / 2, 1))).sum(1)
    expected = 0.25 * ce + 0.75 * 4 * kl
    assert torch.allclose(row_losses(logits, hard, soft, alpha=0.25, temperature=2.0), expected)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_without_neutral_its_logit_changes_nothing(alpha: float) -> None:
    logits, hard = torch.tensor([[1.0, 50.0, 0.0]]), torch.tensor([[0.9, 0.05, 0.05]])
    found = row_losses(logits, hard, hard, alpha=alpha, without_neutral=True)
    shares = np.array([0.9, 0.05]) / 0.95
    student = np.array([math.e, 1.0]) / (math.e + 1)
    cross, divergence = -(shares * np.log(student)).sum(), (shares * np.log(shares / student)).sum()
    assert found.item() == pytest.approx(alpha * cross + (1 - alpha) * divergence, rel=1e-5)
    logits[0, 1] = -50.0
    assert row_losses(logits, hard, hard, alpha=alpha, without_neutral=True).item() == found.item()


def test_a_class_without_training_images_is_refused_by_name() -> None:
    with pytest.raises(TrainingError, match=r"none of neutral \(negative 2, neutral 0, positive 1\)"):
        refuse_absent(classes(0, 0, 2), where="student")


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        (Targets(classes=classes(0, 3)), DataError),
        (Targets(classes=classes(0, 1)), ConfigError),  # soft targets without a teacher
        (Targets(classes=classes(0), probabilities=shares((0.5, 0.5, 0.5))), DataError),
        (Targets(classes=classes(0), probabilities=shares((1.5, -0.5, 0))), DataError),
        (Targets(classes=classes(0, 1), probabilities=shares((1, 0, 0))), DataError),
        (
            Targets(classes=classes(0), probabilities=shares((1, 0, 0)), weights=np.array([-1], dtype=np.float32)),
            DataError,
        ),
    ],
)
def test_targets_that_cannot_be_are_refused(targets: Targets, error: type[Exception]) -> None:
    with pytest.raises(error):
        targets.check(alpha=0.5)
