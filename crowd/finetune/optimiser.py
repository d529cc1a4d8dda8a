"""The one optimiser of both stages: the head and what lies below it each with a step size, decay on matrices alone.

A frozen part has no gradients, and torch's optimisers pass over it without counting a step. Keras counts steps for all
weights together, so the paper's second stage began with RAdam's warm-up behind it; ours begins it anew.
"""

from typing import Any

import torch

from sentifuse.crowd.finetune.network import VitStudent
from sentifuse.crowd.finetune.recipe import FinetuneRecipe
from sentifuse.crowd.steps import make_optimiser

__all__ = ["build_optimiser", "set_rates"]


def build_optimiser(student: VitStudent, recipe: FinetuneRecipe, device: torch.device) -> torch.optim.Optimizer:
    """Over the weights of a student that can be trained, in four groups."""
    groups: list[dict[str, Any]] = []
    for is_head in (True, False):
        for is_decayed in (True, False):
            weights = [
                value
                for name, value in student.named_parameters()
                if value.requires_grad
                and name.startswith("head.") == is_head
                and (name.endswith("weight") and value.ndim > 1) == is_decayed
            ]
            if weights:
                decay = recipe.weight_decay if is_decayed else 0.0
                groups.append({"params": weights, "weight_decay": decay, "is_head": is_head})
    return make_optimiser(recipe.optimiser, groups, recipe.learning_rate, fused=device.type == "cuda")


def set_rates(optimiser: torch.optim.Optimizer, recipe: FinetuneRecipe, factor: float) -> None:
    """The step sizes of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = factor * (recipe.head_learning_rate if group["is_head"] else recipe.learning_rate)
