"""A probe: a small head trained on image embeddings that stay as they are. Embeddings come in, tensors go out.

Memory does not grow with the images but for their classes, shares and weights. Knows no files and no datasets.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sentifuse import ConfigError, TrainingError
from sentifuse.crowd.scores import is_better, score
from sentifuse.crowd.steps import decay_apart, make_optimiser, rate_factor
from sentifuse.crowd.students.embeddings import Embeddings, in_order
from sentifuse.crowd.students.probe_recipe import ProbeRecipe
from sentifuse.crowd.students.temperature import fit_temperature
from sentifuse.crowd.targets import (
    CLASSES,
    Targets,
    refuse_absent,
    row_losses,
    row_weights,
    smooth_targets,
    soften,
    to_tensor,
)
from sentifuse.extract.backbones.student_head import build_head

__all__ = ["Probe", "answer", "train_probe"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Report = Callable[[Mapping[str, Any]], None]

VALIDATION_ROWS = 1024  # of a batch without gradients

# Shapes: N images, B batch, V images of the validation part, D width of an embedding, W of the head, K = 3 classes.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """A trained head.

    Attributes
    ----------
    head_config
        `head` of a student's config.json.
    tensors
        float32, `head.*`.
    temperature
        What logits are to be divided by, from the validation part.
    history
        One row per pass: epoch, train_loss, val_loss, val_accuracy, val_macro_f1, learning_rate, seconds, is_best.
    best
        The row of the history whose weights these are.
    class_weights
        By name, as used in the loss.
    """

    head_config: Mapping[str, Any]
    tensors: Mapping[str, FloatArray]
    temperature: float
    history: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any]
    val_logits: FloatArray  # (V, K), not divided
    class_weights: Mapping[str, float]


def train_probe(
    embeddings: Embeddings,
    targets: Targets,
    recipe: ProbeRecipe,
    *,
    train_rows: IntArray,
    val_rows: IntArray,
    seed: int = 0,
    progress: Report | None = None,
    where: str = "probe",
) -> Probe:
    """Train a head on the training rows and keep the weights that the recipe selects by the validation rows.

    Nothing of any other row is looked at. All randomness comes from `seed`; torch's global generators are as before
    afterwards.

    Parameters
    ----------
    progress
        Hears every row of the history.
    where
        What is trained, for messages.

    Raises
    ------
    ConfigError
        Settings that contradict each other or the rows.
    DataError
        Targets that cannot be.
    TrainingError
        A class without training images, no validation image, a loss that is not finite.
    """
    targets.check(alpha=recipe.alpha)
    if len(targets) != len(embeddings):
        raise ValueError(f"{len(targets)} targets for {len(embeddings)} embeddings")
    refuse_absent(targets.classes[train_rows], where=where)
    if not len(val_rows):
        raise TrainingError(f"{where}: expected validation images, found none. Keep more, or another --seed")
    if np.intersect1d(train_rows, val_rows).size:
        raise ConfigError(f"{where}: expected training and validation images apart, found some in both")
    with _seeded(seed):
        net = build_head(recipe.head_config(embeddings.width))
        run = _Run(embeddings, targets, recipe, net, train_rows, val_rows, seed, where)
        scale = run.measure_scale()
        history, best, state = run.descend(scale, progress)
        net.load_state_dict(state)
        val_logits = run.logits(val_rows, scale)
        tensors = _absorbed(net, scale)
    weights = run.class_weights()
    return Probe(
        head_config=recipe.head_config(embeddings.width),
        tensors=tensors,
        temperature=fit_temperature(val_logits, targets.classes[val_rows]),
        history=history,
        best=best,
        val_logits=val_logits,
        class_weights=weights,
    )


def answer(
    head_config: Mapping[str, Any],
    tensors: Mapping[str, FloatArray],
    temperature: float,
    embeddings: Embeddings,
    rows: IntArray,
    *,
    batch_rows: int = VALIDATION_ROWS,
) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
    """(rows, probabilities float32 (B, K), hidden float32 (B, W)) of a trained head, batch by batch in order.

    Raises
    ------
    ConfigError
        A head for embeddings of another width.
    """
    if embeddings.width != head_config["in"]:
        raise ConfigError(
            f"student: its head reads {head_config['in']} numbers, found embeddings of {embeddings.width}"
        )
    net = build_head(dict(head_config))
    net.load_state_dict({name.removeprefix("head."): to_tensor(value) for name, value in tensors.items()})
    net.eval()
    for part, values in in_order(embeddings, rows, batch_rows):
        with torch.no_grad():
            logits, hidden = net(values)
            shares = torch.softmax(logits.double() / temperature, dim=1).float()
        yield part, shares.numpy(), hidden.float().clone().numpy()


@dataclass(frozen=True, slots=True, eq=False)
class _Scale:
    """What inputs are shifted and divided by while training; part of the first layer afterwards."""

    mean: Tensor  # (D,)
    spread: Tensor  # (D,)


class _Run:
    """One training; everything about it that does not change."""

    def __init__(
        self,
        embeddings: Embeddings,
        targets: Targets,
        recipe: ProbeRecipe,
        net: nn.Module,
        train_rows: IntArray,
        val_rows: IntArray,
        seed: int,
        where: str,
    ) -> None:
        self.embeddings, self.targets, self.recipe, self.net = embeddings, targets, recipe, net
        self.train_rows, self.val_rows = train_rows, val_rows
        self.seed, self.where = seed, where
        self.weights = row_weights(targets, train_rows, is_balanced=recipe.is_balanced)

    def class_weights(self) -> dict[str, float]:
        """The mean weight of a training image of each class."""
        classes, weights = self.targets.classes[self.train_rows], self.weights[self.train_rows]
        return {name: round(float(weights[classes == i].mean()), 6) for i, name in enumerate(CLASSES)}

    def measure_scale(self) -> _Scale | None:
        """Mean and spread of the training part; None where the head has a norm of its own, or none is asked for."""
        if self.recipe.head == "mlp" or not self.recipe.is_standardised:
            return None
        total = torch.zeros(self.embeddings.width, dtype=torch.float64)
        squares = torch.zeros_like(total)
        # Around the first batch's mean: of numbers far from 0 the plain sum of squares keeps too few digits.
        origin: Tensor | None = None
        for _, batch in in_order(self.embeddings, np.sort(self.train_rows), VALIDATION_ROWS):
            values = batch.double()
            origin = values.mean(0) if origin is None else origin
            total += (values - origin).sum(0)
            squares += ((values - origin) ** 2).sum(0)
        assert origin is not None  # a training part without rows was refused
        mean = total / len(self.train_rows)
        spread = (squares / len(self.train_rows) - mean**2).clamp_min(0.0).sqrt()
        spread[spread < 1e-6] = 1.0  # a number that never changes stays as it is
        return _Scale((mean + origin).float(), spread.float())

    def descend(
        self, scale: _Scale | None, progress: Report | None
    ) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Tensor]]:
        """History, its best row, and the weights of that moment."""
        recipe = self.recipe
        groups = decay_apart(self.net.parameters(), recipe.weight_decay)
        optimiser = make_optimiser(recipe.optimiser, groups, recipe.learning_rate)
        epochs = recipe.epochs_of(len(self.train_rows))
        history: list[dict[str, Any]] = []
        best: dict[str, Any] = {}
        state: dict[str, Tensor] = {}
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            train_loss, rate = self._pass(optimiser, scale, epoch, epochs)
            found = score(self.logits(self.val_rows, scale), self.targets.classes[self.val_rows])
            is_best = is_better(found, best, recipe.select)
            row = {"epoch": epoch, "train_loss": train_loss, **found, "learning_rate": rate}
            row |= {"seconds": round(time.perf_counter() - started, 3), "is_best": is_best}
            history.append(row)
            if is_best:
                best = row
                state = {name: value.detach().clone() for name, value in self.net.state_dict().items()}
            if progress is not None:
                progress(row | {"epochs": epochs})
            if recipe.patience and epoch - best["epoch"] >= recipe.patience:
                break
        return history, best, state

    def logits(self, rows: IntArray, scale: _Scale | None) -> FloatArray:
        """(len(rows), K) of the weights as they are."""
        self.net.eval()
        found = np.zeros((len(rows), len(CLASSES)), dtype=np.float32)
        done = 0
        for part, values in in_order(self.embeddings, rows, VALIDATION_ROWS):
            with torch.no_grad():
                found[done : done + len(part)] = self.net(_scaled(values, scale))[0].numpy()
            done += len(part)
        return found

    def _pass(
        self, optimiser: torch.optim.Optimizer, scale: _Scale | None, epoch: int, epochs: int
    ) -> tuple[float, float]:
        """Mean loss of one pass over the training part, and the last step size."""
        recipe = self.recipe
        self.net.train()
        order = np.random.default_rng((self.seed, epoch)).permutation(self.train_rows)
        plan = [order[start : start + recipe.batch_size] for start in range(0, len(order), recipe.batch_size)]
        total, rate = 0.0, 0.0
        with closing(self.embeddings.stream(plan)) as batches:
            for step, (rows, values) in enumerate(zip(plan, batches, strict=True)):
                rate = recipe.learning_rate * rate_factor(
                    (epoch - 1) * len(plan) + step,
                    epochs * len(plan),
                    schedule=recipe.schedule,
                    warmup=recipe.warmup,
                )
                for group in optimiser.param_groups:
                    group["lr"] = rate
                loss = self._loss(rows, _scaled(values, scale))
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
                optimiser.step()
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise TrainingError(
                        f"{self.where}: epoch {epoch}, step {step + 1}: the loss is {value}, expected a finite number. "
                        "Lower the step size (--set learning_rate=1e-4), or look at the embeddings"
                    )
                total += value * len(rows)
        return total / len(order), rate

    def _loss(self, rows: IntArray, values: Tensor) -> Tensor:
        recipe, targets = self.recipe, self.targets
        soft = None
        if recipe.alpha < 1 and targets.probabilities is not None:
            soft = to_tensor(soften(targets.probabilities[rows], recipe.temperature))
        losses = row_losses(
            self.net(values)[0],
            to_tensor(smooth_targets(targets.classes[rows], recipe.label_smoothing)),
            soft,
            alpha=recipe.alpha,
            temperature=recipe.temperature,
        )
        return (to_tensor(self.weights[rows]) * losses).mean()


def _scaled(values: Tensor, scale: _Scale | None) -> Tensor:
    return values if scale is None else (values - scale.mean) / scale.spread


def _absorbed(net: nn.Module, scale: _Scale | None) -> dict[str, FloatArray]:
    """The head's weights for inputs as they are: W (x − μ) / σ + b = (W / σ) x + (b − W μ / σ)."""
    state = {name: value.detach().double() for name, value in net.state_dict().items()}
    if scale is not None:
        weight, bias = _first_layer(net)
        state[weight] = state[weight] / scale.spread.double()
        state[bias] = state[bias] - state[weight] @ scale.mean.double()
    return {f"head.{name}": value.float().contiguous().numpy() for name, value in state.items()}


def _first_layer(net: nn.Module) -> tuple[str, str]:
    name = next(name for name, module in net.named_modules() if isinstance(module, nn.Linear))
    return f"{name}.weight", f"{name}.bias"


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
