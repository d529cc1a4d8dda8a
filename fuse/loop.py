"""The training loop that every head shares: steps, schedule, weight averaging, selection on validation, early stopping.

Sees the training and the validation part and nothing else. Knows nothing of files.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from sentifuse import TrainingError
from sentifuse.fuse.config import TrainConfig
from sentifuse.fuse.features.batches import BatchSource, Rows, shuffled_batches
from sentifuse.fuse.heads.head import Head
from sentifuse.fuse.infer import accuracy_and_loss, infer
from sentifuse.fuse.precision import rounded_products

SHOWN_IDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """What one epoch came to; epochs count from 1."""

    epoch: int
    epochs: int
    train_loss: float
    val_accuracy: float
    val_loss: float
    learning_rate: float
    seconds: float
    is_best: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """The history of a training and its best moment; the head holds the weights of that moment."""

    history: list[dict[str, Any]]
    best_epoch: int  # row of the history that was chosen, from 1
    val_accuracy: float
    val_loss: float
    notes: Mapping[str, Any] = field(default_factory=dict)  # what the head itself wants remembered
    held_out: tuple[str, ...] = ()  # pairs of the training part that the head kept from the batches


def fit_head(
    head: Head,
    config: TrainConfig,
    train: BatchSource,
    val: BatchSource,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[EpochReport], None] | None = None,
    announce: Callable[[Mapping[str, Any]], None] | None = None,
) -> FitResult:
    """Train a head and leave it with the weights of its best epoch: highest validation accuracy, then lowest loss.

    With the recipe's `select="loss"` it is the lowest validation loss, then the highest accuracy.
    All randomness comes from `seed`; torch's global generators are as before afterwards.

    Parameters
    ----------
    announce
        Hears the head's notes, if it has any, before the first step.

    Raises
    ------
    TrainingError
        A loss that is not finite; the message names epoch and pairs.
    """
    if val.labels is None:
        raise ValueError("validation needs labels")
    if head.has_closed_fit:
        return _closed_fit(head, train, val)
    with _seeded(seed, device):
        held_out = head.hold_out(train, seed)
        head.prepare(batch.to(device) for _, batch in train.batches(config.batch_size))
        notes = head.notes()
        if notes and announce is not None:
            announce(notes)
        result = _descend(head, config, train, val, held_out, seed=seed, device=device, progress=progress)
    return replace(result, notes=notes, held_out=tuple(train.ids[row] for row in held_out.tolist()))


def _closed_fit(head: Head, train: BatchSource, val: BatchSource) -> FitResult:
    history = head.fit(train, val)
    scores = [(row["val_accuracy"], -row["val_loss"]) for row in history]
    best = scores.index(max(scores))
    rows = [{"epoch": i + 1, **row} for i, row in enumerate(history)]
    return FitResult(
        history=rows,
        best_epoch=best + 1,
        val_accuracy=history[best]["val_accuracy"],
        val_loss=history[best]["val_loss"],
    )


def _descend(
    head: Head,
    config: TrainConfig,
    train: BatchSource,
    val: BatchSource,
    held_out: Rows,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[EpochReport], None] | None,
) -> FitResult:
    rng = np.random.default_rng(seed)
    optimiser = build_optimiser(head, config)
    average = _Average(head, config.average)
    history: list[dict[str, Any]] = []
    best: tuple[float, float] | None = None
    best_epoch, best_state = 0, {}
    plateaus = _Plateaus(config)
    own_rows = np.setdiff1d(np.arange(len(train)), held_out)
    kept_back = train.part(held_out) if len(held_out) else None
    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        rate = config.learning_rate
        head.start_epoch(epoch, kept_back)
        head.train()
        plan = shuffled_batches(train.lengths[own_rows], config.batch_size, rng, window=config.length_window)
        rows_per_step = [own_rows[rows] for rows in plan]
        total = 0.0
        with closing(train.stream(rows_per_step)) as batches:
            for step, batch in enumerate(batches):
                rate = config.learning_rate * plateaus.factor
                rate *= rate_factor(config, epoch - 1 + step / len(rows_per_step))
                for group in optimiser.param_groups:
                    group["lr"] = rate
                with rounded_products(config.precision, device):  # of the step alone: validation is what evaluate does
                    loss = head.training_step(batch.to(device), optimiser, gradient_clip=config.gradient_clip)
                if not math.isfinite(loss):
                    raise TrainingError(_not_finite(epoch, step, loss, batch.ids))
                average.update()
                total += loss * len(batch)
        with average.applied():
            accuracy, val_loss, means = _validate(head, val, device)
            result = (accuracy, -val_loss) if config.select == "accuracy" else (-val_loss, accuracy)
            is_best = best is None or result > best
            if is_best:
                best, best_epoch = result, epoch
                best_state = {name: value.detach().clone() for name, value in head.state_dict().items()}
        plateaus.see(val_loss)
        report = EpochReport(
            epoch=epoch,
            epochs=config.epochs,
            train_loss=total / len(own_rows),
            val_accuracy=accuracy,
            val_loss=val_loss,
            learning_rate=rate,
            seconds=time.perf_counter() - started,
            is_best=is_best,
        )
        row = {key: value for key, value in asdict(report).items() if key != "epochs"}
        history.append(row | means | head.epoch_figures())
        if progress is not None:
            progress(report)
        if config.patience and epoch - best_epoch >= config.patience:
            break
    head.load_state_dict(best_state)
    chosen = history[best_epoch - 1]
    return FitResult(
        history=history, best_epoch=best_epoch, val_accuracy=chosen["val_accuracy"], val_loss=chosen["val_loss"]
    )


def build_optimiser(head: Head, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of a recipe over the parameters that a head leaves to it: all of them, unless it says otherwise."""
    parameters = head.recipe_parameters()
    if config.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, momentum=0.9, nesterov=True
        )
    if config.optimiser == "momentum":
        return torch.optim.SGD(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, momentum=0.9, fused=True
        )
    if config.optimiser == "rmsprop":  # decay and ε of Keras, whose users made it known, not torch's 0.99
        return torch.optim.RMSprop(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, alpha=0.9, eps=1e-8
        )
    return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def rate_factor(config: TrainConfig, epochs_done: float) -> float:
    """What the learning rate is multiplied by after so many epochs, fractions included.

    >>> [rate_factor(TrainConfig(), epoch) for epoch in (0, 9.9, 10, 25)]
    [1.0, 1.0, 0.1, 0.010000000000000002]
    """
    if epochs_done < config.warmup_epochs:
        return epochs_done / config.warmup_epochs
    if config.schedule == "step":
        return float(config.step_factor ** int(epochs_done // config.step_epochs))
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, epochs_done / config.epochs)))
    return 1.0


def _validate(head: Head, val: BatchSource, device: torch.device) -> tuple[float, float, dict[str, float]]:
    """Accuracy, loss, and the means of the head's statistics as columns of the history."""
    assert val.labels is not None  # refused in fit_head
    found = infer(head, val, device=device)
    accuracy, loss = accuracy_and_loss(found.logits, val.labels)
    return accuracy, loss, {f"val_{name}": mean for name, mean in found.means().items()}


def _not_finite(epoch: int, step: int, loss: float, ids: tuple[str, ...]) -> str:
    names = ", ".join(ids[:SHOWN_IDS]) + (f", … ({len(ids)} in all)" if len(ids) > SHOWN_IDS else "")
    return (
        f"epoch {epoch}, step {step + 1}: the loss is {loss}, expected a finite number. Pairs of this batch: {names}. "
        "Lower the step size (--set learning_rate=1e-4), limit the gradient (--set gradient_clip=1), "
        "or look at these pairs' features"
    )


class _Plateaus:
    """The factor of the schedule `plateau`: falls once the validation loss has not fallen for `step_epochs` epochs."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.factor = 1.0
        self.lowest = math.inf
        self.waited = 0

    def see(self, val_loss: float) -> None:
        if self.config.schedule != "plateau":
            return
        self.waited = 0 if val_loss < self.lowest else self.waited + 1
        self.lowest = min(self.lowest, val_loss)
        if self.waited >= self.config.step_epochs:
            self.factor *= self.config.step_factor
            self.waited = 0


class _Average:
    """Exponential moving average of the parameters, started without bias; nothing at decay 0."""

    def __init__(self, head: Head, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.parameters = list(head.parameters())
        self.means = [parameter.detach().clone() for parameter in self.parameters] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        if not self.decay:
            return
        self.steps += 1
        # Early on the plain mean over the steps so far: the random start must not stay in the average.
        decay = min(self.decay, (self.steps - 1) / self.steps)
        for mean, parameter in zip(self.means, self.parameters, strict=True):
            mean.lerp_(parameter, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The head with the averaged weights."""
        if not self.decay:
            yield
            return
        own = [parameter.detach().clone() for parameter in self.parameters]
        self._set(self.means)
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
