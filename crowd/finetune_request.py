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
from sentifuse.crowd.checkpoints import plain
from sentifuse.crowd.finetune_loss import CLASSES, NEUTRAL
from sentifuse.crowd.finetune_recipe import KINDS, FinetuneRecipe, FinetuneRequest
from sentifuse.crowd.vit_network import Base

__all__ = ["check_parts", "check_request", "identity_of"]

IntArray = npt.NDArray[np.int64]

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
    if request.classes.shape != (count,) or not np.isin(request.classes, range(len(CLASSES))).all():
        raise DataError(
            f"fine-tuning: expected one class (0, 1 or 2) for each of {count} images, found "
            f"{request.classes.shape} with {sorted(set(request.classes.ravel().tolist()))[:5]}"
        )
    _check_probabilities(request, count)
    weights = request.weights
    if weights is not None and (weights.shape != (count,) or not np.isfinite(weights).all() or (weights < 0).any()):
        raise DataError(f"fine-tuning: expected {count} finite weights of at least 0, found shape {weights.shape}")
    if weights is not None and len(request.train_rows) and not weights[request.train_rows].any():
        raise DataError("fine-tuning: every training image has weight 0, expected some above. Leave --weights out")
    rows = np.concatenate([request.train_rows, request.val_rows])
    if len(rows) and (rows.min() < 0 or rows.max() >= count or len(np.unique(rows)) != len(rows)):
        raise DataError(
            f"fine-tuning: expected rows from 0 to {count - 1}, each in one part and once, found others or repetitions"
        )
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


def identity_of(request: FinetuneRequest, base: Base, precision: str) -> dict[str, Any]:
    """Everything that fixes the numbers of a training, in plain values; files' places and devices do not."""
    images = hashlib.sha256()
    for image in request.images:
        images.update(f"{image.id}\0{image.digest or image.path}\0".encode("utf-8", "surrogateescape"))
    arrays = hashlib.sha256()
    for name in ("classes", "probabilities", "weights", "train_rows", "val_rows"):
        array = getattr(request, name)
        arrays.update(f"{name}\0".encode() + (b"none" if array is None else np.ascontiguousarray(array).tobytes()))
    recipe = {f"recipe.{key}": value for key, value in asdict(request.recipe).items() if key != "precision"}
    found = {
        "kind": request.kind,
        "seed": request.seed,
        "base": base.digest,
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


def _check_probabilities(request: FinetuneRequest, count: int) -> None:
    shares = request.probabilities
    if shares is None:
        if request.recipe.targets == "soft":
            raise ConfigError("targets = soft needs the teacher's probabilities, found none. Type: --set targets=hard")
        return
    if shares.shape != (count, len(CLASSES)):
        raise DataError(f"fine-tuning: expected probabilities of shape ({count}, 3), found {shares.shape}")
    is_odd = ~np.isfinite(shares).all(1) | (shares < 0).any(1) | (np.abs(shares.sum(1) - 1) > 1e-2)
    if is_odd.any():
        odd = [request.images[row].id for row in np.flatnonzero(is_odd)[:10].tolist()]
        raise DataError(
            f"fine-tuning: expected three probabilities that add up to 1, found others for {int(is_odd.sum())} images: "
            f"{some(odd)}"
        )
