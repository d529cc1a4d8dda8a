"""A head on vectors that stay as they are, trained on by a recipe of fine-tuning: probes under a benchmark's protocol.

The recipe's settings of images, adapters and of what lies below the head have no meaning here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sentifuse import TrainingError
from sentifuse.crowd.finetune.recipe import FinetuneRecipe
from sentifuse.crowd.finetune.request import check_parts
from sentifuse.crowd.finetune.schedule import Plan
from sentifuse.crowd.scores import is_better, score
from sentifuse.crowd.steps import decay_apart, make_optimiser
from sentifuse.crowd.targets import Targets, row_losses, row_weights, smooth_targets, to_tensor

__all__ = ["Learned", "answer_by_head", "train_head"]

# Shapes: N vectors, B batch, D width of a vector, K = 3 classes.
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """A head with the weights that the recipe selects; `best` says of which moment they are."""

    head: nn.Module
    best: Mapping[str, Any]


def train_head(
    head: nn.Module,
    vectors: FloatArray,
    classes: IntArray,
    recipe: FinetuneRecipe,
    *,
    train_rows: IntArray,
    val_rows: IntArray,
    seed: int = 0,
) -> Learned:
    """Train `head`, (B, D) → (logits (B, K), hidden), where it stands; it is changed.

    With `trains_without_neutral` the softmax is one of two: the neutral logit counts as -∞.

    Parameters
    ----------
    vectors
        float32 (N, D).
    classes
        int64 (N,).

    Raises
    ------
    TrainingError
        A class without a training row, no validation row where the recipe selects by one, a loss that is not finite.
    DataError
        A neutral row where the recipe leaves neutral out.
    """
    check_parts(recipe, classes, train_rows, val_rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout
        return _Run(head, vectors, classes, recipe, train_rows, val_rows, seed).learn()


def answer_by_head(head: nn.Module, vectors: FloatArray) -> FloatArray:
    """(N, D) → softmax over all three logits, float32 (N, K)."""
    head.eval()
    with torch.no_grad():
        logits: Tensor = head(torch.from_numpy(vectors))[0]
    shares: FloatArray = torch.softmax(logits.double(), dim=1).float().numpy()
    return shares


class _Run:
    def __init__(
        self,
        head: nn.Module,
        vectors: FloatArray,
        classes: IntArray,
        recipe: FinetuneRecipe,
        train_rows: IntArray,
        val_rows: IntArray,
        seed: int,
    ) -> None:
        self.head, self.vectors, self.classes, self.recipe = head, torch.from_numpy(vectors), classes, recipe
        self.val_rows = val_rows
        self.plan = Plan(recipe=recipe, train_rows=train_rows, seed=seed)
        self.hard = to_tensor(smooth_targets(classes, recipe.label_smoothing))
        self.weights = to_tensor(row_weights(Targets(classes=classes), train_rows, is_balanced=recipe.is_balanced))
        self.best: dict[str, Any] = {}
        self.state: dict[str, Tensor] = {}
        self.step = 0

    def learn(self) -> Learned:
        recipe = self.recipe
        self.head.requires_grad_(True)
        groups = decay_apart(self.head.parameters(), recipe.weight_decay)
        optimiser = make_optimiser(recipe.optimiser, groups, recipe.head_learning_rate)
        while self.step < self.plan.steps:
            epoch = self.plan.epoch_of(self.step)
            for rows in self.plan.rows_from(self.step):
                is_last = self.plan.is_epoch_end(self.step)
                self._take_step(optimiser, rows, epoch)
                if is_last or (recipe.validate_every and self.step % recipe.validate_every == 0):
                    self._validate(epoch, is_end=is_last)
        self.head.load_state_dict(self.state)
        return Learned(head=self.head.requires_grad_(False).eval(), best=self.best)

    def _take_step(self, optimiser: torch.optim.Optimizer, rows: IntArray, epoch: int) -> None:
        for group in optimiser.param_groups:
            group["lr"] = self.recipe.head_learning_rate * self.plan.factor(self.step)
        self.head.train()
        logits = self.head(self.vectors[rows])[0]
        losses = row_losses(logits, self.hard[rows], without_neutral=self.recipe.trains_without_neutral)
        loss = (self.weights[rows] * losses).mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"head: epoch {epoch}: the loss is {value}, expected a finite number. "
                "Lower the step size: --set head_learning_rate=1e-5"
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        if self.recipe.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.recipe.gradient_clip)
        optimiser.step()
        self.step += 1

    def _validate(self, epoch: int, *, is_end: bool) -> None:
        """Keep these weights, if they are the last of a pass (`select = last`) or better than all before."""
        found: dict[str, Any] = {"epoch": epoch, "step": self.step}
        select = self.recipe.select
        if select == "last":
            if not is_end:
                return
        else:
            self.head.eval()
            with torch.no_grad():
                logits = self.head(self.vectors[self.val_rows])[0].numpy()
            classes = self.classes[self.val_rows]
            found |= score(logits, classes, without_neutral=self.recipe.scores_without_neutral)
            if not is_better(found, self.best, select):
                return
        self.best = found
        self.state = {name: value.detach().clone() for name, value in self.head.state_dict().items()}
