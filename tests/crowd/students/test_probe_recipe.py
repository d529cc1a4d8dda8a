"""A probe's recipe: presets, settings from the command line, the head it makes, and how long it trains."""

from dataclasses import asdict

import pytest

from sentifuse import ConfigError
from sentifuse.crowd.students.probe_recipe import PRESETS, ProbeRecipe, resolve_recipe
from sentifuse.extract.students import check_head


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("head", ["mlp", "two_layer", "linear"])
def test_every_recipe_makes_a_head_that_a_student_folder_takes(preset: str, head: str) -> None:
    config = resolve_recipe(preset=preset, overrides={"head": head}).head_config(1280)
    check_head(config)
    assert config["kind"] == head
    assert config["in"] == 1280


def test_the_paper_has_its_head_its_optimiser_and_its_loss() -> None:
    recipe = resolve_recipe(preset="paper")
    assert recipe.head_config(768) == {"kind": "two_layer", "in": 768, "width": 32, "gelu": "tanh"}
    assert asdict(recipe) == {
        "head": "two_layer", "width": 32, "gelu": "tanh", "dropout": 0.2, "is_standardised": False, "epochs": 6,
        "max_steps": 0, "batch_size": 32, "optimiser": "radam", "learning_rate": 1e-4, "weight_decay": 0.0,
        "schedule": "constant", "warmup": 0.0, "label_smoothing": 0.2, "alpha": 1.0, "temperature": 2.0,
        "is_balanced": True, "select": "last", "patience": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "named"),
    [({"epoch": "3"}, "epochs"), ({"alpha": "1.5"}, "alpha"), ({"head": "mpl"}, "mlp"), ({"epochs": "many"}, "epochs")],
)
def test_what_cannot_be_meant_is_refused_by_name(overrides: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        resolve_recipe(overrides=overrides)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="paper"):
        resolve_recipe(preset="papre")


@pytest.mark.parametrize(("count", "epochs"), [(10, 30), (256 * 100, 30), (100_000, 7), (10**7, 1)])
def test_large_sets_get_fewer_passes_never_none(count: int, epochs: int) -> None:
    assert ProbeRecipe().epochs_of(count) == epochs
    assert ProbeRecipe(max_steps=0).epochs_of(count) == 30
