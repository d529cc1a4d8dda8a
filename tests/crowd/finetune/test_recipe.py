"""Laws of recipes: presets say what the paper says, and a setting that cannot be meant is refused by name."""

import pytest

from sentifuse import ConfigError
from sentifuse.crowd.finetune.recipe import PRESETS, FinetuneRecipe, resolve_recipe


def test_the_paper_preset_is_the_published_recipe() -> None:
    paper = resolve_recipe("full", preset="paper")
    assert (paper.optimiser, paper.learning_rate, paper.head_learning_rate) == ("radam", 1e-4, 1e-4)
    assert (paper.schedule, paper.warmup, paper.weight_decay, paper.gradient_clip) == ("constant", 0.0, 0.0, 0.0)
    assert (paper.head_epochs, paper.epochs, paper.batch_size, paper.image_px) == (1, 5, 32, 384)
    assert (paper.label_smoothing, paper.is_balanced, paper.alpha, paper.head) == (0.2, True, 1.0, "two_layer")
    assert not paper.is_augmented
    assert not paper.is_shuffled


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
