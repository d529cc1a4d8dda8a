"""What a fine-tuning of a vision transformer is asked for and gives back: recipe, presets, request, result.

Holds values and refuses what cannot be meant. Trains nothing, reads no file and imports no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError
from sentifuse.fuse.config import check_settings, parse_value, setting

__all__ = [
    "KINDS",
    "PRESETS",
    "FinetuneRecipe",
    "FinetuneRequest",
    "Finetuned",
    "ImageRow",
    "Kind",
    "LeftOut",
    "resolve_recipe",
]

Kind = Literal["lora", "full"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Shapes: N images of a request, D width of the transformer.


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneRecipe:
    """How to fine-tune; the defaults are those of `full` in the preset `default`."""

    image_px: int = setting(0, "side of the square that every image is resized to, in pixels; 0: the base's own", low=0)
    head: Literal["two_layer", "mlp", "linear"] = setting("two_layer", "the new head; a student brings its own")
    gelu: Literal["exact", "tanh"] = setting("exact", "of a new head of two layers; tanh: the paper's approximation")
    head_epochs: int = setting(1, "passes with everything but the head frozen, first", low=0)
    epochs: int = setting(5, "passes with all weights (lora: the adapters and the head) afterwards", low=0)
    batch_size: int = setting(32, "images per step of the optimiser", low=1)
    micro_batch: int = setting(0, "images at a time on the device, whose gradients add up; 0: the whole batch", low=0)
    optimiser: Literal["adamw", "radam"] = setting("adamw", "radam: the paper's, weight decay uncoupled in both")
    learning_rate: float = setting(2e-5, "largest step size below the head", low=0.0)
    head_learning_rate: float = setting(1e-3, "largest step size of the head", low=0.0)
    weight_decay: float = setting(0.01, "of matrices alone: norms, biases and the class token are left out", low=0.0)
    schedule: Literal["cosine", "constant"] = setting("cosine", "how the step size falls in the second stage")
    warmup: float = setting(0.05, "share of the second stage in which the step size rises from 0", low=0.0, high=1.0)
    gradient_clip: float = setting(1.0, "largest norm of the gradient; 0: no limit", low=0.0)
    dropout: float = setting(0.0, "in the transformer's blocks", low=0.0, high=0.9)
    label_smoothing: float = setting(0.2, "share of a hard target that is spread over all classes", low=0.0, high=0.99)
    alpha: float = setting(1.0, "share of the hard targets in the loss; the rest is the teacher's", low=0.0, high=1.0)
    temperature: float = setting(2.0, "T of the soft part, T² · KL(teacher_T ‖ student_T)", low=0.1, high=100.0)
    is_balanced: bool = setting(True, "weigh classes against their shares of the training part")
    is_shuffled: bool = setting(True, "a new order in every pass; else the order of the training rows")
    is_augmented: bool = setting(True, "mirror every second image and crop mildly, in training alone")
    crop_min: float = setting(0.8, "smallest share of the image's area that a crop keeps", low=0.1, high=1.0)
    trains_without_neutral: bool = setting(False, "two classes: the neutral output is left out of softmax and loss")
    scores_without_neutral: bool = setting(False, "the validation part is scored by the binary rule")
    select: Literal["macro_f1", "accuracy", "last"] = setting("macro_f1", "which weights are kept, by validation")
    validate_every: int = setting(0, "steps between validations, beside those at the end of a pass; 0: none", low=0)
    patience: int = setting(2, "stop after so many validations without a better one; 0: never", low=0)
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "of products; parameters stay in float32. auto: bfloat16 on a GPU, float32 on a CPU"
    )
    lora_rank: int = setting(16, "rank of the adapters", low=1)
    lora_alpha: int = setting(32, "scale of the adapters times their rank", low=1)
    lora_dropout: float = setting(0.0, "in front of the adapters", low=0.0, high=0.9)

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.head_epochs + self.epochs:
            raise ConfigError("head_epochs and epochs are both 0, expected at least one pass. Type: --set epochs=1")


# The published script of the paper's larger models: constant step size, no decay, no warm-up, the order of the list,
# no augmentation. The GELU of its head is TensorFlow Addons', whose default is the tanh form; the shape of the head,
# smoothing and class weights are the defaults above. Which weights were kept in the end is not said anywhere: the last
# ones here.
_PAPER: Mapping[str, Any] = {
    "image_px": 384,
    "gelu": "tanh",
    "optimiser": "radam",
    "learning_rate": 1e-4,
    "head_learning_rate": 1e-4,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup": 0.0,
    "gradient_clip": 0.0,
    "dropout": 0.1,
    "is_shuffled": False,
    "is_augmented": False,
    "select": "last",
    "patience": 0,
}
# The benchmarks' protocols start from a student and train all of it at once, on labels as they are.
_BENCHMARK: Mapping[str, Any] = {
    **_PAPER,
    "image_px": 0,
    "head_epochs": 0,
    "label_smoothing": 0.0,
    "is_balanced": False,
    "is_shuffled": True,
}
# Preset, or "preset@kind" laid over it -> settings.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "default@lora": {"learning_rate": 1e-4},
    "paper": _PAPER,
    "five_fold": {**_BENCHMARK, "epochs": 12, "trains_without_neutral": True},
    "fi_splits": {
        **_BENCHMARK,
        "epochs": 5,
        "select": "accuracy",
        "scores_without_neutral": True,
        "validate_every": 200,
    },
}


def resolve_recipe(kind: str, *, preset: str = "default", overrides: Mapping[str, Any] | None = None) -> FinetuneRecipe:
    """The recipe of a preset with changes; strings are parsed by the type of the setting.

    Raises
    ------
    ConfigError
        Unknown kind, preset or setting (with the nearest name), a value of the wrong type or out of range.

    Examples
    --------
    >>> resolve_recipe("lora", overrides={"epochs": "3"}).learning_rate
    0.0001
    """
    if kind not in KINDS:
        raise ConfigError.unknown("student", kind, KINDS, where="--student")
    if preset not in PRESETS or "@" in preset:
        raise ConfigError.unknown("preset", preset, [name for name in PRESETS if "@" not in name], where="--preset")
    values = {**PRESETS[preset], **PRESETS.get(f"{preset}@{kind}", {})}
    known = FinetuneRecipe.__dataclass_fields__
    for key, value in (overrides or {}).items():
        if key not in known:
            raise ConfigError.unknown("setting", key, known, where="--set")
        values[key] = parse_value(FinetuneRecipe, key, value)
    return FinetuneRecipe(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One image file: its pair's id, where it lies, and the SHA-256 of its bytes in hex ("": not compared)."""

    id: str
    path: Path
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An image that nothing was learned from or scored on: `reason` is a word of `data.images.REASONS` or "changed"."""

    id: str
    path: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinetuneRequest:
    """Everything that a fine-tuning is made of.

    Attributes
    ----------
    base
        A folder of transformers with a ViT in it, or a student folder of kind vit, whose head is trained on.
    classes
        int64 (N,): 0 negative, 1 neutral, 2 positive, one for each of `images`.
    probabilities
        float (N, 3) of the teacher, where the recipe's alpha is below 1.
    weights
        float (N,) on top of the class weights, such as the teacher's confidence; None: 1 everywhere.
    train_rows, val_rows
        int64 positions in `images`; no position in both. `val_rows` may be empty where the recipe selects "last".
    out
        Working folder: checkpoints, history.csv, steps.csv, left-out.csv, tensorboard/.
    checkpoint_every
        Steps between two checkpoints; changes no number of the result. 0: only with validations.
    resume
        Go on from the folder's checkpoint, if it has one; else a folder with a checkpoint is refused.
    find_left_out
        Gives the images that are of no use, these or more, where somebody looks at them for several trainings; asked
        only after everything else that can refuse. None: they are looked at here.
    """

    base: Path
    kind: Kind
    recipe: FinetuneRecipe
    images: Sequence[ImageRow]
    classes: npt.NDArray[np.int64]
    train_rows: npt.NDArray[np.int64]
    val_rows: npt.NDArray[np.int64]
    out: Path
    probabilities: npt.NDArray[np.float32] | None = None
    weights: npt.NDArray[np.float32] | None = None
    device: str = "cpu"
    seed: int = 0
    resume: bool = False
    find_left_out: Callable[[], tuple[LeftOut, ...]] | None = None
    checkpoint_every: int = 500
    log_every: int = 50
    writes_tensorboard: bool = False
    loader_threads: int = 0  # 0: one for each processor, at most 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finetuned:
    """A fine-tuned student and how it came about.

    Attributes
    ----------
    vit_config, head_config, processor
        For config.json (`vit` and `head`) and preprocessor_config.json of a student folder.
    resize
        Of config.json: the one of the base, which the images of the training were resized by.
    tensors
        float32, `vit.*` in transformers' names of ViTModel without a pooler and `head.*`; adapters are merged.
    history
        One row per validation (without any: per pass), as in history.csv.
    best
        The row of the history whose weights these are.
    val_logits
        float32 (V, 3) of the kept weights for `val_rows` less those left out; for a temperature.
    val_rows
        int64 (V,), positions in the request's images.
    """

    vit_config: Mapping[str, Any]
    head_config: Mapping[str, Any]
    processor: Mapping[str, Any]
    resize: str
    tensors: Mapping[str, npt.NDArray[np.float32]]
    history: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any]
    left_out: tuple[LeftOut, ...]
    val_logits: npt.NDArray[np.float32]
    val_rows: npt.NDArray[np.int64]
    notes: Mapping[str, Any] = field(default_factory=dict)  # precision, weights trained, seconds, images per second
