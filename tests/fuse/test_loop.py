"""The training loop: schedules, averaging, selection, stopping, and the same numbers for the same seed."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import TrainingError
from sentifuse.fuse.config import TrainConfig
from sentifuse.fuse.features.batches import BatchSource
from sentifuse.fuse.features.samples import open_features
from sentifuse.fuse.heads import load_head
from sentifuse.fuse.heads.head import Head
from sentifuse.fuse.heads.text_only import TextOnly
from sentifuse.fuse.infer import accuracy_and_loss, infer_logits, softmax
from sentifuse.fuse.loop import EpochReport, build_optimiser, fit_head, rate_factor

CPU = torch.device("cpu")


@pytest.fixture
def sources(world: Any) -> tuple[BatchSource, BatchSource]:
    readers = open_features(world.artifacts, world.name, TextOnly.needs)
    ids = readers["tokens"].ids
    labels = np.array([int(id_[1:]) % 3 for id_ in ids])
    return (
        BatchSource(readers, TextOnly.needs, ids[:60], labels[:60], reuse=True),
        BatchSource(readers, TextOnly.needs, ids[60:], labels[60:], reuse=True),
    )


def new_head(source: BatchSource, **settings: Any) -> Head:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head_class = load_head("text_only")
        return head_class(head_class.Config(**{"hidden": 16, "input_dropout": 0.2, **settings}), source.widths, 3)


def fit(sources: tuple[BatchSource, BatchSource], *, seed: int = 0, **recipe: Any) -> tuple[Head, Any]:
    head = new_head(sources[0])
    config = TrainConfig(**{"epochs": 6, "batch_size": 16, "learning_rate": 1e-2, **recipe})
    return head, fit_head(head, config, *sources, seed=seed, device=CPU)


def test_training_learns_what_is_planted(sources: tuple[BatchSource, BatchSource]) -> None:
    _, result = fit(sources, epochs=15)
    assert result.history[-1]["train_loss"] < 0.5 * result.history[0]["train_loss"]
    assert result.val_accuracy > 0.7


def test_same_seed_same_numbers(sources: tuple[BatchSource, BatchSource]) -> None:
    (first, one), (second, two), (_, other) = fit(sources), fit(sources), fit(sources, seed=1)
    for row_one, row_two in zip(one.history, two.history, strict=True):
        assert {**row_one, "seconds": 0} == {**row_two, "seconds": 0}
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert other.history[0]["train_loss"] != one.history[0]["train_loss"]


def test_training_leaves_the_global_generator_alone(sources: tuple[BatchSource, BatchSource]) -> None:
    state = torch.get_rng_state()
    fit(sources, epochs=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_best_epoch_is_kept(sources: tuple[BatchSource, BatchSource]) -> None:
    head, result = fit(sources, epochs=8, learning_rate=0.3)
    scores = [(row["val_accuracy"], -row["val_loss"]) for row in result.history]
    assert result.best_epoch == scores.index(max(scores)) + 1
    found = accuracy_and_loss(infer_logits(head, sources[1], device=CPU), sources[1].labels)
    assert found == pytest.approx((result.val_accuracy, result.val_loss))


def test_bfloat16_is_for_steps_and_validation_is_what_evaluation_gives(
    sources: tuple[BatchSource, BatchSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[bool, bool, torch.dtype]] = set()
    forward = TextOnly.forward

    def watched(self: Head, batch: Any) -> Any:
        output = forward(self, batch)
        seen.add((self.training, torch.is_autocast_enabled("cpu"), output.logits.dtype))
        return output

    monkeypatch.setattr(TextOnly, "forward", watched)
    _, exact = fit(sources)
    assert seen == {(True, False, torch.float32), (False, False, torch.float32)}
    seen.clear()
    head, result = fit(sources, precision="bfloat16")
    assert seen == {(True, True, torch.bfloat16), (False, False, torch.float32)}
    found = accuracy_and_loss(infer_logits(head, sources[1], device=CPU), sources[1].labels)
    assert found == (result.val_accuracy, result.val_loss)
    ours, theirs = (of.history[-1]["train_loss"] for of in (result, exact))
    assert ours != theirs
    assert ours == pytest.approx(theirs, rel=0.05)


def test_the_lowest_loss_can_choose_the_epoch(sources: tuple[BatchSource, BatchSource]) -> None:
    _, result = fit(sources, epochs=8, learning_rate=0.3, select="loss")
    losses = [row["val_loss"] for row in result.history]
    assert result.best_epoch == losses.index(min(losses)) + 1
    assert [row["is_best"] for row in result.history] == [
        loss < min([math.inf, *losses[:epoch]]) for epoch, loss in enumerate(losses)
    ]


def test_the_rate_falls_once_the_validation_loss_stands_still(sources: tuple[BatchSource, BatchSource]) -> None:
    _, result = fit(sources, epochs=25, learning_rate=0.1, schedule="plateau", step_epochs=2, step_factor=0.5)
    rate, lowest, waited, rates = 0.1, math.inf, 0, []
    for row in result.history:
        rates.append(rate)
        waited = 0 if row["val_loss"] < lowest else waited + 1
        lowest = min(lowest, row["val_loss"])
        if waited == 2:
            rate, waited = 0.5 * rate, 0
    assert [row["learning_rate"] for row in result.history] == pytest.approx(rates)
    assert len(set(rates)) >= 3


def test_patience_stops_after_the_last_gain(sources: tuple[BatchSource, BatchSource]) -> None:
    _, result = fit(sources, epochs=60, patience=3, learning_rate=0.3)
    assert len(result.history) == result.best_epoch + 3 < 60


def test_progress_sees_every_epoch(sources: tuple[BatchSource, BatchSource]) -> None:
    seen: list[EpochReport] = []
    config = TrainConfig(epochs=3, batch_size=16)
    result = fit_head(new_head(sources[0]), config, *sources, seed=0, device=CPU, progress=seen.append)
    assert [report.epoch for report in seen] == [1, 2, 3]
    assert [report.is_best for report in seen].index(True) == 0
    assert max(report.epoch for report in seen if report.is_best) == result.best_epoch


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_loss_that_is_not_finite_names_epoch_and_pairs(
    sources: tuple[BatchSource, BatchSource], monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(TextOnly, "loss", lambda self, output, batch: output.logits.sum() * float("nan"))
    with pytest.raises(TrainingError, match=r"epoch 1, step 1: the loss is nan.*Pairs of this batch: p\d+, p"):
        fit(sources, precision=precision)


def test_a_bad_step_changes_no_weight(sources: tuple[BatchSource, BatchSource]) -> None:
    head = new_head(sources[0])
    batch = sources[0].gather(range(4))
    batch.values["tokens.states"].fill_(float("inf"))
    before = [p.detach().clone() for p in head.parameters()]
    assert not np.isfinite(head.training_step(batch, build_optimiser(head, TrainConfig())))
    assert all(torch.equal(a, b) for a, b in zip(before, head.parameters(), strict=True))


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"schedule": "step"}, [1.0, 1.0, 0.1, 0.1, 0.01]),
        ({"schedule": "cosine", "epochs": 20}, [1.0, 0.5, 0.5, 0.0, 0.0]),
        ({"schedule": "constant"}, [1.0] * 5),
        ({"schedule": "constant", "warmup_epochs": 20.0}, [0.0, 0.5, 0.5, 1.0, 1.0]),
    ],
)
def test_schedules(recipe: dict[str, Any], expected: list[float]) -> None:
    config = TrainConfig(**recipe)
    epochs = [0.0, 9.99, 10.0, 19.99, 20.0]
    assert [rate_factor(config, epoch) for epoch in epochs] == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD"), ("momentum", "SGD"), ("rmsprop", "RMSprop")],
)
def test_optimisers_take_the_recipe(sources: tuple[BatchSource, BatchSource], name: str, kind: str) -> None:
    optimiser = build_optimiser(new_head(sources[0]), TrainConfig(optimiser=name, learning_rate=0.5, weight_decay=0.25))
    assert type(optimiser).__name__ == kind
    assert optimiser.param_groups[0]["lr"] == 0.5
    assert optimiser.param_groups[0]["weight_decay"] == 0.25


def test_averaged_weights_are_the_mean_of_the_steps(sources: tuple[BatchSource, BatchSource]) -> None:
    # A decay near 1 over few steps is the plain mean of the weights after each step.
    seen: list[list[torch.Tensor]] = []

    class Watched(TextOnly):
        def training_step(self, *arguments: Any, **options: Any) -> float:
            loss = super().training_step(*arguments, **options)
            seen.append([p.detach().clone() for p in self.parameters()])
            return loss

    head = Watched(TextOnly.Config(hidden=8), sources[0].widths, 3)
    config = TrainConfig(epochs=1, batch_size=16, average=0.999)
    fit_head(head, config, *sources, seed=0, device=CPU)
    for i, parameter in enumerate(head.parameters()):
        torch.testing.assert_close(parameter.detach(), torch.stack([step[i] for step in seen]).mean(0))


def test_gradient_clip_limits_the_step(sources: tuple[BatchSource, BatchSource]) -> None:
    head, batch = new_head(sources[0]), sources[0].gather(range(16))
    before = torch.cat([p.detach().flatten().clone() for p in head.parameters()])
    head.training_step(batch, torch.optim.SGD(head.parameters(), lr=1.0), gradient_clip=1e-3)
    after = torch.cat([p.detach().flatten() for p in head.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_probabilities_of_large_logits_are_finite() -> None:
    found = softmax(np.array([[1e4, 0.0], [0.0, np.log(3)]]))
    np.testing.assert_allclose(found, [[1.0, 0.0], [0.25, 0.75]])


def test_inference_keeps_the_order_of_the_source(sources: tuple[BatchSource, BatchSource]) -> None:
    head = new_head(sources[0])
    together = infer_logits(head, sources[1], device=CPU, batch_size=7)
    for row in range(len(sources[1])):
        with torch.no_grad():
            alone = head.eval()(sources[1].gather([row])).logits.numpy()
        np.testing.assert_allclose(together[[row]], alone, atol=1e-5)


class Reserved(TextOnly):
    """Keeps every fifth training pair for itself, and writes down what it is asked and given."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[Any] = []
        self.seen: set[str] = set()

    def hold_out(self, train: BatchSource, seed: int) -> Any:
        self.asked.append(("hold_out", len(train), seed))
        return np.arange(0, len(train), 5)

    def notes(self) -> dict[str, Any]:
        return {"reserved": True}

    def recipe_parameters(self) -> list[Any]:
        return [self.classifier.weight]

    def start_epoch(self, epoch: int, held_out: BatchSource | None) -> None:
        assert held_out is not None
        self.asked.append((epoch, held_out.ids))

    def epoch_figures(self) -> dict[str, float]:
        return {"pairs_seen": float(len(self.seen))}

    def training_step(self, batch: Any, *arguments: Any, **options: Any) -> float:
        self.seen |= set(batch.ids)
        return super().training_step(batch, *arguments, **options)


def test_a_head_can_keep_pairs_from_the_batches_and_parameters_from_the_recipe(
    sources: tuple[BatchSource, BatchSource],
) -> None:
    train = sources[0]
    head = Reserved(TextOnly.Config(hidden=8), train.widths, 3)
    before = {name: value.detach().clone() for name, value in head.named_parameters()}
    heard: list[Any] = []
    config = TrainConfig(epochs=2, batch_size=16)
    result = fit_head(head, config, *sources, seed=3, device=CPU, announce=heard.append)
    kept = tuple(train.ids[row] for row in range(0, len(train), 5))
    assert head.asked == [("hold_out", 60, 3), (1, kept), (2, kept)]
    assert head.seen == set(train.ids) - set(kept)
    assert result.held_out == kept
    assert heard == [{"reserved": True}] == [result.notes]
    assert [row["pairs_seen"] for row in result.history] == [48.0, 48.0]
    moved = [name for name, value in head.named_parameters() if not torch.equal(value, before[name])]
    assert moved == ["classifier.weight"]


def test_a_head_without_wishes_sees_every_pair_and_notes_nothing(sources: tuple[BatchSource, BatchSource]) -> None:
    heard: list[Any] = []
    head = new_head(sources[0])
    config = TrainConfig(epochs=1, batch_size=16)
    result = fit_head(head, config, *sources, seed=0, device=CPU, announce=heard.append)
    assert (result.held_out, dict(result.notes), heard) == ((), {}, [])
    assert build_optimiser(head, config).param_groups[0]["params"] == list(head.parameters())
