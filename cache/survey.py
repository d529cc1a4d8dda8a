"""What lies in a cache: the feature sets of datasets, what each holds, and which one a name means. Changes nothing."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse.cache.current import read_current
from sentifuse.cache.errors import CacheError, NoFeatures, reading
from sentifuse.cache.featureset import RECIPE_FILE, FeatureSet, differing_keys, open_feature_set
from sentifuse.cache.journal import read_journal
from sentifuse.cache.order import find_parts
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import status_kind

__all__ = ["Difference", "SetSurvey", "compare_sets", "find_set", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSurvey:
    """One feature set at a glance.

    Attributes
    ----------
    directory : Path
        Its dataset is the folder above.
    is_current : bool
        Whether it is the one last extracted for its encoder, the one that training takes.
    size_bytes : int
        Of all files in the folder.
    rows : int
        Rows that count; `superseded` more are stored and replaced by later ones.
    counts : mapping
        Rows by kind of status; they add up to `rows`.
    values_bytes : mapping
        Field to the bytes its values take.
    pending : str
        Why there are no rows yet although nothing is wrong, and what to do; "" when there are.
    problem : str
        Why the set cannot be read; "" when it can. With either of the two only directory, encoder, fingerprint and size
        are known.
    """

    directory: Path
    encoder: str
    fingerprint: str
    is_current: bool
    size_bytes: int
    shards: int = 0
    rows: int = 0
    superseded: int = 0
    generation: int = 0
    counts: Mapping[str, int]
    values_bytes: Mapping[str, int]
    recipe: Mapping[str, Any]
    details: Mapping[str, Any]
    pending: str = ""
    problem: str = ""

    @property
    def dataset(self) -> str:
        return self.directory.parent.name

    def to_json(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "directory": str(self.directory),
            "encoder": self.encoder,
            "fingerprint": self.fingerprint,
            "is_current": self.is_current,
            "size_bytes": self.size_bytes,
            "shards": self.shards,
            "rows": self.rows,
            "superseded": self.superseded,
            "generation": self.generation,
            "counts": dict(self.counts),
            "values_bytes": dict(self.values_bytes),
            "recipe": dict(self.recipe),
            "details": dict(self.details),
            "pending": self.pending,
            "problem": self.problem,
        }


def survey(cache_dir: Path) -> list[SetSurvey]:
    """The feature sets of a dataset (artifacts/cache/<dataset>), by folder name; damaged ones say what is wrong."""
    try:
        current = set(read_current(cache_dir).encoders.values())
    except CacheError:
        current = set()
    return [_survey_one(folder, is_current=folder.name in current) for folder in _set_folders(cache_dir)]


def find_set(cache_root: Path, name: str) -> FeatureSet:
    """The feature set that a path, a folder name or the beginning of one means.

    Parameters
    ----------
    cache_root
        artifacts/cache, with a folder for each dataset.
    name
        A folder; or `regions-7f3a` or `mvsa_single/regions-7f3a`: the beginning of a name that fits one set only.

    Raises
    ------
    NoFeatures
        Nothing, or more than one set, is meant; the message lists the names.
    """
    if (Path(name) / RECIPE_FILE).is_file():
        return open_feature_set(Path(name))
    with reading(cache_root):
        datasets = sorted(path for path in cache_root.iterdir() if path.is_dir()) if cache_root.is_dir() else []
    names = {f"{folder.parent.name}/{folder.name}": folder for dataset in datasets for folder in _set_folders(dataset)}
    found = [key for key in names if key.startswith(name) or key.partition("/")[2].startswith(name)]
    if len(found) != 1:
        expected = "one feature set" if not found else f"one, it is the beginning of {', '.join(found)}"
        raise NoFeatures(
            f"{name!r}: expected {expected}; give a folder or a longer name. In {cache_root} there are: "
            f"{', '.join(names) or 'none'}"
        )
    return open_feature_set(names[found[0]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two feature sets differ.

    Attributes
    ----------
    keys : tuple of (str, left, right)
        Dotted names of recipe and field declarations whose values differ; a value is None where the name is absent.
    shared, only_left, only_right : int
        Ids in both sets, in one of them.
    other_input : int
        Shared ids whose rows were made from different inputs.
    other_status : int
        Shared ids that have values in one set only.
    """

    keys: tuple[tuple[str, Any, Any], ...]
    shared: int
    only_left: int
    only_right: int
    other_input: int
    other_status: int


def compare_sets(left: FeatureSet, right: FeatureSet) -> Difference:
    """Recipes, field declarations and rows of two feature sets, side by side."""
    ours, theirs = FeatureReader(left), FeatureReader(right)
    shared = [row_id for row_id in ours if row_id in theirs]
    return Difference(
        keys=tuple(differing_keys(_declaration(left), _declaration(right))),
        shared=len(shared),
        only_left=len(ours) - len(shared),
        only_right=len(theirs) - len(shared),
        other_input=sum(ours.digest(row_id) != theirs.digest(row_id) for row_id in shared),
        other_status=sum(ours.has_value(row_id) != theirs.has_value(row_id) for row_id in shared),
    )


def _declaration(feature_set: FeatureSet) -> dict[str, Any]:
    fields = {field.name: field.to_json() for field in feature_set.fields}
    return {"encoder": feature_set.encoder, "recipe": feature_set.recipe, "fields": fields}


def _set_folders(cache_dir: Path) -> Iterator[Path]:
    with reading(cache_dir):
        folders = sorted(cache_dir.iterdir()) if cache_dir.is_dir() else []
    yield from (folder for folder in folders if (folder / RECIPE_FILE).is_file())


def _why_empty(feature_set: FeatureSet) -> str:
    """Why a set has no index yet, if nothing was ever committed to it as a whole."""
    directory = feature_set.directory
    with reading(directory):
        if feature_set.index.exists() or feature_set.journal().exists():
            return ""
        has_shards = feature_set.shards.is_dir() and any(feature_set.shards.glob("*.h5"))
    parts = find_parts(directory)
    if parts:
        shards = sum(len(read_journal(feature_set.journal(part), feature_set.fields).shards) for part in parts)
        return (
            f"no index yet: parts {', '.join(f'{part} of {count}' for part, count in parts)} are at work or have "
            f"finished, with {shards:,} shards so far. When all have finished: sentifuse cache commit --dataset "
            f"{directory.parent.name}"
        )
    if has_shards:
        return ""
    return f"no index yet: nothing was extracted. Run: sentifuse extract --dataset {directory.parent.name}"


def _survey_one(folder: Path, *, is_current: bool) -> SetSurvey:
    with reading(folder):
        size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    encoder, _, fingerprint = folder.name.rpartition("-")
    pending = problem = ""
    try:
        feature_set = open_feature_set(folder)
        fingerprint = feature_set.fingerprint
        pending = _why_empty(feature_set)
        reader = FeatureReader(feature_set) if not pending else None
    except CacheError as error:
        reader, problem = None, str(error)
    if reader is None:
        return SetSurvey(
            directory=folder,
            encoder=encoder,
            fingerprint=fingerprint,
            is_current=is_current,
            size_bytes=size_bytes,
            counts={},
            values_bytes={},
            recipe={},
            details={},
            pending=pending,
            problem=problem,
        )
    counts: Counter[str] = Counter()
    for status, count in reader.statuses().items():
        counts[status_kind(status)] += count
    return SetSurvey(
        directory=folder,
        encoder=reader.encoder,
        fingerprint=reader.fingerprint,
        is_current=is_current,
        size_bytes=size_bytes,
        shards=len(reader.shards),
        rows=len(reader),
        superseded=sum(record.rows for record in reader.shards) - len(reader),
        generation=reader.generation,
        counts=dict(counts),
        values_bytes=reader.values_bytes(),
        recipe=reader.recipe,
        details=reader.feature_set.details,
    )
