"""`distil features`: the feature set `crowd` of a dataset, every row by a student that saw neither pair nor duplicate.

A probe answers from the cached vectors it stands on, a transformer from the images. Rows without an image keep their
status. The set is made current, so that training finds it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sentifuse import CacheError, DataError
from sentifuse.cache.current import read_current, write_current
from sentifuse.cache.errors import NoFeatures
from sentifuse.cache.featureset import RECIPE_FILE, create_feature_set, open_feature_set
from sentifuse.cache.files import sha256_of
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import status_kind
from sentifuse.cache.writer import FeatureWriter
from sentifuse.crowd.components import read_components
from sentifuse.crowd.students.folder import StudentFolder, find_student
from sentifuse.crowd.students.out_of_fold import ALL, choose_students, digest_folds
from sentifuse.crowd.students.rows import ImageAnswers, ProbeAnswers
from sentifuse.data.image_hashes import ensure_image_hashes
from sentifuse.data.manifest import Manifest, read_manifest
from sentifuse.data.prepare import dataset_dir
from sentifuse.extract.gold_seen import digest_ids, read_gold_seen, resolve
from sentifuse.extract.plan import SHARD_ROWS, Plan, RowInput, list_inputs, plan_shards
from sentifuse.extract.seen_images import match_seen, read_seen
from sentifuse.extract.students import CONFIG, PROCESSOR, WEIGHTS
from sentifuse.fuse.seen import KEY as GOLD_SEEN

__all__ = ["FeaturesRequest", "FeaturesSummary", "base_fingerprint", "write_features"]

ENCODER = "crowd"
NUMBERS = (CONFIG, WEIGHTS, PROCESSOR)  # what of a student's folder changes them
VERSION = 1  # raise it when the same students would give other numbers
DEFAULT_FAILURE_SHARE = 0.05
DEFAULT_FAILURE_FLOOR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesRequest:
    """Whose features of which dataset; `student` is a folder, or a name below artifacts/crowd/students."""

    artifacts: Path
    dataset: str
    student: Path
    device: str = "auto"
    batch_rows: int = 16
    max_failures: int | None = None

    @property
    def cache_dir(self) -> Path:
        return self.artifacts / "cache" / self.dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesSummary:
    """What the feature set holds now; counts in = rows out."""

    directory: Path
    fingerprint: str
    student: str
    pairs: int
    computed: int
    statuses: Mapping[str, int]
    by_fold: Mapping[int, int]  # rows that each student answers for; 0 is the one of all pairs
    gold_seen: int
    quarantined: Mapping[str, str]  # id -> status, of rows that have an image and no features

    def to_json(self) -> dict[str, Any]:
        return {
            "feature_set": str(self.directory),
            "fingerprint": self.fingerprint,
            "student": self.student,
            "pairs": self.pairs,
            "computed": self.computed,
            "reused": self.pairs - self.computed,
            "statuses": dict(self.statuses),
            "by_fold": {str(fold): n for fold, n in self.by_fold.items()},
            "gold_seen": self.gold_seen,
            "quarantined": dict(self.quarantined),
        }


def write_features(
    request: FeaturesRequest,
    *,
    progress: Callable[[int, int], None] | None = None,
    hash_progress: Callable[[int, int], None] | None = None,
) -> FeaturesSummary:
    """Compute what is left, shard by shard; the same call again after an interruption goes on behind the last one.

    Parameters
    ----------
    progress
        Called with (rows done, rows to do).
    hash_progress
        Called with (images hashed, images to hash), where near-duplicates have to be found first.

    Raises
    ------
    ConfigError
        No such student.
    DataError
        The dataset is not prepared; pairs that every student saw; too many failures (all the rest is stored).
    CacheError
        The vectors that a probe stands on are missing, outdated or others; the store cannot be written.
    """
    student = find_student(request.artifacts, request.student)
    folder = dataset_dir(request.artifacts, request.dataset)
    manifest = read_manifest(folder)
    inputs = list_inputs(manifest, ("image",))
    fold_of = _choose(student, folder, request.dataset, manifest, hash_progress)
    folders = _folders(student, {ALL, *fold_of.values()})
    known = read_gold_seen(student.path)
    answers = _answers(request, student, folders, manifest)
    # What stands below a probe may know labels too, and need not lie in its folder.
    digests = {row.id: row.image_digest for row in inputs}
    gold_seen = sorted({*resolve(known, request.dataset, digests), *answers.gold_seen})
    answers.check(inputs)
    recipe = _recipe(student, folders, fold_of, gold_seen)
    feature_set = create_feature_set(
        request.cache_dir,
        encoder=ENCODER,
        recipe=recipe,
        fields=answers.fields,
        details={
            "made_by": "sentifuse distil features",
            "student": student.path.name,
            "path": str(student.path),
            "rows_by_fold": {str(fold): n for fold, n in sorted(Counter(fold_of.values()).items())},
            GOLD_SEEN: gold_seen,
        },
    )
    computed = 0
    with FeatureWriter(feature_set) as writer:
        plans = list(_plans(inputs, fold_of, writer))
        advance = _counting(progress, sum(len(shard.rows) for _, _, plan in plans for shard in plan.shards))
        for fold, own, plan in plans:
            tasks = [(shard.number, [own[i] for i in shard.rows]) for shard in plan.shards]
            for staged in answers.stage(feature_set, fold, tasks, advance) if tasks else ():
                writer.commit(staged)
                computed += staged.rows
    write_current(request.cache_dir, {ENCODER: feature_set.directory.name}, _profile(request.cache_dir))
    summary = _summarise(feature_set.directory, student, inputs, fold_of, computed, len(gold_seen))
    _refuse_many_failures(request, summary)
    return summary


def _choose(
    student: StudentFolder,
    folder: Path,
    dataset: str,
    manifest: Manifest,
    hash_progress: Callable[[int, int], None] | None,
) -> dict[str, int]:
    """id -> the fold whose student answers."""
    digests = {pair.id: pair.image_digest for pair in manifest.pairs}
    images = read_seen(student.path)
    if not images:  # no need to compare any image with another
        return dict.fromkeys(digests, ALL)
    seen = match_seen(images, digests, dataset, ensure_image_hashes(folder, manifest, hash_progress))
    if not seen:
        return dict.fromkeys(digests, ALL)
    components = read_components(folder, hash_progress)
    return choose_students(digests, components, seen, where=f"{student.path.name} on {dataset}")


def _folders(student: StudentFolder, wanted: set[int]) -> dict[int, Path]:
    there = student.fold_folders
    lacking = sorted(wanted - there.keys())
    if lacking:
        raise DataError(
            f"{student.path}: expected the students of folds {', '.join(map(str, sorted(wanted - {ALL})))}, found no "
            f"fold-{lacking[0]}/. Copy the whole folder again, or train the student again"
        )
    return {fold: there[fold] for fold in sorted(wanted)}


def _answers(
    request: FeaturesRequest, student: StudentFolder, folders: Mapping[int, Path], manifest: Manifest
) -> ProbeAnswers | ImageAnswers:
    config = student.config
    if config.kind == "vit":
        return ImageAnswers(
            folders,
            width=int(config.vit["hidden_size"]),
            manifest=manifest,
            dataset=request.dataset,
            device=request.device,
            batch_rows=request.batch_rows,
        )
    reader = _base_reader(request, str(config.base["encoder"]), base_fingerprint(student))
    return ProbeAnswers(folders, reader, str(config.base["field"]), request.dataset)


def base_fingerprint(student: StudentFolder) -> str:
    """Of the features that a probe was trained on; "" of a transformer.

    Raises
    ------
    DataError
        The student.json of a probe does not say.
    """
    if student.config.kind == "vit":
        return ""
    found = student.document.get("base", {}).get("fingerprint")
    if not found:
        raise DataError(
            f"{student.path}: expected student.json with the fingerprint of the features that the probe stands on, "
            "found none. Copy the whole folder again"
        )
    return str(found)


def _base_reader(request: FeaturesRequest, encoder: str, wanted: str) -> FeatureReader:
    """The dataset's features by the recipe that the probe was trained on."""
    directory = request.cache_dir / f"{encoder}-{wanted[:12]}"
    if not (directory / RECIPE_FILE).is_file():
        found = read_current(request.cache_dir).directory(encoder)  # refuses with the command to type
        raise CacheError(
            f"{directory}: expected features {encoder} of the recipe that the student stands on ({wanted[:12]}), found "
            f"{found.name}. Extract with the profile that the student was trained with: "
            f"sentifuse extract --dataset {request.dataset} --encoders {encoder} --profile …"
        )
    return FeatureReader(open_feature_set(directory))


def _recipe(
    student: StudentFolder, folders: Mapping[int, Path], fold_of: Mapping[str, int], gold_seen: Sequence[str]
) -> dict[str, Any]:
    return {
        "encoder": ENCODER,
        "version": VERSION,
        "students": {str(fold): _digest(path) for fold, path in folders.items()},
        "folds": digest_folds(fold_of),
        "base": base_fingerprint(student),
        # The guard against leaks reads these ids beside the recipe: another list must not meet an older one's set.
        "gold_seen": digest_ids(gold_seen),
        "precision": "float32",
        "dtypes": {"probabilities": "float32", "embedding": "float32"},
    }


def _digest(folder: Path) -> str:
    """Of everything in a student's folder that changes its numbers, but for the base."""
    names = [name for name in NUMBERS if (folder / name).is_file()]
    return sha256("".join(sha256_of(folder / name) for name in names).encode()).hexdigest()


def _plans(
    inputs: Sequence[RowInput], fold_of: Mapping[str, int], writer: FeatureWriter
) -> Iterator[tuple[int, list[RowInput], Plan]]:
    """Fold, its rows and what is left of them: a shard is of one student alone."""
    numbers = set(writer.shard_numbers)
    for fold in sorted(set(fold_of.values())):
        own = [row for row in inputs if fold_of[row.id] == fold]
        plan = plan_shards(own, writer.known, numbers, shard_rows=SHARD_ROWS)
        numbers.update(shard.number for shard in plan.shards)
        yield fold, own, plan


def _counting(progress: Callable[[int, int], None] | None, total: int) -> Callable[[int], None]:
    """Takes rows newly done."""
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    return advance


def _profile(cache_dir: Path) -> str:
    """The profile of the dataset's other features; the set is of none."""
    try:
        return read_current(cache_dir).profile
    except NoFeatures:
        return ENCODER


def _summarise(
    directory: Path,
    student: StudentFolder,
    inputs: Sequence[RowInput],
    fold_of: Mapping[str, int],
    computed: int,
    gold_seen: int,
) -> FeaturesSummary:
    reader = FeatureReader(directory)
    statuses = {row.id: reader.status(row.id) for row in inputs}
    kinds = Counter(status_kind(status) for status in statuses.values())
    return FeaturesSummary(
        directory=directory,
        fingerprint=reader.fingerprint,
        student=student.path.name,
        pairs=len(inputs),
        computed=computed,
        statuses=dict(kinds.most_common()),
        by_fold=dict(sorted(Counter(fold_of.values()).items())),
        gold_seen=gold_seen,
        quarantined={id_: status for id_, status in statuses.items() if status not in ("ok", "missing")},
    )


def _refuse_many_failures(request: FeaturesRequest, summary: FeaturesSummary) -> None:
    limit = request.max_failures
    if limit is None:
        limit = max(DEFAULT_FAILURE_FLOOR, int(DEFAULT_FAILURE_SHARE * summary.pairs))
    if len(summary.quarantined) > limit:
        first = ", ".join(f"{id_} ({status})" for id_, status in list(summary.quarantined.items())[:3])
        raise DataError(
            f"{request.dataset}: {len(summary.quarantined):,} of {summary.pairs:,} pairs failed, more than the "
            f"{limit:,} allowed; the first: {first}. All others are stored. Mend the images, then run `sentifuse data "
            f"prepare {request.dataset}` and this again, or allow them with --max-failures {len(summary.quarantined)}"
        )
