"""export.json: what an export of this program holds, and a digest of each of its files. Knows no format of values.

It makes an export able to come back: with its recipe, its fields and its statuses, or not at all.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse.cache.checksum import seal, unseal
from sentifuse.cache.errors import BadSource, FutureVersion, reading
from sentifuse.cache.files import replace_file, sha256_of
from sentifuse.cache.fingerprint import fingerprint as fingerprint_of
from sentifuse.cache.spec import Field

__all__ = ["HEADER_FILE", "ExportHeader", "ExportedFile", "has_header", "peek_header", "read_header", "write_header"]

HEADER_FILE = "export.json"
EXPORT_FORMAT = "sentifuse-export"
EXPORT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """One file that lists rows: its name in the export, how many rows, and its digest."""

    file: str
    rows: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return {"file": self.file, "rows": self.rows, "sha256": self.sha256}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportHeader:
    """What stands in export.json.

    Attributes
    ----------
    layout : str
        The export format: npz, parquet, safetensors or webdataset.
    encoder, fingerprint, recipe, fields, details
        Those of the feature set.
    files : sequence of ExportedFile
        In the order of their rows.
    """

    layout: str
    encoder: str
    fingerprint: str
    recipe: Mapping[str, Any]
    fields: tuple[Field, ...]
    details: Mapping[str, Any]
    files: tuple[ExportedFile, ...]

    @property
    def row_count(self) -> int:
        return sum(file.rows for file in self.files)


def has_header(folder: Path) -> bool:
    """Whether this folder is an export of this program."""
    return (folder / HEADER_FILE).is_file()


def write_header(folder: Path, header: ExportHeader) -> None:
    """Write export.json, the last file of an export."""
    value = {
        "format": EXPORT_FORMAT,
        "version": EXPORT_VERSION,
        "layout": header.layout,
        "encoder": header.encoder,
        "fingerprint": header.fingerprint,
        "recipe": header.recipe,
        "fields": [field.to_json() for field in header.fields],
        "details": header.details,
        "files": [file.to_json() for file in header.files],
    }
    text = json.dumps(seal(value), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    replace_file(folder / HEADER_FILE, text.encode("utf-8") + b"\n")


def read_header(folder: Path, layout: str) -> ExportHeader:
    """What export.json says, after every file it names was compared with its digest.

    Raises
    ------
    BadSource
        No export, one of another format, or files that are not those that were exported.
    FutureVersion
        Written by a later version of this program.
    """
    header = peek_header(folder, layout)
    if header.layout != layout:
        raise BadSource(
            f"{folder / HEADER_FILE}: an export as {header.layout}, not as {layout}. Say: --format {header.layout}"
        )
    for file in header.files:
        _verify(folder, file)
    return header


def peek_header(folder: Path, layout: str = "an export") -> ExportHeader:
    """What export.json says, its own checksum compared but no other file. Raises BadSource, FutureVersion."""
    path = folder / HEADER_FILE
    with reading(path):
        if not path.is_file():
            raise BadSource(
                f"{folder}: no {HEADER_FILE} there. As {layout} only what `sentifuse cache export` wrote can be "
                "imported; of files made by others: tsv, npz, npy and pickle"
            )
        content = path.read_bytes()
    return _parse(path, content)


def _parse(path: Path, content: bytes) -> ExportHeader:
    try:
        value = json.loads(content)
        if value["format"] != EXPORT_FORMAT:
            raise ValueError(f"format {value['format']!r}, expected {EXPORT_FORMAT!r}")
        if type(value["version"]) is int and value["version"] > EXPORT_VERSION:
            raise FutureVersion(
                f"{path}: version {value['version']}, this program reads up to {EXPORT_VERSION}. "
                "Install a later sentifuse."
            )
        value = unseal(value)
        header = ExportHeader(
            layout=value["layout"],
            encoder=value["encoder"],
            fingerprint=value["fingerprint"],
            recipe=value["recipe"],
            fields=tuple(Field.from_json(field) for field in value["fields"]),
            details=value["details"],
            files=_files(value["files"]),
        )
        found = fingerprint_of(header.recipe)
        if found != header.fingerprint:
            raise ValueError(f"the recipe's fingerprint is {found[:12]}, not {header.fingerprint[:12]}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadSource(f"{path}: {type(error).__name__}: {error}. The file was changed: export again") from error
    return header


def _files(values: Sequence[Mapping[str, Any]]) -> tuple[ExportedFile, ...]:
    files = tuple(ExportedFile(**value) for value in values)
    for file in files:
        if Path(file.file).name != file.file or file.file in ("", "..") or type(file.rows) is not int:
            raise ValueError(f"file {file.file!r}, expected a plain name")
    return files


def _verify(folder: Path, file: ExportedFile) -> None:
    path = folder / file.file
    with reading(path):
        found = sha256_of(path)
    if found != file.sha256:
        raise BadSource(
            f"{path}: SHA-256 {found[:12]}, {HEADER_FILE} says {file.sha256[:12]}: it was changed or cut short. "
            "Copy or export it again"
        )
