"""In which order a classifier gives negative, neutral and positive: read from its own config, never assumed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sentifuse.data.source import SENTIMENT
from sentifuse.extract.encoder import Array
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import LocatedModel

__all__ = ["CLASSES", "class_columns", "probabilities"]

CLASSES = SENTIMENT
SHORT = {"neg": "negative", "neu": "neutral", "pos": "positive"}


def class_columns(model: LocatedModel, labels: tuple[str, ...]) -> tuple[int, ...]:
    """The model's output columns for negative, neutral, positive.

    Parameters
    ----------
    labels
        The classes in the model's own order, when the user says so; empty: config.json's ``id2label`` is read.

    Raises
    ------
    ModelMismatch
        A weights file; names that do not say it (LABEL_0), other classes, or another number of them.
    """
    if not model.config:
        raise ModelMismatch(f"{model.source}: a weights file, expected a transformers folder with its config.json")
    names = list(labels) or _configured(model.config)
    found = [SHORT.get(name.strip().lower(), name.strip().lower()) for name in names]
    if sorted(found) != sorted(CLASSES):
        way = 'If you know the order of its outputs, give it: labels = ["negative", "neutral", "positive"]'
        raise ModelMismatch(
            f"{model.source}: its classes are {', '.join(names) or 'not named'}, expected {', '.join(CLASSES)}. {way}"
        )
    outputs = len(_configured(model.config))
    if outputs and outputs != len(found):
        raise ModelMismatch(f"{model.source}: it has {outputs} outputs, expected {len(CLASSES)}")
    return tuple(found.index(name) for name in CLASSES)


def probabilities(logits: Array, columns: tuple[int, ...]) -> Array:
    """Softmax over the model's own logits (B, K), columns in canonical order; float32 (B, 3).

    Always a softmax: a config may ask for one sigmoid per class ("multi_label_classification"), whose scores do not sum
    to one, and copies of the usual teacher do.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    share = weights / weights.sum(axis=1, keepdims=True)
    ordered: Array = share[:, list(columns)].astype(np.float32)
    return ordered


def _configured(config: Mapping[str, Any]) -> list[str]:
    names = config.get("id2label")
    if not isinstance(names, dict):
        return [f"LABEL_{i}" for i in range(int(config.get("num_labels", 2)))]
    return [str(names[key]) for key in sorted(names, key=int)]
