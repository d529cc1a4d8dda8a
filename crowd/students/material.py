"""What a student is trained on: which images, with which targets, in which part; and what is left out, by name.

Joins the kept pseudo-labels, or the labels that people gave to images, with the manifest and a split. Reads no image
and no feature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError, DataError, TrainingError
from sentifuse.crowd.labels.kept import Kept, read_kept
from sentifuse.crowd.labels.pseudo_labels import read_pseudo_labels
from sentifuse.crowd.targets import CLASSES, Targets, class_counts
from sentifuse.data.card import read_card
from sentifuse.data.labels import read_labels
from sentifuse.data.manifest import Manifest, read_manifest
from sentifuse.data.prepare import dataset_dir
from sentifuse.data.splits import read_split, read_split_facts

__all__ = ["LABELS", "VALIDATE", "WEIGHTS", "Material", "MaterialRequest", "read_material", "read_parts"]

LABELS = ("pseudo", "image_label")
VALIDATE = ("teacher", "gold")
WEIGHTS = ("none", "confidence")
PARTS = ("train", "val")

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

# Shapes: N images of the material, K = 3 classes.


@dataclass(frozen=True, slots=True, kw_only=True)
class MaterialRequest:
    """Which labels of which images.

    Attributes
    ----------
    label
        "pseudo": the kept set `kept`; "image_label": what people said of the image alone, for comparison.
    validate
        Who labels the validation part: the teacher, or people (their `image_label`).
    weights
        "confidence": an image counts by how sure its teacher is.
    protocol, split_seed, fold, rule
        A split of the dataset whose training and validation parts alone are used, so that its test part stays unseen.
        `protocol` None: the kept set's own two parts of all its pairs; with labels by people the dataset's protocol.
    """

    artifacts: Path
    dataset: str
    label: str = "pseudo"
    kept: str = "default"
    validate: str = "teacher"
    weights: str = "none"
    protocol: str | None = None
    split_seed: int = 0
    fold: int = 0
    rule: str | None = None

    def check(self) -> None:
        """Refuse words that are none of ours, and what cannot be together."""
        for name, value, known in (
            ("--label", self.label, LABELS),
            ("--validate", self.validate, VALIDATE),
            ("--weights", self.weights, WEIGHTS),
        ):
            if value not in known:
                raise ConfigError.unknown("word", value, known, where=name)
        if self.label == "image_label" and self.weights == "confidence":
            raise ConfigError(
                "--weights confidence: expected a teacher's labels, found --label image_label. Leave it out"
            )

    @property
    def uses_split(self) -> bool:
        return self.protocol is not None or self.label == "image_label" or self.validate == "gold"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """N images with targets and parts.

    Attributes
    ----------
    ids, digests
        Of the pairs and of their images' bytes.
    train_rows, val_rows
        int64 positions.
    gold_seen
        Ids of pairs whose human label was used, by the teacher or here.
    gold_elsewhere
        Other dataset -> id -> SHA-256 of the image: pairs whose human label the teacher knows.
    left_out
        id -> why a pair with a label is not among the N.
    about
        Plain values for student.json: where all this comes from.
    """

    ids: tuple[str, ...]
    digests: tuple[str, ...]
    targets: Targets
    train_rows: IntArray
    val_rows: IntArray
    gold_seen: tuple[str, ...]
    left_out: Mapping[str, str]
    about: Mapping[str, Any]
    manifest: Manifest
    gold_elsewhere: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def without(self, reasons: Mapping[str, str]) -> "Material":
        """The same without these ids, which are left out for these reasons."""
        if not reasons:
            return self
        kept = np.array([id_ not in reasons for id_ in self.ids], dtype=bool)
        place = np.cumsum(kept) - 1
        rows = np.flatnonzero(kept)
        targets = self.targets
        return replace(
            self,
            ids=tuple(self.ids[i] for i in rows),
            digests=tuple(self.digests[i] for i in rows),
            targets=Targets(
                classes=targets.classes[rows],
                probabilities=None if targets.probabilities is None else targets.probabilities[rows],
                weights=None if targets.weights is None else targets.weights[rows],
            ),
            train_rows=place[self.train_rows[kept[self.train_rows]]],
            val_rows=place[self.val_rows[kept[self.val_rows]]],
            left_out={**self.left_out, **reasons},
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Part -> class -> images."""
        rows = {"train": self.train_rows, "val": self.val_rows}
        return {part: class_counts(self.targets.classes[chosen]) for part, chosen in rows.items()}


def read_material(request: MaterialRequest) -> Material:
    """Everything a student learns from and is chosen by.

    Raises
    ------
    ConfigError
        Unknown words, protocol, rule or fold.
    DataError
        The dataset is not prepared, or the kept set is not there; the message has the command to type.
    TrainingError
        A part without an image.
    """
    request.check()
    folder = dataset_dir(request.artifacts, request.dataset)
    manifest = read_manifest(folder)
    split = read_parts(request, PARTS)  # the test part is never read
    gold = _read_gold(request, folder)
    kept = None if request.label == "image_label" else read_kept(request.artifacts, request.dataset, request.kept)
    if kept is None:
        chosen = {part: [id_ for id_ in split[part] if id_ in gold] for part in PARTS}
    else:
        chosen = _parts_of(kept)
        if request.uses_split:
            chosen = {part: [id_ for id_ in kept.ids if id_ in split[part]] for part in PARTS}
        if request.validate == "gold":
            chosen["val"] = [id_ for id_ in split["val"] if id_ in gold]
    chosen, left_out = _with_image(chosen, manifest)
    for part, ids in chosen.items():
        if not ids:
            way = "or leave --protocol out" if request.uses_split else "or a larger part of them, --val-share 0.1"
            raise TrainingError(
                f"{request.dataset}: expected images in the {part} part, found none "
                f"({len(left_out):,} left out for want of their image). Keep more: sentifuse distil filter, {way}"
            )
    return _build(request, folder, manifest, kept, split, gold, chosen, left_out)


def _build(
    request: MaterialRequest,
    folder: Path,
    manifest: Manifest,
    kept: Kept | None,
    split: Mapping[str, Sequence[str]],
    gold: Mapping[str, int],
    chosen: Mapping[str, Sequence[str]],
    left_out: Mapping[str, str],
) -> Material:
    ids = (*chosen["train"], *chosen["val"])
    pairs = manifest.by_id()
    train_rows = np.arange(len(chosen["train"]), dtype=np.int64)
    val_rows = np.arange(len(train_rows), len(ids), dtype=np.int64)
    by_people = kept is None or request.validate == "gold"
    about: dict[str, Any] = {"dataset": request.dataset, "label": request.label, "weights": request.weights}
    about["validate"] = "gold" if by_people else "teacher"
    probabilities: FloatArray | None = None
    gold_seen: set[str] = set()
    gold_elsewhere: dict[str, Mapping[str, str]] = {}
    if kept is None:
        classes = np.array([gold[id_] for id_ in ids], dtype=np.int64)
        gold_seen.update(ids)
    else:
        classes, probabilities = _of_kept(kept, ids, gold)
        seen, gold_elsewhere = _seen_by_teacher(request, kept)
        gold_seen.update(seen)
        about |= {"kept": request.kept, "kept_from": _without_report(kept.metadata)}
        if request.validate == "gold":
            classes[val_rows] = [gold[ids[row]] for row in val_rows.tolist()]
            gold_seen.update(chosen["val"])
    weights = None
    if request.weights == "confidence" and probabilities is not None:
        weights = probabilities.max(1)
    if request.uses_split:
        about["split"] = _about_split(request, folder)
        about["gold_seen_outside"] = len(gold_seen.difference(*split.values()))
    return Material(
        ids=ids,
        digests=tuple(pairs[id_].image_digest for id_ in ids),
        targets=Targets(classes=classes, probabilities=probabilities, weights=weights),
        train_rows=train_rows,
        val_rows=val_rows,
        gold_seen=tuple(sorted(gold_seen)),
        left_out=left_out,
        about=about,
        manifest=manifest,
        gold_elsewhere=gold_elsewhere,
    )


def _of_kept(kept: Kept, ids: Sequence[str], gold: Mapping[str, int]) -> tuple[IntArray, FloatArray]:
    """Classes and shares of `ids`."""
    row_of = {id_: row for row, id_ in enumerate(kept.ids)}
    classes = np.empty(len(ids), dtype=np.int64)
    shares = np.empty((len(ids), len(CLASSES)), dtype=np.float32)
    for place, id_ in enumerate(ids):
        row = row_of.get(id_)
        # A validation image that people labelled need not be kept; nothing is learned from its shares.
        classes[place] = gold[id_] if row is None else kept.classes[row]
        shares[place] = np.eye(len(CLASSES))[gold[id_]] if row is None else kept.probabilities[row]
    return classes, shares


def _seen_by_teacher(request: MaterialRequest, kept: Kept) -> tuple[set[str], dict[str, Mapping[str, str]]]:
    """Whose human label the teacher knows, kept or not, here and in other datasets.

    All of them: a label that the teacher learned from speaks through what it says of other pairs.
    """
    source = kept.metadata["labels"]
    labels = read_pseudo_labels(request.artifacts, request.dataset, source["name"])
    if labels.digest != source["digest"]:
        raise DataError(
            f"{request.dataset}: kept set {request.kept} was filtered from other labels {source['name']!r} than lie "
            f"there now. Type: sentifuse distil filter --dataset {request.dataset}"
        )
    seen = {id_ for id_, is_seen in zip(labels.ids, labels.gold_seen.tolist(), strict=True) if is_seen}
    seen |= {id_ for id_, is_seen in zip(kept.ids, kept.gold_seen.tolist(), strict=True) if is_seen}
    elsewhere = dict(labels.gold_pairs)
    return seen | {*elsewhere.pop(request.dataset, {})}, elsewhere


def _without_report(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Where a kept set comes from; its report stays with it."""
    return {key: value for key, value in metadata.items() if key != "report"}


def _parts_of(kept: Kept) -> dict[str, list[str]]:
    return {part: [id_ for id_, found in zip(kept.ids, kept.split, strict=True) if found == part] for part in PARTS}


def read_parts(request: MaterialRequest, parts: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Part -> ids of the split asked for; without one, every part is empty."""
    if not request.uses_split:
        return dict.fromkeys(parts, ())
    return read_split(
        dataset_dir(request.artifacts, request.dataset),
        protocol=request.protocol,
        seed=request.split_seed,
        rule=request.rule,
        fold=request.fold,
        parts=parts,
    )


def _about_split(request: MaterialRequest, folder: Path) -> dict[str, Any]:
    facts = read_split_facts(
        folder, protocol=request.protocol, seed=request.split_seed, rule=request.rule, fold=request.fold
    )
    names = ("protocol", "rule", "seed", "fold", "digest")
    return {name: getattr(facts, name) for name in names}


def _read_gold(request: MaterialRequest, folder: Path) -> dict[str, int]:
    """id -> class that people gave to the image; nothing where nobody asks."""
    if request.label == "pseudo" and request.validate == "teacher":
        return {}
    card = read_card(folder)
    if set(card.classes) != set(CLASSES):
        raise DataError(f"{folder}: classes are {', '.join(card.classes)}, expected {', '.join(CLASSES)}")
    found = read_labels(folder, request.rule).by_id("image_label")
    if not found:
        raise DataError(
            f"{folder}: expected labels of images by people, found none: its source labels pairs or texts alone. "
            "Type: --label pseudo --validate teacher"
        )
    return {id_: CLASSES.index(name) for id_, name in found.items()}


def _with_image(chosen: Mapping[str, Sequence[str]], manifest: Manifest) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Pairs whose image the manifest has; why the others are left out."""
    pairs = manifest.by_id()
    found: dict[str, list[str]] = {}
    left_out: dict[str, str] = {}
    for part, ids in chosen.items():
        found[part] = []
        for id_ in ids:
            pair = pairs.get(id_)
            if pair is None:
                left_out[id_] = "not in the manifest"
            elif not pair.image_digest:
                left_out[id_] = f"image: {pair.image_status}"
            else:
                found[part].append(id_)
    return found, left_out
