"""How a probe, a small head on cached image embeddings, is trained: settings, presets, the head it makes.

Holds values and refuses what cannot be meant. Those of fine-tuned transformers are in `finetune.recipe`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sentifuse import ConfigError
from sentifuse.fuse.config import check_settings, parse_value, setting

__all__ = ["PRESETS", "ProbeRecipe", "resolve_recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRecipe:
    """The recipe of a probe; the defaults are those of the preset `default`."""

    head: Literal["mlp", "two_layer", "linear"] = setting(
        "mlp", "mlp: LayerNorm, Dense, GELU, dropout, Dense; two_layer: Dense, GELU, Dense; linear: one Dense"
    )
    width: int = setting(256, "hidden width of mlp and two_layer: what the crowd's embedding has", low=1)
    gelu: Literal["exact", "tanh"] = setting("exact", "of two_layer; tanh: the paper's approximation")
    dropout: float = setting(0.2, "in front of the last layer of mlp", low=0.0, high=0.9)
    is_standardised: bool = setting(True, "two_layer and linear: inputs scaled by the training part's mean and spread")
    epochs: int = setting(30, "passes over the training part at most", low=1)
    max_steps: int = setting(3000, "steps at most, in whole passes, but one pass always; 0: no limit", low=0)
    batch_size: int = setting(256, "images per step", low=1)
    optimiser: Literal["adamw", "radam"] = setting("adamw", "radam: the paper's, weight decay uncoupled in both")
    learning_rate: float = setting(1e-3, "largest step size", low=0.0)
    weight_decay: float = setting(0.01, "of all matrices", low=0.0)
    schedule: Literal["cosine", "constant"] = setting("cosine", "how the step size falls after the warm-up")
    warmup: float = setting(0.05, "share of the steps in which the step size rises from 0", low=0.0, high=1.0)
    label_smoothing: float = setting(0.2, "share of a hard target that is spread over all classes", low=0.0, high=0.99)
    alpha: float = setting(1.0, "share of the hard targets in the loss; the rest is the teacher's", low=0.0, high=1.0)
    temperature: float = setting(2.0, "T of the soft part, T² · KL(teacher_T ‖ student_T)", low=0.1, high=100.0)
    is_balanced: bool = setting(True, "weigh classes against their shares of the training part")
    select: Literal["macro_f1", "loss", "last"] = setting("macro_f1", "which weights are kept, by validation")
    patience: int = setting(5, "stop after so many passes without a better validation; 0: never", low=0)

    def __post_init__(self) -> None:
        check_settings(self)

    def head_config(self, width: int) -> dict[str, Any]:
        """`head` of a student's config.json over embeddings of `width` numbers."""
        shapes: dict[str, dict[str, Any]] = {
            "mlp": {"width": self.width, "dropout": self.dropout},
            "two_layer": {"width": self.width, "gelu": self.gelu},
            "linear": {},
        }
        return {"kind": self.head, "in": width, **shapes[self.head]}

    def epochs_of(self, train_count: int) -> int:
        """Passes over so many images, by `epochs` and `max_steps`.

        >>> ProbeRecipe(epochs=30, max_steps=1000, batch_size=256).epochs_of(25_600)
        10
        """
        steps_per_epoch = -(-train_count // self.batch_size)
        return self.epochs if not self.max_steps else max(1, min(self.epochs, self.max_steps // steps_per_epoch))


# The head, the optimiser and the loss of the published script, on embeddings that stay as they are: what its first
# stage does, for as many passes as both of its stages have.
_PAPER: Mapping[str, Any] = {
    "head": "two_layer",
    "width": 32,
    "gelu": "tanh",  # TensorFlow Addons' default
    "is_standardised": False,
    "epochs": 6,
    "max_steps": 0,
    "batch_size": 32,
    "optimiser": "radam",
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup": 0.0,
    "select": "last",
    "patience": 0,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {"default": {}, "paper": _PAPER}


def resolve_recipe(*, preset: str = "default", overrides: Mapping[str, Any] | None = None) -> ProbeRecipe:
    """The recipe of a preset with changes; strings are parsed by the type of the setting.

    Raises
    ------
    ConfigError
        Unknown preset or setting (with the nearest name), a value of the wrong type or out of range.

    Examples
    --------
    >>> resolve_recipe(overrides={"head": "linear", "epochs": "3"}).epochs
    3
    """
    if preset not in PRESETS:
        raise ConfigError.unknown("preset", preset, PRESETS, where="--preset")
    values = dict(PRESETS[preset])
    known = ProbeRecipe.__dataclass_fields__
    for key, value in (overrides or {}).items():
        if key not in known:
            raise ConfigError.unknown("setting", key, known, where="--set")
        values[key] = parse_value(ProbeRecipe, key, value)
    return ProbeRecipe(**values)
