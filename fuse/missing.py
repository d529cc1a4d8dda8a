"""What a trained head is worth when texts or images are missing: its own way with gaps beside filling them up.

Pairs lose a modality by a number drawn from seed and id: whoever lacks it at one rate lacks it at every higher rate.
Learns nothing; the features on disk stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentifuse import ConfigError
from sentifuse.data.groups import read_groups
from sentifuse.fuse.evaluate import OpenedPart, open_part
from sentifuse.fuse.features.batches import Batch, BatchSource
from sentifuse.fuse.features.requests import FieldRequest
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.measure.statistics import bootstrap
from sentifuse.fuse.run import RunDirectory

# Shapes: N pairs of a part, B pairs of a batch, D a feature's width.

KINDS = ("text", "image", "random")  # random: of each pair chosen, one of the two, by lot
FILLINGS = ("own", "zero", "mean", "unimodal")
RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MODALITIES = ("text", "image")
MODALITY = {"tokens": "text", "teacher": "text", "regions": "image", "context": "image", "crowd": "image"}
BATCH = 128

Change = Callable[[Batch], Batch]
Array = np.ndarray[Any, np.dtype[Any]]


def evaluate_missing(
    run: Path | RunDirectory,
    *,
    missing: str,
    rates: Sequence[float] = RATES,
    fillings: Sequence[str] = FILLINGS,
    split: str = "test",
    seed: int = 0,
    artifacts: Path | None = None,
    device: str = "auto",
    reader: str = "mmap",
) -> list[dict[str, Any]]:
    """Metrics of a run by rate and filling, one row each.

    Parameters
    ----------
    missing
        "text", "image" or "random".
    rates
        Shares of the pairs that lack it, from 0 to 1.
    fillings
        own: masks say that nothing is there, and the head does what it does. zero, mean: a sequence of one element, or
        a vector, of zeros or of the training part's mean, given as real. unimodal: the head's classifier of what is
        left, where its details have `text_logits` and `image_logits`; otherwise this filling has no rows.
    seed
        Of the draw of pairs; it does not depend on the run.

    Returns
    -------
    list
        missing, rate, filling, n, n_missing, accuracy, f1_weighted, f1_macro, balanced_accuracy; accuracy_low,
        accuracy_high: the ends of its 95 % interval, None where they cannot be told.

    Raises
    ------
    ConfigError
        An unknown kind or filling, a rate out of range, or a field whose modality is not known.
    """
    _check(missing, rates, fillings)
    part = open_part(run, split, artifacts=artifacts, device=device, reader=reader)
    part.run.count_evaluation(split)
    sides = np.array([missing_side(id_, missing, seed) for id_ in part.samples.ids])
    draws = np.array([draw(id_, seed) for id_ in part.samples.ids])
    known = read_groups(part.dataset_dir) if part.is_grouped else {}
    groups = [known[id_] for id_ in part.samples.ids] if part.is_grouped else None
    sides_lost = MODALITIES if missing == "random" else (missing,)
    predicted = predict_by_filling(part, fillings, sides_lost, reader=reader)
    rows = []
    for rate in rates:
        is_missing = draws < rate
        for filling, answers in predicted.items():
            chosen = answers[""].copy()
            for side in answers.keys() - {""}:
                rows_of_side = is_missing & (sides == side)
                chosen[rows_of_side] = answers[side][rows_of_side]
            metrics = score(part.samples.labels, chosen, part.run.classes)
            kept = ("n", "accuracy", "f1_weighted", "f1_macro", "balanced_accuracy")
            found = {"missing": missing, "rate": float(rate), "filling": filling, "n_missing": int(is_missing.sum())}
            k = len(part.run.classes)
            ends = bootstrap(part.samples.labels, chosen, k, groups=groups, measures=("accuracy",))["accuracy"]
            found |= {name: metrics[name] for name in kept}
            rows.append(found | {"accuracy_low": ends.low, "accuracy_high": ends.high})
    return rows


def draw(id_: str, seed: int) -> float:
    """A pair's number in [0, 1): it lacks a modality at every rate above it.

    >>> 0.0 <= draw("4711", 0) < 1.0 and draw("4711", 0) != draw("4711", 1)
    True
    """
    return _number(f"{seed}:missing:{id_}")


def missing_side(id_: str, missing: str, seed: int) -> str:
    """Which modality a pair loses, if it loses one."""
    if missing != "random":
        return missing
    return MODALITIES[int(_number(f"{seed}:side:{id_}") * len(MODALITIES))]


def modality_of(request: FieldRequest) -> str:
    """ "text" or "image".

    Raises
    ------
    ConfigError
        Nobody said what this encoder reads.
    """
    found = request.field if request.encoder == "clip" else MODALITY.get(request.encoder)
    if found not in MODALITIES:
        raise ConfigError(
            f"--missing: expected to know whether {request.key} is of the text or of the image, found nothing about "
            f"it. Encoders known here: {', '.join(MODALITY)}, clip"
        )
    return found


def predict_by_filling(
    part: OpenedPart, fillings: Sequence[str], sides: Sequence[str], *, reader: str = "mmap"
) -> dict[str, dict[str, Array]]:
    """filling -> what is missing of every pair ("": nothing) -> (N,) predicted classes.

    A pair's answer does not depend on the others, so each is asked once per filling and side, whatever the rate.
    """
    complete, _ = _predict(part, lambda batch: batch)
    result: dict[str, dict[str, Array]] = {}
    means = training_means(part, reader=reader) if "mean" in fillings else {}
    for side in sides:
        keys = [request.key for request in part.source.requests if modality_of(request) == side]
        own, of_classifier = _predict(part, partial(without, keys=keys))
        answers = {"own": own, "unimodal": of_classifier.get("image_logits" if side == "text" else "text_logits")}
        for filling, given in (("zero", {}), ("mean", means)):
            if filling in fillings:
                answers[filling], _ = _predict(part, partial(filled, keys=keys, means=given))
        for filling in fillings:
            if (found := answers[filling]) is not None:
                result.setdefault(filling, {"": complete})[side] = found
    return result


def without(batch: Batch, keys: Sequence[str]) -> Batch:
    """The batch as if these fields had no value: masks False, numbers zero."""
    values, masks = dict(batch.values), dict(batch.masks)
    for key in keys:
        values[key], masks[key] = torch.zeros_like(values[key]), torch.zeros_like(masks[key])
    return replace(batch, values=values, masks=masks)


def filled(batch: Batch, keys: Sequence[str], means: Mapping[str, torch.Tensor]) -> Batch:
    """These fields with one vector for all pairs, given as real: the mean (D,), or zeros where there is none.

    A sequence gets one element, so that the length of what is missing tells nothing.
    """
    values, masks = dict(batch.values), dict(batch.masks)
    for key in keys:
        value, mask = values[key], masks[key]
        filling = (
            means[key].to(value) if key in means else torch.zeros_like(value[0] if mask.dim() == 1 else value[0, 0])
        )
        shape = (len(batch), *(1 for _ in range(mask.dim() - 1)))
        values[key] = filling.expand(*shape, *filling.shape).clone()
        masks[key] = torch.ones(shape, dtype=torch.bool, device=mask.device)
    return replace(batch, values=values, masks=masks)


def training_means(part: OpenedPart, *, reader: str = "mmap") -> dict[str, torch.Tensor]:
    """The mean over all real elements of every field in the training part, by key."""
    device = str(part.source.device)
    source = open_part(part.run, "train", artifacts=part.artifacts, device=device, reader=reader).source
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    for _, batch in source.batches(BATCH):
        for key, mask in batch.masks.items():
            real = batch.values[key][mask].double()
            sums[key] = sums[key] + real.sum(0) if key in sums else real.sum(0)
            counts[key] = counts.get(key, 0) + len(real)
    return {key: total / max(1, counts[key]) for key, total in sums.items()}


def _predict(part: OpenedPart, change: Change) -> tuple[Array, dict[str, Array]]:
    """(N,) predicted classes of the changed pairs, and those of the head's unimodal classifiers by name."""
    source: BatchSource = part.source
    predicted = np.zeros(len(source), dtype=np.int64)
    others: dict[str, Array] = {}
    part.head.eval()
    with torch.no_grad():
        for rows, batch in source.batches(BATCH):
            output = part.head(change(batch.to(source.device)))
            predicted[rows] = output.logits.argmax(-1).cpu().numpy()
            for name in ("text_logits", "image_logits"):
                if name in output.details:
                    others.setdefault(name, np.zeros_like(predicted))[rows] = (
                        output.details[name].argmax(-1).cpu().numpy()
                    )
    return predicted, others


def _check(missing: str, rates: Sequence[float], fillings: Sequence[str]) -> None:
    if missing not in KINDS:
        raise ConfigError.unknown("kind", missing, KINDS, where="--missing")
    for filling in fillings:
        if filling not in FILLINGS:
            raise ConfigError.unknown("filling", filling, FILLINGS)
    for rate in rates:
        if not 0.0 <= rate <= 1.0:
            raise ConfigError(f"--rates: expected shares from 0 to 1, found {rate}")


def _number(text: str) -> float:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") / 2.0**64
