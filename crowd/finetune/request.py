"""Refusal of a fine-tuning that cannot be meant, before a weight is loaded; and what tells one training from another.

Looks at arrays and settings. Reads no image.
"""

import hashlib
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError, DataError, TrainingError
from sentifuse.crowd.finetune.checkpoints import plain
from sentifuse.crowd.finetune.network import Base
from sentifuse.crowd.finetune.recipe import KINDS, FinetuneRecipe, FinetuneRequest
from sentifuse.crowd.targets import CLASSES, NEUTRAL, Targets, row_weights

__all__ = ["check_parts", "check_request", "identity_of", "targets_of"]

IntArray = npt.NDArray[np.int64]

FREE = ("precision", "micro_batch")  # of a recipe: the precision stands apart, as what "auto" came to

# Shapes: N images of a request.


def check_request(request: FinetuneRequest) -> None:
    """Kinds, shapes and values of a request.

    Raises
    ------
    ConfigError
        Settings that contradict each other or the request.
    DataError
        Arrays of another length than the images, classes or probabilities out of range, rows in both parts.
    """
    recipe, count = request.recipe, len(request.images)
    if request.kind not in KINDS:
        raise ConfigError.unknown("student", request.kind, KINDS, where="--student")
    targets = targets_of(request)
    targets.check(alpha=recipe.alpha, names=[image.id for image in request.images])
    rows = np.concatenate([request.train_rows, request.val_rows])
    if len(rows) and (rows.min() < 0 or rows.max() >= count or len(np.unique(rows)) != len(rows)):
        raise DataError(
            f"fine-tuning: expected rows from 0 to {count - 1}, each in one part and once, found others or repetitions"
        )
    if len(request.train_rows):
        row_weights(targets, request.train_rows, is_balanced=recipe.is_balanced)
    if recipe.select != "last" and not len(request.val_rows):
        raise ConfigError(
            f"select = {recipe.select} needs validation images, found none. Type: --set select=last, or set some aside"
        )


def check_parts(recipe: FinetuneRecipe, classes: IntArray, train_rows: IntArray, val_rows: IntArray) -> None:
    """Refuse parts that nothing can be learned from or judged by, after unreadable images were left out.

    Raises
    ------
    TrainingError
        A class without an image in the training part; a validation part without an image.
    DataError
        A neutral image where the recipe leaves the neutral class out.
    """
    counts = np.bincount(classes[train_rows], minlength=len(CLASSES))
    is_binary = recipe.trains_without_neutral or recipe.scores_without_neutral
    needed = [i for i in range(len(CLASSES)) if not (is_binary and i == NEUTRAL)]
    empty = [CLASSES[i] for i in needed if not counts[i]]
    if empty:
        found = ", ".join(f"{name} {n}" for name, n in zip(CLASSES, counts.tolist(), strict=True))
        raise TrainingError(
            f"the training part has no usable image of class {', '.join(empty)} (found: {found}). "
            "Lower that class's threshold in `sentifuse distil filter`, or see left-out.csv"
        )
    if recipe.select != "last" and not len(val_rows):
        raise TrainingError("the validation part has no usable image left. See left-out.csv")
    neutral_rows = {
        "training": train_rows if recipe.trains_without_neutral else train_rows[:0],
        "validation": val_rows if is_binary else val_rows[:0],
    }
    for part, rows in neutral_rows.items():
        neutral = int((classes[rows] == NEUTRAL).sum())
        if neutral:
            raise DataError(
                f"the {part} part has {neutral} neutral images, expected none with "
                f"{'trains' if part == 'training' else 'scores'}_without_neutral. Leave them out"
            )


def targets_of(request: FinetuneRequest) -> Targets:
    """What is known of the images, as one value."""
    return Targets(classes=request.classes, probabilities=request.probabilities, weights=request.weights)


def identity_of(request: FinetuneRequest, base: Base, precision: str) -> dict[str, Any]:
    """Everything that fixes the numbers of a training, in plain values.

    Files' places and devices do not, nor how many images are on the device at a time: that changes rounding alone, and
    is what a training that ran out of memory goes on with.
    """
    images = hashlib.sha256()
    for image in request.images:
        images.update(f"{image.id}\0{image.digest or image.path}\0".encode("utf-8", "surrogateescape"))
    arrays = hashlib.sha256()
    for name in ("classes", "probabilities", "weights", "train_rows", "val_rows"):
        array = getattr(request, name)
        arrays.update(f"{name}\0".encode() + (b"none" if array is None else np.ascontiguousarray(array).tobytes()))
    recipe = {f"recipe.{key}": value for key, value in asdict(request.recipe).items() if key not in FREE}
    found = {
        "kind": request.kind,
        "seed": request.seed,
        "base": base.digest,
        "resize": base.resize,
        "images": images.hexdigest()[:16],
        "targets and parts": arrays.hexdigest()[:16],
        "precision": precision,
    }
    identity: dict[str, Any] = plain(found | recipe)
    return identity


def some(ids: Collection[str], shown: int = 10) -> str:
    """Ids for a message, the first ones by name.

    >>> some(["a", "b", "c"], 2)
    'a, b, … (3 in all)'
    """
    names = list(ids)[:shown]
    return ", ".join(names) + (f", … ({len(ids)} in all)" if len(ids) > shown else "")
