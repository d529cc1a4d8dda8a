"""`.npz` files, one a row: folders of the MILVLG bottom-up-attention extractor come in, ours go both ways.

A zip is read member by member, each no larger than it says and no larger than one value may be. MILVLG's `info` is a
pickle; it goes through the restricted unpickler.
"""

# Shapes: R regions of an image, D features of a region.

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sentifuse.cache.errors import BadSource, BadSourceRow, reading
from sentifuse.cache.interchange.arrays import MAX_VALUE_BYTES, npy_bytes, read_npy
from sentifuse.cache.interchange.exported import ExportedSource
from sentifuse.cache.interchange.header import has_header
from sentifuse.cache.interchange.regions import Detections, region_fields, region_values
from sentifuse.cache.interchange.source import (
    ImportOptions,
    RowRecord,
    Source,
    id_text,
    refuse_repeated,
    source_digest,
)
from sentifuse.cache.spec import Array, Field, Row

__all__ = ["NpzFolder", "NpzRows", "open_source", "read_members", "write_rows"]

_INFO_EXTRAS = {
    "objects_id": "object_ids",
    "objects_conf": "object_scores",
    "attrs_id": "attribute_ids",
    "attrs_conf": "attribute_scores",
}
_MAX_NAME_BYTES = 200  # file systems allow 255, and some of it is ours


def open_source(path: Path, options: ImportOptions) -> Source:
    """A folder of `.npz` files: an export of ours if it has an export.json, else MILVLG's. Raises BadSource."""
    if has_header(path):
        return ExportedSource(path, "npz", NpzRows, options)
    return NpzFolder(path, options)


class NpzFolder:
    """The `.npz` files below a folder, one an image; see `Source`. Nothing but ids and paths is kept in memory."""

    def __init__(self, folder: Path, options: ImportOptions) -> None:
        options.refuse_others("npz", ("dtype", "ids_from", "id_prefix"))
        self.options = options
        self.header = None
        self.records: tuple[RowRecord, ...] = ()
        with reading(folder):
            self._paths = sorted(folder.rglob("*.npz")) if folder.is_dir() else []
        if not self._paths:
            raise BadSource(f"{folder}: no .npz files there, expected a folder with one for each image")
        names = [path.relative_to(folder).as_posix().removesuffix(".npz") for path in self._paths]
        if options.ids_from == "info":
            names = [id_text(_info(path).get("image_id"), f"{path}: info: image_id") for path in self._paths]
        elif options.ids_from is None:
            _refuse_other_name(self._paths[0], names[0])
        self.ids = [(options.id_prefix or "") + name for name in names]
        refuse_repeated(self.ids, folder)
        self.sha256 = source_digest((path.relative_to(folder).as_posix(), path) for path in self._paths)
        self.fields = region_fields(self.read(0))

    def read(self, number: int) -> Mapping[str, Array]:
        """The fields of one image: features, boxes, and what `info` says of them if it is there."""
        path = self._paths[number]
        members = read_members(path)
        missing = [name for name in ("x", "bbox", "num_bbox", "image_h", "image_w") if name not in members]
        if missing:
            raise BadSourceRow(f"{path}: no array {', '.join(missing)}; there are: {', '.join(sorted(members))}")
        arrays = {name: read_npy(content, f"{path}: {name}") for name, content in members.items() if name != "info"}
        info = _info_of(members["info"], path) if "info" in members else {}
        count = _whole(arrays["num_bbox"], f"{path}: num_bbox")
        if count != len(arrays["x"]) or info.get("num_boxes", count) != count:
            raise BadSourceRow(
                f"{path}: num_bbox is {count}, x has {len(arrays['x'])} rows, info says {info.get('num_boxes', count)}"
            )
        detections = Detections(
            features=arrays["x"],
            boxes=arrays["bbox"],
            size=(_whole(arrays["image_w"], f"{path}: image_w"), _whole(arrays["image_h"], f"{path}: image_h")),
            extras={name: np.asarray(info[key]) for key, name in _INFO_EXTRAS.items() if key in info},
        )
        return region_values(detections, self.options.dtype, str(path))


def read_members(path: Path, names: Sequence[str] | None = None) -> dict[str, bytes]:
    """The bytes of an `.npz` file's arrays by name, or of some of them.

    Raises
    ------
    BadSourceRow
        No zip, a damaged one, or one whose members are too large, encrypted or of one name.
    """
    with reading(path):
        content = path.read_bytes()
    return _unzip(content, path, names)


def _unzip(content: bytes, path: Path, names: Sequence[str] | None = None) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            found = [info.filename.removesuffix(".npy") for info in members]
            too_large = [info for info in members if info.file_size > MAX_VALUE_BYTES]
            if too_large:
                raise BadSourceRow(
                    f"{path}: {too_large[0].filename} unpacks to {too_large[0].file_size:,} bytes, expected at most "
                    f"{MAX_VALUE_BYTES:,} for one value"
                )
            if len(set(found)) != len(found):
                raise BadSourceRow(f"{path}: two arrays of one name")
            chosen = [info for info, name in zip(members, found, strict=True) if names is None or name in names]
            return {info.filename.removesuffix(".npy"): archive.read(info) for info in chosen}
    except BadSourceRow:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, LookupError) as error:
        raise BadSourceRow(f"{path}: no .npz file, or a damaged one ({error}). Was it cut short?") from error


def _refuse_other_name(path: Path, name: str) -> None:
    """Features under another pair's id would be believed; the first file tells whether the names can be meant."""
    try:
        said = _info(path).get("image_id")
    except BadSourceRow:
        return  # it says nothing of its own
    if said is not None and str(said) != name:
        raise BadSource(
            f"{path}: the file's name says {name!r}, the info in it says image_id {said!r}. Say which of them is the "
            "pair's id: --ids-from info or --ids-from name"
        )


def _info(path: Path) -> dict[str, Any]:
    members = read_members(path, ["info"])
    if "info" not in members:
        raise BadSourceRow(f"{path}: no info in it, which should have the id. Say: --ids-from name")
    return _info_of(members["info"], path)


def _info_of(content: bytes, path: Path) -> dict[str, Any]:
    value = read_npy(content, f"{path}: info")
    info = value.item() if value.shape == () else None
    if not isinstance(info, dict):
        raise BadSourceRow(f"{path}: info is no dict")
    return info


def _whole(array: Array, where: str) -> int:
    if array.shape != () or array.dtype.kind not in "iu":
        raise BadSourceRow(f"{where}: {array.dtype} {array.shape}, expected a whole number")
    return int(array)


# Exports of ours: pieces `000000.jsonl` with a line for each row, and `values/<id>.npz` for each row with values.


def write_rows(folder: Path, piece: int, fields: Sequence[Field], rows: Sequence[Row]) -> list[str]:
    """Write one `.npz` a row, named by its id where a file can be, and the list of them. Raises OSError."""
    values = folder / "values"
    values.mkdir(exist_ok=True)
    lines = []
    for place, row in enumerate(rows):
        record: dict[str, Any] = {"id": row.id, "digest": row.digest, "status": row.status}
        if row.values is not None:
            content = _zip({field.name: np.asarray(row.values[field.name]) for field in fields})
            name = _file_name(row.id, piece, place)
            with (values / name).open("xb") as file:
                file.write(content)
            record |= {"file": name, "sha256": sha256(content).hexdigest()}
        lines.append(json.dumps(record) + "\n")  # ASCII: no id can break a line
    name = f"{piece:06d}.jsonl"
    (folder / name).write_text("".join(lines), encoding="utf-8", newline="")
    return [name]


class NpzRows:
    """One list of rows; see `RowFile`."""

    def __init__(self, path: Path, fields: Sequence[Field]) -> None:
        self._path = path
        self._fields = fields
        with reading(path):
            content = path.read_bytes()
        try:
            self._rows = [json.loads(line) for line in content.split(b"\n") if line]
            self._records = [(row["id"], row["digest"], row["status"]) for row in self._rows]
        except (ValueError, KeyError, TypeError) as error:
            raise BadSource(f"{path}: no list of rows ({error}). Copy or export it again") from error

    def records(self) -> list[RowRecord]:
        return self._records

    def read(self, place: int) -> Mapping[str, Array]:
        name, digest = str(self._rows[place].get("file", "")), self._rows[place].get("sha256")
        if Path(name).name != name or not name:
            raise BadSource(f"{self._path}: file {name!r}, expected a plain name")
        path = self._path.parent / "values" / name
        with reading(path):
            content = path.read_bytes()
        if sha256(content).hexdigest() != digest:
            raise BadSource(f"{path}: not the bytes that were exported. Copy or export it again")
        members = _unzip(content, path)
        if set(members) != {field.name for field in self._fields}:
            raise BadSource(f"{path}: arrays {', '.join(sorted(members))}, expected those of export.json")
        return {field.name: read_npy(members[field.name], f"{path}: {field.name}") for field in self._fields}


def _zip(values: Mapping[str, Array]) -> bytes:
    """The bytes of an `.npz`, uncompressed. numpy's own savez cannot hold an array named `file`."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in values.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy_bytes(value))  # ZipInfo: no clock in the bytes
    return file.getvalue()


def _file_name(row_id: str, piece: int, place: int) -> str:
    """`<id>.npz`, with %XX for what a file name cannot have; a number, after an @ that no id keeps, for long ids."""
    name = quote(row_id, safe=" ")
    return f"{name}.npz" if len(name) <= _MAX_NAME_BYTES else f"@{piece:06d}-{place:06d}.npz"
