"""Laws of the plan: every pass sees every row once, and any step can be begun from its number alone."""

from typing import Any

import numpy as np
import pytest

from sentifuse.crowd.finetune.recipe import FinetuneRecipe
from sentifuse.crowd.finetune.schedule import Plan


def plan(rows: int = 10, seed: int = 0, **recipe: Any) -> Plan:
    small: dict[str, Any] = {"batch_size": 4, "head_epochs": 1, "epochs": 2}
    return Plan(recipe=FinetuneRecipe(**(small | recipe)), train_rows=np.arange(rows) + 100, seed=seed)


@pytest.mark.parametrize("is_shuffled", [True, False])
def test_every_pass_has_every_row_once(is_shuffled: bool) -> None:
    p = plan(is_shuffled=is_shuffled)
    for epoch in range(p.epochs):
        batches = p.rows_from(epoch * p.steps_per_epoch)
        assert [len(rows) for rows in batches] == [4, 4, 2]
        assert sorted(np.concatenate(batches).tolist()) == list(range(100, 110))


def test_the_rest_of_a_pass_follows_from_the_step_alone() -> None:
    p = plan()
    for step in range(p.steps):
        first = step - step % p.steps_per_epoch
        whole = p.rows_from(first)
        rest = plan().rows_from(step)
        assert [rows.tolist() for rows in rest] == [rows.tolist() for rows in whole[step - first :]]


def test_passes_differ_by_number_and_seed_and_not_without_shuffling() -> None:
    orders = [np.concatenate(p.rows_from(step)).tolist() for p in (plan(seed=0), plan(seed=1)) for step in (0, 3)]
    assert len({tuple(order) for order in orders}) == 4
    fixed = plan(is_shuffled=False)
    assert np.concatenate(fixed.rows_from(3)).tolist() == list(range(100, 110))


def test_stages_and_passes_are_counted_from_the_step() -> None:
    p = plan()
    assert (p.steps_per_epoch, p.steps) == (3, 9)
    assert [p.stage_of(step) for step in range(9)] == ["head"] * 3 + ["all"] * 6
    assert [p.epoch_of(step) for step in range(9)] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [step for step in range(9) if p.is_epoch_end(step)] == [2, 5, 8]


def test_the_step_size_rises_then_falls_as_a_cosine() -> None:
    p = plan(warmup=0.3)  # two of the six steps of the second stage
    factors = [p.factor(step) for step in range(9)]
    expected = [1.0, 1.0, 1.0, 0.5, 1.0, *(0.5 * (1 + np.cos(np.pi * k / 4)) for k in range(4))]
    assert factors == pytest.approx(expected)
    constant = plan(schedule="constant", warmup=0.0)
    assert {constant.factor(step) for step in range(9)} == {1.0}
