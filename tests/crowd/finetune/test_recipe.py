"""Laws of recipes: presets say what the paper says, and a setting that cannot be meant is refused by name."""

from dataclasses import asdict

import pytest

from sentifuse import ConfigError
from sentifuse.crowd.finetune.recipe import PRESETS, FinetuneRecipe, resolve_recipe

# What the sources say, and where they say nothing, what leaves the training as theirs was: every field, so that none
# changes unseen.
PAPER = {
    "image_px": 384, "head": "two_layer", "gelu": "tanh", "head_epochs": 1, "epochs": 5, "batch_size": 32,
    "micro_batch": 0, "optimiser": "radam", "learning_rate": 1e-4, "head_learning_rate": 1e-4, "weight_decay": 0.0,
    "schedule": "constant", "warmup": 0.0, "gradient_clip": 0.0, "dropout": 0.1, "label_smoothing": 0.2, "alpha": 1.0,
    "temperature": 2.0, "is_balanced": True, "is_shuffled": False, "is_augmented": False, "crop_min": 0.8,
    "trains_without_neutral": False, "scores_without_neutral": False, "select": "last", "validate_every": 0,
    "patience": 0, "precision": "auto", "lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0.0,
}  # fmt: skip
BENCHMARK = PAPER | {
    "image_px": 0, "head_epochs": 0, "label_smoothing": 0.0, "is_balanced": False, "is_shuffled": True,
}  # fmt: skip
PUBLISHED = {
    "paper": PAPER,
    "five_fold": BENCHMARK | {"epochs": 12, "trains_without_neutral": True},
    "fi_splits": BENCHMARK | {"epochs": 5, "select": "accuracy", "scores_without_neutral": True, "validate_every": 200},
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_published_preset_is_what_its_source_says_in_every_field(preset: str) -> None:
    assert asdict(resolve_recipe("full", preset=preset)) == PUBLISHED[preset]


def test_the_default_takes_larger_steps_for_adapters() -> None:
    assert resolve_recipe("full").learning_rate == 2e-5
    assert resolve_recipe("lora").learning_rate == 1e-4
    assert resolve_recipe("lora", overrides={"learning_rate": "5e-5"}).learning_rate == 5e-5


@pytest.mark.parametrize("preset", [name for name in PRESETS if "@" not in name])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_every_preset_is_a_recipe(kind: str, preset: str) -> None:
    assert isinstance(resolve_recipe(kind, preset=preset), FinetuneRecipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "probes"}, "unknown student 'probes'"),
        ({"preset": "papre"}, "unknown preset 'papre'; did you mean 'paper'"),
        ({"preset": "default@lora"}, "unknown preset 'default@lora'"),
        ({"overrides": {"epoch": 3}}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"overrides": {"label_smoothing": 1.5}}, "label_smoothing: expected between 0.0 and 0.99, found 1.5"),
        ({"overrides": {"optimiser": "adam"}}, "optimiser"),
        ({"overrides": {"epochs": 0, "head_epochs": 0}}, "expected at least one pass"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"kind": "full", **changes}
    with pytest.raises(ConfigError, match=message):
        resolve_recipe(**arguments)  # type: ignore[arg-type]
