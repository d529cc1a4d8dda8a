"""Where a training stands after so many steps: its stage, its pass, the rows of each step, the factor of the step size.

All of it follows from the recipe, the seed and the number of the step, so a stopped training needs to remember nothing
but that number. Knows neither weights nor images.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentifuse.crowd.finetune.recipe import FinetuneRecipe
from sentifuse.crowd.steps import rate_factor

__all__ = ["Plan"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps of a training. Steps count from 0, passes over the training part ("epochs") from 1."""

    recipe: FinetuneRecipe
    train_rows: IntArray
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """The last step of a pass may be smaller than the others; no image is left out."""
        return -(-len(self.train_rows) // self.recipe.batch_size)

    @property
    def epochs(self) -> int:
        """Of both stages together."""
        return self.recipe.head_epochs + self.recipe.epochs

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def epoch_of(self, step: int) -> int:
        """The pass that a step belongs to."""
        return step // self.steps_per_epoch + 1

    def stage_of(self, step: int) -> str:
        """ "head" while everything else is frozen, then "all"."""
        return "head" if step < self.recipe.head_epochs * self.steps_per_epoch else "all"

    def is_epoch_end(self, step: int) -> bool:
        """Whether this is the last step of its pass."""
        return (step + 1) % self.steps_per_epoch == 0

    def factor(self, step: int) -> float:
        """What both step sizes are multiplied by: 1 in the first stage; then a rise, and the fall of the schedule."""
        first = self.recipe.head_epochs * self.steps_per_epoch
        if step < first:
            return 1.0
        return rate_factor(step - first, self.steps - first, schedule=self.recipe.schedule, warmup=self.recipe.warmup)

    def rows_from(self, step: int) -> list[IntArray]:
        """Rows of this step and of all later ones of its pass."""
        epoch = self.epoch_of(step)
        order = self.train_rows
        if self.recipe.is_shuffled:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        size = self.recipe.batch_size
        first = (step % self.steps_per_epoch) * size
        return [order[start : start + size] for start in range(first, len(order), size)]
