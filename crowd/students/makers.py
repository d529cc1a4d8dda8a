"""How a student of each kind is made of a part of the material: a probe on cached vectors, a transformer on images.

A maker is asked once for each fold. Writes no student folder.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sentifuse import CacheError, ConfigError
from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.finetune.checkpoints import TensorFile
from sentifuse.crowd.finetune.images import default_threads, find_left_out
from sentifuse.crowd.finetune.job import finetune, remove_checkpoint
from sentifuse.crowd.finetune.network import read_base
from sentifuse.crowd.finetune.recipe import FinetuneRecipe, FinetuneRequest, ImageRow, Kind, LeftOut
from sentifuse.crowd.students.base import ProbeBase, check_feature, find_base
from sentifuse.crowd.students.embeddings import CachedEmbeddings
from sentifuse.crowd.students.material import Material
from sentifuse.crowd.students.probe import train_probe
from sentifuse.crowd.students.probe_recipe import ProbeRecipe
from sentifuse.crowd.students.temperature import fit_temperature
from sentifuse.crowd.targets import refuse_absent
from sentifuse.crowd.vectors import parse_feature
from sentifuse.extract.job import refuse_missing_root
from sentifuse.extract.models.weights import weights_folder
from sentifuse.extract.plan import list_inputs
from sentifuse.fuse.features.requests import FieldRequest
from sentifuse.fuse.features.samples import open_features, prove_features
from sentifuse.fuse.run import describe_feature_set

__all__ = ["Made", "Maker", "ProbeMaker", "VitMaker"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Report = Callable[[Mapping[str, Any]], None]

SHOWN_IDS = 5
DONE = ".done-"  # and a number, behind the name of a working folder that nothing can go on from
VIT_LOGS = ("steps.csv", "left-out.csv")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """One student, before it lies in a folder.

    Attributes
    ----------
    head_config, vit_config, processor
        `head` and `vit` of config.json, preprocessor_config.json; the last two of a transformer alone.
    tensors
        float32, `head.*` and `vit.*`; of a transformer they lie on disk and are read when they are asked for.
    resize
        Of config.json.
    notes
        For student.json.
    logs
        Further files to lie beside history.csv.
    left_out
        id -> why an image was neither learned from nor scored on.
    """

    head_config: Mapping[str, Any]
    tensors: Mapping[str, FloatArray]
    temperature: float
    history: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any]
    vit_config: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] | None = None
    resize: str = "processor"
    notes: Mapping[str, Any] = field(default_factory=dict)
    logs: Mapping[str, bytes] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


class Maker(Protocol):
    """Makes students of one kind from one material."""

    material: Material  # what can be used of it
    base: ProbeBase | None  # what stands below a probe
    about_base: Mapping[str, Any]  # for student.json

    def make(self, train_rows: IntArray, val_rows: IntArray, *, fold: int, progress: Report | None) -> Made:
        """The student that sees these rows of the material and no other."""

    def clean(self) -> None:
        """The students lie in their folder: what was kept to go on from may go."""


class ProbeMaker:
    """Probes on a vector field of the dataset's cached features.

    Every student starts from the same weights, so that the hidden numbers of out-of-fold students stay comparable.

    Raises
    ------
    ConfigError, CacheError
        No such field; features that are missing, outdated or damaged.
    """

    def __init__(
        self, material: Material, recipe: ProbeRecipe, *, artifacts: Path, dataset: str, features: str, seed: int
    ) -> None:
        self.encoder, self.field = parse_feature(features)
        check_feature(self.encoder, self.field)
        request = FieldRequest(encoder=self.encoder, field=self.field)
        self.reader = open_features(artifacts, dataset, (request,))[self.encoder]
        self._recipe, self._seed, self._dataset = recipe, seed, dataset
        self.material = material.without(find_unusable(self.reader, material.ids, material.digests, dataset))
        prove_features({self.encoder: self.reader}, self.material.ids)
        base = find_base(self.reader, self.field, search=(weights_folder(artifacts),))
        self.base: ProbeBase | None = base
        self.about_base: Mapping[str, Any] = {**describe_feature_set(self.reader), "problem": base.problem}
        self._embeddings = CachedEmbeddings(self.reader, self.field, self.material.ids)

    def make(self, train_rows: IntArray, val_rows: IntArray, *, fold: int, progress: Report | None) -> Made:
        made = train_probe(
            self._embeddings,
            self.material.targets,
            self._recipe,
            train_rows=train_rows,
            val_rows=val_rows,
            seed=self._seed,
            progress=progress,
            where=describe(self._dataset, fold),
        )
        return Made(
            head_config=made.head_config,
            tensors=made.tensors,
            temperature=made.temperature,
            history=made.history,
            best=made.best,
            notes={"class_weights": dict(made.class_weights)},
        )

    def clean(self) -> None:
        """Nothing was kept."""


class VitMaker:
    """Fine-tuned vision transformers; each fold has a working folder, from whose checkpoint a stopped one goes on."""

    def __init__(
        self,
        material: Material,
        recipe: FinetuneRecipe,
        *,
        kind: Kind,
        base: Path,
        dataset: str,
        seed: int,
        work: Path,
        device: str = "auto",
        resume: bool = False,
        writes_tensorboard: bool = False,
    ) -> None:
        manifest = material.manifest
        _check_begun(work, resume=resume)
        refuse_missing_root(dataset, manifest.root, list_inputs(manifest, ("image",)))
        pairs = manifest.by_id()
        self.material, self._recipe, self._work = material, recipe, work
        self.base: ProbeBase | None = None  # of a transformer nothing is needed beside its weights
        self.about_base: Mapping[str, Any] = {"folder": str(base), "digest": read_base(base, recipe.image_px).digest}
        self._kind, self._base, self._dataset, self._seed = kind, base, dataset, seed
        self._device, self._resume, self._writes_tensorboard = device, resume, writes_tensorboard
        self._images = [
            ImageRow(id=id_, path=manifest.image_file(pairs[id_]), digest=digest)
            for id_, digest in zip(material.ids, material.digests, strict=True)
        ]
        self._left_out: tuple[LeftOut, ...] | None = None

    def make(self, train_rows: IntArray, val_rows: IntArray, *, fold: int, progress: Report | None) -> Made:
        targets = self.material.targets
        refuse_absent(targets.classes[train_rows], where=describe(self._dataset, fold))
        out = self._work / f"fold-{fold}"
        done = finetune(
            FinetuneRequest(
                base=self._base,
                kind=self._kind,
                recipe=self._recipe,
                images=self._images,
                classes=targets.classes,
                probabilities=targets.probabilities,
                weights=targets.weights,
                train_rows=train_rows,
                val_rows=val_rows,
                out=out,
                device=self._device,
                seed=self._seed,
                resume=self._resume,
                find_left_out=self._find_left_out,
                writes_tensorboard=self._writes_tensorboard,
            ),
            progress=progress,
        )
        return Made(
            head_config=done.head_config,
            vit_config=done.vit_config,
            processor=done.processor,
            resize=done.resize,
            tensors=TensorFile.write(out, done.tensors),  # of K + 1 large networks memory holds one
            temperature=fit_temperature(done.val_logits, targets.classes[done.val_rows]) if len(done.val_rows) else 1.0,
            history=done.history,
            best=done.best,
            notes=dict(done.notes),
            logs={name: (out / name).read_bytes() for name in VIT_LOGS if (out / name).is_file()},
            left_out={one.id: f"image: {one.reason}" for one in done.left_out},
        )

    def _find_left_out(self) -> tuple[LeftOut, ...]:
        """Of all folds, whose images are the same: each file is looked at once."""
        if self._left_out is None:
            rows = np.sort(np.concatenate([self.material.train_rows, self.material.val_rows]))
            self._left_out = find_left_out(self._images, rows, default_threads())
        return self._left_out

    def clean(self) -> None:
        """Checkpoints go, logs stay."""
        for folder in sorted(self._work.glob("fold-*")):
            remove_checkpoint(folder)
        # What is left is no begun training: the same command may be given again.
        if self._work.is_dir():
            self._work.rename(_free_name(self._work))


def _check_begun(work: Path, *, resume: bool) -> None:
    if work.exists() and not resume:
        raise ConfigError(
            f"{work}: this very training was begun. Go on with it: the same command with --resume. To begin anew, "
            "delete that folder first"
        )
    if resume and not work.exists():
        place = work.parent
        begun = sorted(path.name for path in place.iterdir() if DONE not in path.name) if place.is_dir() else []
        raise ConfigError(
            f"--resume: nothing begun under {work}; there are: {', '.join(begun) or 'none'}. Another --set (but "
            "micro_batch), --seed, --folds, base or kept set is another training. Type the command that one was begun "
            "with, or leave --resume out to begin anew"
        )


def find_unusable(reader: FeatureReader, ids: Sequence[str], digests: Sequence[str], dataset: str) -> dict[str, str]:
    """id -> status of the rows that have no values.

    Raises
    ------
    CacheError
        Pairs without a row, or whose row was made from another image than the manifest names now.
    """
    unknown = [id_ for id_ in ids if id_ not in reader]
    stale = [
        id_
        for id_, digest in zip(ids, digests, strict=True)
        if id_ in reader and reader.has_value(id_) and reader.digest(id_) != digest
    ]
    for found, what in ((unknown, "have no row"), (stale, "have another image now, or features of more than an image")):
        if found:
            shown = ", ".join(found[:SHOWN_IDS]) + (", …" if len(found) > SHOWN_IDS else "")
            raise CacheError(
                f"{reader.feature_set.directory}: {len(found):,} of {len(ids):,} pairs {what}: {shown}. "
                f"Run: sentifuse extract --dataset {dataset} --encoders {reader.encoder}"
            )
    return {id_: f"{reader.encoder}: {reader.status(id_)}" for id_ in ids if not reader.has_value(id_)}


def describe(dataset: str, fold: int) -> str:
    """Which student is being made, for messages."""
    return f"student on {dataset}" + (f", without fold {fold}" if fold else "")


def _free_name(folder: Path) -> Path:
    number = 1
    while (found := folder.with_name(f"{folder.name}{DONE}{number}")).exists():
        number += 1
    return found
