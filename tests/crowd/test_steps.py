"""Laws of a step: the paper's optimiser to its epsilon, decay on matrices alone, a rise and a fall of the step size."""

import pytest
import torch

from sentifuse.crowd.steps import decay_apart, make_optimiser, rate_factor


def test_radam_is_that_of_the_paper_and_adamw_is_torchs() -> None:
    groups = decay_apart([torch.nn.Parameter(torch.ones(2, 2))], 0.25)
    radam = make_optimiser("radam", groups, 0.5)
    assert isinstance(radam, torch.optim.RAdam)
    (matrices, _) = radam.param_groups
    assert (matrices["lr"], matrices["eps"], matrices["weight_decay"]) == (0.5, 1e-7, 0.25)
    assert matrices["decoupled_weight_decay"]
    assert type(make_optimiser("adamw", groups, 0.5)) is torch.optim.AdamW


def test_only_matrices_decay() -> None:
    matrix, vector = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(3))
    first, second = decay_apart([vector, matrix], 0.5)
    assert (first["params"][0] is matrix, first["weight_decay"]) == (True, 0.5)
    assert (second["params"][0] is vector, second["weight_decay"]) == (True, 0.0)


def test_the_step_size_rises_and_then_falls_or_stays() -> None:
    rising = [rate_factor(step, 10, schedule="cosine", warmup=0.4) for step in range(10)]
    assert rising[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rising[7] == pytest.approx(0.5)
    assert 0 < rising[9] < rising[8] < rising[7]
    assert [rate_factor(step, 4, schedule="constant", warmup=0.5) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
