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
from sentifuse.cache.reader import FeatureReader
from sentifuse.data.groups import read_groups
from sentifuse.fuse.evaluate import OpenedPart, open_part
from sentifuse.fuse.features.batches import Batch, BatchSource
from sentifuse.fuse.features.requests import FieldRequest
from sentifuse.fuse.features.samples import OpenReader
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
    kinds: Sequence[str],
    rates: Sequence[float] = RATES,
    fillings: Sequence[str] = FILLINGS,
    split: str = "test",
    seed: int = 0,
    artifacts: Path | None = None,
    device: str = "auto",
    reader: str = "mmap",
    open_reader: OpenReader = FeatureReader,
) -> list[dict[str, Any]]:
    """Metrics of a run by kind, rate and filling, one row each. The part is opened, and counted, once.

    Parameters
    ----------
    kinds
        What is missing: of "text", "image" and "random".
    rates
        Shares of the pairs that lack it, from 0 to 1.
    fillings
        own: masks say that nothing is there, and the head does what it does. zero, mean: a sequence of one element, or
        a vector, of zeros or of the training part's mean, given as real. unimodal: the head's classifier of what is
        left, where its details have `text_logits` and `image_logits`; otherwise this filling has no rows.
    seed
        Of the draw of pairs; it does not depend on the run.
    reader, open_reader
        As of `evaluate`.

    Returns
    -------
    list
        missing (the kind), rate, filling, n, n_missing, accuracy, f1_weighted, f1_macro, balanced_accuracy;
        accuracy_low, accuracy_high: the ends of its 95 % interval, None where they cannot be told.

    Raises
    ------
    ConfigError
        An unknown kind or filling, a rate out of range, or a field whose modality is not known.
    """
    _check(kinds, rates, fillings)
    part = open_part(run, split, artifacts=artifacts, device=device, reader=reader, open_reader=open_reader)
    part.run.count_evaluation(split)
    sides_lost = MODALITIES if "random" in kinds else tuple(dict.fromkeys(kinds))
    predicted = predict_by_filling(part, fillings, sides_lost, reader=reader)
    known = read_groups(part.dataset_dir) if part.is_grouped else {}
    groups = [known[id_] for id_ in part.samples.ids] if part.is_grouped else None
    draws = np.array([draw(id_, seed) for id_ in part.samples.ids])
    rows = []
    for kind in kinds:
        sides = np.array([missing_side(id_, kind, seed) for id_ in part.samples.ids])
        for rate in rates:
            lost = np.where(draws < rate, sides, "")
            for filling, answers in predicted.items():
                chosen = np.select([lost == side for side in answers], list(answers.values()))
                found = {"missing": kind, "rate": float(rate), "filling": filling, "n_missing": int((lost != "").sum())}
                rows.append(found | _score(part, chosen, groups))
    return rows


def _score(part: OpenedPart, predicted: Array, groups: Sequence[str] | None) -> dict[str, Any]:
    labels, classes = part.samples.labels, part.run.classes
    metrics = score(labels, predicted, classes)
    ends = bootstrap(labels, predicted, len(classes), groups=groups, measures=("accuracy",))["accuracy"]
    kept = ("n", "accuracy", "f1_weighted", "f1_macro", "balanced_accuracy")
    return {name: metrics[name] for name in kept} | {"accuracy_low": ends.low, "accuracy_high": ends.high}


def draw(id_: str, seed: int) -> float:
    """A pair's number in [0, 1): it lacks a modality at every rate above it.

    >>> 0.0 <= draw("4711", 0) < 1.0 and draw("4711", 0) != draw("4711", 1)
    True
    """
    return _number(f"{seed}:missing:{id_}")


def missing_side(id_: str, kind: str, seed: int) -> str:
    """Which modality a pair loses, if it loses one."""
    if kind != "random":
        return kind
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
    return {filling: answers for filling, answers in result.items() if answers.keys() >= {*sides}}


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


def _check(kinds: Sequence[str], rates: Sequence[float], fillings: Sequence[str]) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError.unknown("kind", kind, KINDS, where="--missing")
    for filling in fillings:
        if filling not in FILLINGS:
            raise ConfigError.unknown("filling", filling, FILLINGS)
    for rate in rates:
        if not 0.0 <= rate <= 1.0:
            raise ConfigError(f"--rates: expected shares from 0 to 1, found {rate}")


def _number(text: str) -> float:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") / 2.0**64
