"""The laws of a probe: better than its noisy labels, deterministic, blind to other rows, heads that reload exactly."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import ConfigError, TrainingError
from sentifuse.crowd.students.embeddings import HeldEmbeddings
from sentifuse.crowd.students.probe import Probe, answer, train_probe
from sentifuse.crowd.students.probe_recipe import resolve_recipe
from sentifuse.crowd.targets import Targets

WIDTH = 12


def draw(n: int, *, noise: float, seed: int = 0, signal: float = 2.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings whose mean is their class's, true classes, and labels of which so many are another class."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    values = rng.normal(size=(n, WIDTH)) + 5  # far from 0, as pooled features are
    values[np.arange(n), truth] += signal
    wrong = rng.random(n) < noise
    labels = np.where(wrong, (truth + rng.integers(1, 3, n)) % 3, truth)
    return values.astype(np.float32), truth, labels


def fit(values: np.ndarray, labels: np.ndarray, *, seed: int = 0, rows: int | None = None, **overrides: Any) -> Probe:
    n = len(values) if rows is None else rows
    recipe = resolve_recipe(overrides={"epochs": 8, "batch_size": 32, "width": 16, "learning_rate": 0.01} | overrides)
    probabilities = overrides.get("alpha") is not None
    shares = (np.eye(3)[labels] * 0.7 + 0.1).astype(np.float32) if probabilities else None
    targets = Targets(classes=labels.astype(np.int64), probabilities=shares)
    val = np.arange(n // 5)
    return train_probe(
        HeldEmbeddings(values), targets, recipe, train_rows=np.arange(n // 5, n), val_rows=val, seed=seed
    )


def predict(probe: Probe, values: np.ndarray, batch_rows: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and hidden vectors of all rows."""
    parts = list(
        answer(
            probe.head_config,
            probe.tensors,
            probe.temperature,
            HeldEmbeddings(values),
            np.arange(len(values)),
            batch_rows=batch_rows,
        )
    )
    return np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])


@pytest.mark.parametrize("head", ["mlp", "two_layer", "linear"])
@pytest.mark.parametrize("noise", [0.2, 0.4])
def test_a_student_beats_its_noisy_labels(head: str, noise: float) -> None:
    values, _, labels = draw(600, noise=noise)
    clean, truth, _ = draw(400, noise=0, seed=1)
    shares, _ = predict(fit(values, labels, head=head), clean)
    assert (shares.argmax(1) == truth).mean() > 1 - noise + 0.05


@pytest.mark.parametrize("overrides", [{}, {"alpha": 0.3}, {"head": "linear"}, {"optimiser": "radam"}])
def test_the_same_seed_gives_the_same_bytes_and_another_other_ones(overrides: Mapping[str, Any]) -> None:
    values, _, labels = draw(120, noise=0.2)
    torch.manual_seed(1)
    first = fit(values, labels, **overrides)
    torch.manual_seed(2)  # what others drew before makes no difference
    state = torch.random.get_rng_state()
    again, other = fit(values, labels, **overrides), fit(values, labels, seed=1, **overrides)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {name: value.tobytes() for name, value in first.tensors.items()} == {
        name: value.tobytes() for name, value in again.tensors.items()
    }
    assert (first.temperature, first.val_logits.tobytes()) == (again.temperature, again.val_logits.tobytes())
    assert any(first.tensors[name].tobytes() != other.tensors[name].tobytes() for name in first.tensors)


@pytest.mark.parametrize("head", ["mlp", "two_layer"])
def test_rows_outside_its_parts_change_nothing(head: str) -> None:
    """Neither their labels nor their numbers: class weights, scale and selection come from the two parts alone."""
    values, _, labels = draw(200, noise=0.2)
    other_values, other_labels = values.copy(), labels.copy()
    other_values[150:] = 1e6
    other_labels[150:] = 0
    first = fit(values, labels, rows=150, head=head)
    second = fit(other_values, other_labels, rows=150, head=head)
    assert {name: value.tobytes() for name, value in first.tensors.items()} == {
        name: value.tobytes() for name, value in second.tensors.items()
    }
    assert first.class_weights == second.class_weights


@pytest.mark.parametrize("head", ["mlp", "two_layer", "linear"])
def test_the_stored_head_answers_as_the_trained_one_did(head: str) -> None:
    """The scale of the inputs, which is part of the training, is part of the stored weights."""
    values, _, labels = draw(150, noise=0.1)
    probe = fit(values, labels, head=head)
    shares, hidden = predict(probe, values[:30])
    expected = torch.softmax(torch.from_numpy(probe.val_logits).double() / probe.temperature, 1)
    assert np.allclose(shares, expected, atol=2e-5)
    assert hidden.shape == (30, WIDTH if head == "linear" else 16)
    if head == "linear":
        assert np.array_equal(hidden, values[:30])


def test_answers_are_float32_shares_in_the_order_asked() -> None:
    values, _, labels = draw(100, noise=0.1)
    probe = fit(values, labels)
    shares, hidden = predict(probe, values, batch_rows=7)
    assert shares.dtype == hidden.dtype == np.float32
    assert np.allclose(shares.sum(1), 1, atol=1e-6)
    assert np.allclose(shares, predict(probe, values)[0], atol=1e-6)


def test_the_best_pass_is_kept_and_patience_ends_the_training() -> None:
    values, _, labels = draw(150, noise=0.3)
    probe = fit(values, labels, epochs=40, patience=3)
    scores = [row["val_macro_f1"] for row in probe.history]
    assert probe.best["val_macro_f1"] == max(scores)
    assert len(probe.history) == min(40, probe.best["epoch"] + 3)
    assert [row["epoch"] for row in probe.history] == list(range(1, len(scores) + 1))
    found = (probe.val_logits.argmax(1) == labels[: len(probe.val_logits)]).mean()
    assert found == pytest.approx(probe.best["val_accuracy"])


def test_heads_that_start_alike_have_hidden_numbers_that_mean_the_same() -> None:
    """Features out of fold mix students in one table; from other starts their embeddings would have nothing in common.

    Two trainings that share four fifths of their images, from one seed and from two.
    """
    values, _, labels = draw(600, noise=0.2)
    clean, _, _ = draw(200, noise=0, seed=1)

    def hidden(start: int, seed: int) -> np.ndarray:
        kept = [i for i in range(600) if i % 5 != start]
        found = predict(fit(values[kept], labels[kept], seed=seed, learning_rate=0.002), clean)[1]
        return found - found.mean(0)

    def likeness(one: np.ndarray, other: np.ndarray) -> float:
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        return float(((one * other).sum(1) / lengths).mean())

    assert likeness(hidden(0, 0), hidden(1, 0)) > 0.9
    assert likeness(hidden(0, 0), hidden(1, 1)) < 0.6


def test_select_last_keeps_the_last_pass() -> None:
    values, _, labels = draw(100, noise=0.4)
    assert fit(values, labels, select="last", patience=0).best["epoch"] == 8


def test_soft_targets_are_learned_from() -> None:
    values, truth, _ = draw(300, noise=0)
    nonsense = np.roll(truth, 1)  # hard labels without any sense: with alpha 0 nobody looks at them
    recipe = resolve_recipe(overrides={"alpha": 0, "epochs": 8, "batch_size": 32, "learning_rate": 0.01})
    shares = (np.eye(3)[truth] * 0.7 + 0.1).astype(np.float32)
    targets = Targets(classes=nonsense.astype(np.int64), probabilities=shares)
    held = HeldEmbeddings(values)
    probe = train_probe(held, targets, recipe, train_rows=np.arange(60, 300), val_rows=np.arange(60))
    assert (predict(probe, values)[0].argmax(1) == truth).mean() > 0.8


def train(values: np.ndarray, labels: np.ndarray, train_rows: Sequence[int], val_rows: Sequence[int]) -> Probe:
    targets = Targets(classes=labels.astype(np.int64))
    rows = {"train_rows": np.array(train_rows, dtype=np.int64), "val_rows": np.array(val_rows, dtype=np.int64)}
    return train_probe(HeldEmbeddings(values), targets, resolve_recipe(overrides={"epochs": 1}), **rows)


def test_parts_that_nothing_can_be_learned_from_are_refused() -> None:
    values, _, _ = draw(6, noise=0)
    labels = np.array([0, 1, 2, 0, 1, 2])
    with pytest.raises(TrainingError, match="none of positive"):
        train(values, labels, [0, 1, 3], [5])
    with pytest.raises(TrainingError, match="validation"):
        train(values, labels, [0, 1, 2], [])
    with pytest.raises(ConfigError, match="in both"):
        train(values, labels, [0, 1, 2], [2])


def test_embeddings_that_are_not_finite_end_in_an_error_that_says_where() -> None:
    values, _, labels = draw(60, noise=0)
    values[30] = np.inf
    with pytest.raises(TrainingError, match="epoch 1, step"):
        fit(values, labels)


def test_a_head_of_another_width_is_refused() -> None:
    values, _, labels = draw(60, noise=0)
    probe = fit(values, labels)
    with pytest.raises(ConfigError, match="12 numbers, found embeddings of 5"):
        predict(probe, values[:, :5].copy())
