"""A feature set: one encoder with one recipe, in one folder with a recipe.json. Knows nothing of shards.

The folder's name is the encoder and twelve digits of the recipe's fingerprint; `current` remembers which folders of a
dataset were extracted last.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse.cache.checksum import parse_json, seal, unseal
from sentifuse.cache.current import Current, read_current, write_current
from sentifuse.cache.errors import (
    CacheError,
    CorruptIndex,
    FingerprintMismatch,
    FutureVersion,
    NoFeatures,
    reading,
    writing,
)
from sentifuse.cache.files import make_directory, replace_file
from sentifuse.cache.fingerprint import fingerprint as fingerprint_of
from sentifuse.cache.fingerprint import plain
from sentifuse.cache.spec import FORMAT_VERSION, Field, check_name

__all__ = [
    "Current",
    "FeatureSet",
    "create_feature_set",
    "differing_keys",
    "list_feature_sets",
    "open_feature_set",
    "parse_recipe",
    "read_current",
    "write_current",
    "write_recipe",
]

RECIPE_FILE = "recipe.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureSet:
    """Where a feature set lies and what is in it.

    Attributes
    ----------
    recipe : dict
        Everything that changes the numbers; `fingerprint` is its name.
    fields : tuple of Field
        In the order in which a row's checksum goes over them.
    details : dict
        For people: paths, versions, resolved settings. Not part of the fingerprint.
    """

    directory: Path
    encoder: str
    fingerprint: str
    recipe: dict[str, Any]
    fields: tuple[Field, ...]
    details: dict[str, Any]

    @property
    def shards(self) -> Path:
        return self.directory / "shards"

    @property
    def temporary(self) -> Path:
        return self.directory / ".tmp"

    @property
    def index(self) -> Path:
        return self.directory / "index.json"

    def journal(self, part: tuple[int, int] | None = None) -> Path:
        """The journal of the whole set, or that of part i of n."""
        return self.directory / ("journal.jsonl" if part is None else f"journal.part-{part[0]}-of-{part[1]}.jsonl")

    def lock(self, part: tuple[int, int] | None = None) -> Path:
        """The lock of the whole set, or that of part i of n."""
        return self.directory / ("lock" if part is None else f"lock.part-{part[0]}-of-{part[1]}")


def create_feature_set(
    cache_dir: Path,
    *,
    encoder: str,
    recipe: Mapping[str, Any],
    fields: Sequence[Field],
    details: Mapping[str, Any] | None = None,
) -> FeatureSet:
    """Make the folder of a feature set below `cache_dir` (artifacts/cache/<dataset>), or open the one that is there.

    An existing folder keeps its recipe.json, details included.

    Raises
    ------
    FingerprintMismatch
        The folder holds another recipe, encoder or other fields.
    Unwritable
        The folder cannot be made.
    """
    check_name(encoder, "encoder")
    _check_fields(encoder, fields)
    name = fingerprint_of(recipe)
    feature_set = FeatureSet(
        directory=cache_dir / f"{encoder}-{name[:12]}",
        encoder=encoder,
        fingerprint=name,
        recipe=plain(recipe),
        fields=tuple(fields),
        details=plain(details or {}, "details"),
    )
    if (feature_set.directory / RECIPE_FILE).exists():
        return _same(open_feature_set(feature_set.directory), feature_set)
    make_directory(feature_set.shards)
    make_directory(feature_set.temporary)
    write_recipe(feature_set)
    return feature_set


def write_recipe(feature_set: FeatureSet) -> None:
    """Put recipe.json into the folder of a feature set, replacing the one that is there."""
    value = {
        "format": FORMAT_VERSION,
        "encoder": feature_set.encoder,
        "fingerprint": feature_set.fingerprint,
        "recipe": feature_set.recipe,
        "fields": [field.to_json() for field in feature_set.fields],
        "details": feature_set.details,
    }
    replace_file(feature_set.directory / RECIPE_FILE, _recipe_text(value))


def open_feature_set(directory: Path) -> FeatureSet:
    """The feature set in a folder.

    Raises
    ------
    NoFeatures
        There is no recipe.json.
    CorruptIndex, FutureVersion, FingerprintMismatch
        It cannot be believed, is of a later format, or its recipe is not the one its fingerprint names.
    """
    path = Path(directory) / RECIPE_FILE
    with reading(path):
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NoFeatures(f"{directory}: no feature set there, expected a folder with {RECIPE_FILE}") from None
    return parse_recipe(Path(directory), content)


def parse_recipe(directory: Path, content: bytes) -> FeatureSet:
    """The feature set that the bytes of a recipe.json describe; raises as `open_feature_set`."""
    path = directory / RECIPE_FILE
    try:
        value = parse_json(content)
        version = value["format"]
        if type(version) is int and version > FORMAT_VERSION:
            raise FutureVersion(
                f"{path}: format {version}, this program reads up to {FORMAT_VERSION}. Install a later sentifuse."
            )
        if type(version) is not int or version != FORMAT_VERSION:
            raise ValueError(f"format {version!r}, expected {FORMAT_VERSION}")
        value = unseal(value)
        if content != _recipe_text(value):
            raise ValueError("it is not what a writer writes")
        feature_set = _feature_set_of(directory, value)
        found = fingerprint_of(feature_set.recipe)
    except FutureVersion:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, CacheError) as error:
        raise CorruptIndex(
            f"{path}: {type(error).__name__}: {error}. Run: sentifuse cache repair, which takes it from the shards."
        ) from error
    if found != feature_set.fingerprint:
        raise FingerprintMismatch(
            f"{path}: the recipe's fingerprint is {found[:12]}, the file says {str(feature_set.fingerprint)[:12]}. "
            "The recipe was changed by hand. Run: sentifuse cache repair, which takes it from the shards."
        )
    return feature_set


def list_feature_sets(cache_dir: Path) -> list[FeatureSet]:
    """All feature sets of a dataset, by folder name; folders without a recipe.json are none."""
    with reading(cache_dir):
        if not cache_dir.is_dir():
            return []
        folders = sorted(cache_dir.iterdir())
    return [open_feature_set(folder) for folder in folders if (folder / RECIPE_FILE).is_file()]


def differing_keys(left: Mapping[str, Any], right: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """The dotted keys in which two recipes differ, with both values (None where a key is absent)."""
    differences: list[tuple[str, Any, Any]] = []
    for key in sorted({*left, *right}):
        ours, theirs = left.get(key), right.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            differences += differing_keys(ours, theirs, f"{prefix}{key}.")
        elif key not in left or key not in right or ours != theirs or type(ours) is not type(theirs):
            differences.append((f"{prefix}{key}", ours, theirs))
    return differences


def _feature_set_of(directory: Path, value: Mapping[str, Any]) -> FeatureSet:
    """The feature set of an unsealed recipe.json, checked to the last key. Raises ValueError or CacheError."""
    expected = {
        "format": int,
        "encoder": str,
        "fingerprint": str,
        "recipe": dict,
        "fields": list,
        "details": dict,
    }
    if set(value) != set(expected):
        raise ValueError(f"keys {sorted(value)}, expected {sorted(expected)}")
    wrong = [key for key, kind in expected.items() if type(value[key]) is not kind]
    if wrong:
        raise ValueError(f"{wrong[0]} {value[wrong[0]]!r}, expected a {expected[wrong[0]].__name__}")
    check_name(value["encoder"], "encoder")
    fields = tuple(Field.from_json(field) for field in value["fields"])
    _check_fields(value["encoder"], fields)
    return FeatureSet(
        directory=directory,
        encoder=value["encoder"],
        fingerprint=value["fingerprint"],
        recipe=value["recipe"],
        fields=fields,
        details=value["details"],
    )


def _check_fields(encoder: str, fields: Sequence[Field]) -> None:
    names = [field.name for field in fields]
    if not names or len(set(names)) != len(names):
        raise CacheError(f"encoder {encoder!r}: fields {names}, expected at least one and no name twice")


def _recipe_text(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(seal(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def _same(found: FeatureSet, wanted: FeatureSet) -> FeatureSet:
    if found.fingerprint != wanted.fingerprint or found.encoder != wanted.encoder:
        keys = ", ".join(
            f"{key} {old!r} there, {new!r} here" for key, old, new in differing_keys(found.recipe, wanted.recipe)
        )
        raise FingerprintMismatch(
            f"{found.directory}: made by encoder {found.encoder!r} with fingerprint {found.fingerprint[:12]}, expected "
            f"{wanted.encoder!r} with {wanted.fingerprint[:12]} ({keys}). Move that folder away and extract again."
        )
    if found.fields != wanted.fields:
        raise FingerprintMismatch(
            f"{found.directory}: fields {[field.to_json() for field in found.fields]}, expected "
            f"{[field.to_json() for field in wanted.fields]}. The recipe should name what changed them: raise the "
            "encoder's version, or move that folder away and extract again."
        )
    make_directory(found.shards)
    make_directory(found.temporary)
    with writing(found.directory):
        if not os.access(found.directory, os.W_OK):
            raise PermissionError(13, "Permission denied")
    return found
