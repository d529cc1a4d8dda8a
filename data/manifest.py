"""The manifest: one row per pair, in the order of first registration; nothing ever leaves it.

A pair gone from its source stays as "withdrawn". Knows no labels, no splits, no features.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from sentifuse import DataError
from sentifuse.data.files import read_table, write_table

FILE_NAME = "manifest.parquet"
FORMAT_VERSION = 1
OK, MISSING, WITHDRAWN = "ok", "missing", "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One row of the manifest.

    `image_path` is POSIX and relative to the manifest's root (an absolute one is allowed), "" when the source names
    none. `text` is as read: decoded, not cleaned, not stripped. `image_digest` is the SHA-256 of the file's bytes,
    `text_digest` of the decoded text in UTF-8; "" when there is none. A status is "ok", "missing", "withdrawn", or
    "unreadable: …" / "undecodable: …" with the reason.
    """

    id: str
    image_path: str
    text: str
    text_encoding: str
    image_digest: str
    text_digest: str
    image_status: str
    text_status: str


COLUMNS = tuple(field.name for field in fields(Pair))


@dataclass(frozen=True, slots=True)
class Manifest:
    """All pairs of one dataset, and the folder their image paths start from."""

    root: Path
    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(pair.id for pair in self.pairs)

    def by_id(self) -> dict[str, Pair]:
        return {pair.id: pair for pair in self.pairs}

    def image_file(self, pair: Pair) -> Path:
        """Where the pair's image lies."""
        return self.root / pair.image_path


def prepare_hint(dataset_dir: Path) -> str:
    """What to type when something of a prepared dataset is missing."""
    name = dataset_dir.name
    own = f"sentifuse data prepare pairs --name {name} --table FILE"
    return f"Run: sentifuse data prepare {name} (for your own table: {own})"


def write_manifest(dataset_dir: Path, manifest: Manifest) -> bool:
    """Write `manifest.parquet` atomically; False when nothing changed."""
    columns = {name: ("string", [getattr(pair, name) for pair in manifest.pairs]) for name in COLUMNS}
    root = manifest.root
    # A root inside the dataset's folder is kept relative, so that the artefacts may be moved.
    stored = root.relative_to(dataset_dir) if root.is_relative_to(dataset_dir) else root
    return write_table(dataset_dir / FILE_NAME, columns, {"version": FORMAT_VERSION, "root": stored.as_posix()})


def read_manifest(dataset_dir: Path) -> Manifest:
    """The manifest of a prepared dataset.

    Raises
    ------
    DataError
        Not prepared yet, or the file is damaged, of another version, or names an id twice.
    """
    hint = prepare_hint(dataset_dir)
    path = dataset_dir / FILE_NAME
    columns, metadata = read_table(path, COLUMNS, hint=hint)
    if metadata.get("version") != FORMAT_VERSION or not isinstance(metadata.get("root"), str):
        raise DataError(f"{path}: expected a manifest of version {FORMAT_VERSION}, found {metadata}. Delete it. {hint}")
    rows = zip(*(columns[name] for name in COLUMNS), strict=True)
    pairs = tuple(Pair(**dict(zip(COLUMNS, row, strict=True))) for row in rows)
    _refuse_duplicates(path, (pair.id for pair in pairs))
    return Manifest(dataset_dir / metadata["root"], pairs)


def merge_manifest(old: Manifest | None, new: Manifest) -> Manifest:
    """The new rows in the order of first registration: known ids keep their place, new ones come last, gone ones stay.

    A gone pair keeps its text and digests; only its two statuses become "withdrawn", so it can come back.
    """
    if old is None:
        return new
    fresh = new.by_id()
    kept = [
        fresh.pop(pair.id) if pair.id in fresh else replace(pair, image_status=WITHDRAWN, text_status=WITHDRAWN)
        for pair in old.pairs
    ]
    return Manifest(new.root, (*kept, *fresh.values()))


def _refuse_duplicates(path: Path, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for id_ in ids:
        if id_ in seen:
            raise DataError(f"{path}: expected every id once, found {id_!r} twice. Delete this file and prepare again")
        seen.add(id_)
