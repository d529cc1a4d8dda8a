"""Laws of the optimiser: two step sizes, decay on matrices alone, and a frozen part that is not touched."""

from pathlib import Path

import torch

from sentifuse.crowd.finetune.network import VitStudent, build_student, read_base
from sentifuse.crowd.finetune.optimiser import build_optimiser, set_rates
from sentifuse.crowd.finetune.recipe import FinetuneRecipe

CPU = torch.device("cpu")


def student_of(folder: Path) -> VitStudent:
    return build_student(read_base(folder, 0), FinetuneRecipe())


def test_every_weight_is_in_one_group_and_only_matrices_decay(tiny_vit: Path) -> None:
    student = student_of(tiny_vit)
    optimiser = build_optimiser(student, FinetuneRecipe(weight_decay=0.5), CPU)
    names = {value: name for name, value in student.named_parameters()}
    grouped = [names[value] for group in optimiser.param_groups for value in group["params"]]
    assert sorted(grouped) == sorted(names.values())
    for group in optimiser.param_groups:
        for value in group["params"]:
            is_matrix = value.ndim > 1 and names[value].rpartition(".")[2] not in ("cls_token", "position_embeddings")
            assert (group["weight_decay"] == 0.5) == is_matrix, names[value]


def test_head_and_body_have_step_sizes_of_their_own(tiny_vit: Path) -> None:
    recipe = FinetuneRecipe(learning_rate=0.1, head_learning_rate=0.4)
    optimiser = build_optimiser(student_of(tiny_vit), recipe, CPU)
    set_rates(optimiser, recipe, 0.5)
    assert {(group["is_head"], group["lr"]) for group in optimiser.param_groups} == {(True, 0.2), (False, 0.05)}


def test_weights_without_gradients_have_no_state_even_with_decay(tiny_vit: Path) -> None:
    student = student_of(tiny_vit)
    before = {name: value.clone() for name, value in student.vit.state_dict().items()}
    optimiser = build_optimiser(student, FinetuneRecipe(optimiser="radam", weight_decay=0.5), CPU)
    squares = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    student(squares, is_frozen=True).sum().backward()
    optimiser.step()
    assert all(torch.equal(value, before[name]) for name, value in student.vit.state_dict().items())
    assert len(optimiser.state) == len(list(student.head.parameters()))
