"""From labels to a student folder: material, folds, one student for each, written whole or not at all.

Everything that can refuse does so before the first step. The folder is what the encoder `crowd` loads.
"""

import platform
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import sentifuse
from sentifuse import ConfigError, TrainingError
from sentifuse.cache.fingerprint import fingerprint
from sentifuse.crowd.components import read_components
from sentifuse.crowd.finetune import recipe as finetune_recipe
from sentifuse.crowd.finetune.network import read_base
from sentifuse.crowd.students import probe_recipe
from sentifuse.crowd.students.apart import SHARED, find_shared, refuse_divided_tweets
from sentifuse.crowd.students.folder import StudentFolder, students_folder, write_students
from sentifuse.crowd.students.makers import Made, Maker, ProbeMaker, VitMaker
from sentifuse.crowd.students.material import Material, MaterialRequest, read_material
from sentifuse.crowd.students.out_of_fold import ALL, assign_folds
from sentifuse.data.files import check_writable
from sentifuse.data.image_hashes import read_image_hashes
from sentifuse.data.prepare import dataset_dir
from sentifuse.data.reasons import count_reasons
from sentifuse.extract.gold_seen import ELSEWHERE, GOLD_SEEN, GoldSeen, read_gold_seen
from sentifuse.extract.seen_images import SeenImage, read_seen
from sentifuse.fuse.train import MAX_SEED

__all__ = ["KINDS", "FoldReport", "StudentRequest", "train_student"]

KINDS = ("probe", "lora", "full")
NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]*")
Report = Callable[["FoldReport"], None]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentRequest:
    """What to train, on what, and how.

    Attributes
    ----------
    features
        Of a probe: the cached vector field that it stands on, as encoder.field.
    base
        Of lora and full: a folder with a ViT of transformers, or a student of kind vit.
    folds
        0: one student. K from 2: K more, each without one fold of the pairs, so that `distil features` can answer for
        every pair by a student that saw neither it nor its near-duplicates.
    name
        Of the folder; "": made of time, kind, dataset and seed.
    resume
        Of lora and full: go on from where the same command was stopped.
    """

    material: MaterialRequest
    kind: str = "probe"
    features: str = "context.vector"
    base: Path | None = None
    preset: str = "default"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    folds: int = 0
    name: str = ""
    device: str = "auto"
    resume: bool = False
    writes_tensorboard: bool = False
    command: tuple[str, ...] = ()

    @property
    def artifacts(self) -> Path:
        return self.material.artifacts

    @property
    def dataset(self) -> str:
        return self.material.dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldReport:
    """A row of a history while it comes in; fold 0 is the student of all pairs."""

    fold: int
    folds: int
    row: Mapping[str, Any]


def train_student(
    request: StudentRequest,
    *,
    progress: Report | None = None,
    hash_progress: Callable[[int, int], None] | None = None,
    announce: Callable[[Material], None] | None = None,
) -> StudentFolder:
    """Train a student, and the ones without a fold if asked for, and write their folder.

    Parameters
    ----------
    hash_progress
        Called with (images hashed, images to hash), where folds need hashes that are not there yet.
    announce
        Hears before the first step what will be learned from.

    Raises
    ------
    ConfigError
        Settings that are unknown or contradict each other, a name that is taken, folds that cannot be.
    DataError, CacheError, ResourceError
        The kept set, the features, the images or the base are missing or damaged.
    TrainingError
        A class without training images (in one of the folds); a loss that is not finite.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    _check(request)
    recipe = _resolve(request)
    students = students_folder(request.artifacts)
    name = request.name or (
        f"{started:%Y%m%dT%H%M%SZ}-{request.kind}-{request.dataset}-s{request.seed}-{secrets.token_hex(2)}"
    )
    if (students / name).exists():
        raise ConfigError(f"{students / name}: a student of this name is there. Choose another --name, or remove it")
    check_writable(students, hint="Choose another folder with --artifacts")
    refuse_divided_tweets(request.material)
    material, components = _read_apart(request, hash_progress)
    fold_of = assign_folds(components, request.folds, request.seed) if request.folds else {}
    # What a base has seen, and what its teacher knew, all students made of it have seen and know.
    base_seen = () if request.base is None else read_seen(request.base)
    base_gold = {} if request.base is None else read_gold_seen(request.base)
    maker = _maker(request, recipe, material)
    material = maker.material
    if announce is not None:
        announce(material)
    folds = np.array([fold_of.get(id_, ALL) for id_ in material.ids], dtype=np.int64)
    made: list[Made] = []
    for fold in range(request.folds + 1):
        # Fold 0 holds out nothing: no pair is in a fold of this number where there are folds at all.
        rows = {
            part: chosen[folds[chosen] != fold] if fold else chosen
            for part, chosen in (("train", material.train_rows), ("val", material.val_rows))
        }
        made.append(maker.make(rows["train"], rows["val"], fold=fold, progress=_reporter(progress, fold, request)))
    material = material.without(made[ALL].left_out)
    document = _document(request, recipe, maker, material, made, started) | _gold_seen(material, base_gold)
    document["seconds"] = round(time.perf_counter() - clock, 3)
    hashes = read_image_hashes(dataset_dir(request.artifacts, request.dataset))
    seen = [
        SeenImage(
            image_digest=digest,
            id=id_,
            dataset=request.dataset,
            fold=fold_of.get(id_, ALL),
            image_hash=hashes.get(digest),
        )
        for id_, digest in zip(material.ids, material.digests, strict=True)
    ]
    seen += [replace(image, fold=ALL) for image in base_seen]
    folder = write_students(students, name, made=made, maker=maker, document=document, seen=seen)
    maker.clean()
    return folder


def _read_apart(
    request: StudentRequest, hash_progress: Callable[[int, int], None] | None
) -> tuple[Material, dict[str, str]]:
    """The material without validation pairs that belong together with training pairs; id -> what it belongs to."""
    material = read_material(request.material)
    components = read_components(dataset_dir(request.artifacts, request.dataset), hash_progress)
    train_ids, val_ids = (
        tuple(material.ids[row] for row in rows.tolist()) for rows in (material.train_rows, material.val_rows)
    )
    shared = find_shared(train_ids, val_ids, components)
    if len(shared) == len(val_ids):
        raise TrainingError(
            f"{request.dataset}: expected validation images that are apart from the training part, found none: each "
            f"of {len(val_ids):,} {SHARED}. Type: --protocol grouped"
        )
    return material.without(shared), components


def _check(request: StudentRequest) -> None:
    if request.kind not in KINDS:
        raise ConfigError.unknown("student", request.kind, KINDS, where="--student")
    if not 0 <= request.seed <= MAX_SEED:
        raise ConfigError(f"--seed: expected a whole number from 0 to {MAX_SEED}, found {request.seed}")
    if request.folds < 0 or request.folds == 1:
        raise ConfigError(f"--folds: expected 0 (none) or at least 2, found {request.folds}")
    if request.name and not NAME.fullmatch(request.name):
        raise ConfigError(f"--name {request.name}: expected letters, digits, '_', '-', '.'")
    if request.kind == "probe" and request.base is not None:
        raise ConfigError("--base: a probe stands on --features, expected none. Or take --student lora or full")
    if request.kind == "probe" and (request.resume or request.writes_tensorboard):
        raise ConfigError("--resume and --log: a probe takes minutes and keeps history.csv alone. Leave them out")
    if request.kind != "probe" and request.base is None:
        raise ConfigError(
            f"--student {request.kind}: expected --base DIR, a folder with a ViT of transformers or a student of kind "
            "vit (`sentifuse weights convert crowd`), found none"
        )


def _resolve(request: StudentRequest) -> probe_recipe.ProbeRecipe | finetune_recipe.FinetuneRecipe:
    if request.kind == "probe":
        return probe_recipe.resolve_recipe(preset=request.preset, overrides=request.overrides)
    return finetune_recipe.resolve_recipe(request.kind, preset=request.preset, overrides=request.overrides)


def _maker(
    request: StudentRequest, recipe: probe_recipe.ProbeRecipe | finetune_recipe.FinetuneRecipe, material: Material
) -> Maker:
    if isinstance(recipe, probe_recipe.ProbeRecipe):
        return ProbeMaker(
            material,
            recipe,
            artifacts=request.artifacts,
            dataset=request.dataset,
            features=request.features,
            seed=request.seed,
        )
    assert request.base is not None  # refused in _check
    # Not the base's path: its numbers count. Nor how many images are on the device at a time, which is rounding.
    identity = {
        "kind": request.kind,
        "seed": request.seed,
        "folds": request.folds,
        "base": read_base(request.base, recipe.image_px).digest,
        "recipe": {key: value for key, value in asdict(recipe).items() if key != "micro_batch"},
        "material": [list(material.ids), material.targets.classes.tolist(), dict(material.about)],
    }
    name = f"{request.kind}-{request.dataset}-s{request.seed}-{fingerprint(identity)[:10]}"
    return VitMaker(
        material,
        recipe,
        kind="lora" if request.kind == "lora" else "full",
        base=request.base,
        dataset=request.dataset,
        seed=request.seed,
        work=request.artifacts / "crowd" / "training" / name,
        device=request.device,
        resume=request.resume,
        writes_tensorboard=request.writes_tensorboard,
    )


def _reporter(
    progress: Report | None, fold: int, request: StudentRequest
) -> Callable[[Mapping[str, Any]], None] | None:
    if progress is None:
        return None
    return lambda row: progress(FoldReport(fold=fold, folds=request.folds, row=row))


def _document(
    request: StudentRequest,
    recipe: probe_recipe.ProbeRecipe | finetune_recipe.FinetuneRecipe,
    maker: Maker,
    material: Material,
    made: Sequence[Made],
    started: datetime,
) -> dict[str, Any]:
    """student.json: what a person wants to know, and what the leak guard of the fusion reads."""
    whole = made[ALL]
    return {
        "created": started.isoformat(timespec="seconds"),
        "kind": request.kind,
        "trained_on": {**material.about, "images": material.counts()},
        "left_out": {"reasons": count_reasons(material.left_out), "ids": dict(material.left_out)},
        "preset": request.preset,
        "recipe": asdict(recipe),
        "seed": request.seed,
        "folds": request.folds,
        "base": dict(maker.about_base),
        "temperature": whole.temperature,
        "scores": _scores(whole),
        "fold_scores": {str(fold): _scores(one) for fold, one in enumerate(made) if fold != ALL},
        "scored_against": "people" if material.about["validate"] == "gold" else "the teacher",
        "notes": dict(whole.notes),
        "versions": {
            "sentifuse": sentifuse.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "threads": torch.get_num_threads(),
        "command": list(request.command),
    }


def _gold_seen(material: Material, of_base: GoldSeen) -> dict[str, Any]:
    """Whose labels are known, here and elsewhere: id -> digest of the image, by which it is known in other datasets."""
    dataset = str(material.about["dataset"])
    pairs = material.manifest.by_id()
    own = {id_: pairs[id_].image_digest if id_ in pairs else "" for id_ in material.gold_seen}
    names = sorted({*material.gold_elsewhere, *of_base} - {dataset})
    elsewhere = {name: {**of_base.get(name, {}), **material.gold_elsewhere.get(name, {})} for name in names}
    return {GOLD_SEEN: {**of_base.get(dataset, {}), **own}, ELSEWHERE: elsewhere}


def _scores(made: Made) -> dict[str, Any]:
    return {key: value for key, value in made.best.items() if key not in ("is_best", "seconds", "epochs")}
