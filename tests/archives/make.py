"""Writes the archives: stores of the present format version, and one damaged file for each way to be refused.

    python tests/archives/make.py [FOLDER]

`v1/` was written by version 1 and must be readable for ever; when the format changes, its folder stays and a `v2/`
comes beside it. `rows.json` says what is in it, in numbers that text can hold exactly. `damaged/` has one small store,
files to put in the place of its own, and `expected.csv`, which says what must come of each.
"""

import csv
import json
import lzma
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from damaged_json import damaged_indexes, damaged_journals, damaged_recipes
from damaged_shards import damaged_shards

from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.spec import DTYPES, FORMAT_VERSION, Field, Row
from sentifuse.cache.writer import FeatureWriter

KINDS = (
    Field(name="boxes", dtype="float32", shape=(2, 4)),
    Field(name="grid", dtype="float16", shape=(2, 3)),
    Field(name="label", dtype="uint8", shape=()),
    Field(name="length", dtype="int32", shape=()),
    Field(name="pieces", dtype="int64", shape=(), is_ragged=True),
    Field(name="states", dtype="float32", shape=(2,), is_ragged=True),
)
SMALL = (
    Field(name="grid", dtype="float16", shape=(2, 3)),
    Field(name="states", dtype="float32", shape=(2,), is_ragged=True),
)
IDS = (
    "1",
    "street/night.1.jpg",
    "läuft – 走",
    "🙂 so-so",
    "a" * 300,
    " leading and trailing ",
    "x\ny",
    "nan",
    "0",
    "No",
)
STATUSES = ("ok", "ok", "missing", "ok", "unreadable: cut short", "ok", "failed: out of memory – 走", "ok", "ok", "ok")


# The stores.


def value_of(field: Field, seed: int, length: int) -> Any:
    """Eighths from -8 to 8 and whole numbers: exact in every dtype, and in text."""
    shape = (length, *field.shape) if field.is_ragged else field.shape
    numbers = (np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape) * 37 + 11 * seed) % 128
    if field.dtype.startswith("float"):
        return np.asarray((numbers - 64) / 8, dtype=DTYPES[field.dtype])
    high = 1 << 40 if field.dtype == "int64" else 0
    return np.asarray(numbers + high, dtype=DTYPES[field.dtype])


def row_of(fields: tuple[Field, ...], row_id: str, status: str, seed: int, length: int = 0) -> Row:
    digest = "" if status == "missing" else sha256(f"{row_id} {seed}".encode()).hexdigest()
    if status != "ok":
        return Row(id=row_id, digest=digest, status=status)
    values = {field.name: value_of(field, seed, length) for field in fields}
    return Row(id=row_id, digest=digest, status=status, values=values, batch=seed % 3)


def make_set(folder: Path, encoder: str, fields: tuple[Field, ...], shards: list[list[Row]]) -> FeatureSet:
    """Write shards, each in a commit; the folder is named by the encoder and the recipe."""
    recipe = {"encoder": encoder, "version": 1, "model": {"sha256": "ab" * 32}, "dropout": 0.1, "note": "é"}
    feature_set = create_feature_set(
        folder, encoder=encoder, recipe=recipe, fields=fields, details={"made by": "make.py"}
    )
    with FeatureWriter(feature_set) as writer:
        for number, rows in enumerate(shards):
            writer.commit(writer.stage(number, rows))
    tidy(feature_set)
    return feature_set


def tidy(feature_set: FeatureSet) -> None:
    """Leave what belongs to the store and not to its writer."""
    feature_set.temporary.rmdir()
    feature_set.lock().unlink()


def make_stores(folder: Path) -> None:
    """Every dtype, dense and ragged, every status, a patch; an empty set; no values at all; a compacted set."""
    kinds = [
        [row_of(KINDS, IDS[i], STATUSES[i], i, length=i % 4) for i in range(6)],
        [row_of(KINDS, IDS[i], STATUSES[i], i, length=i % 4) for i in range(6, 10)],
        # The patch: a value for a row that had none, another one for a row that had one, none for a row that had one.
        [row_of(KINDS, IDS[2], "ok", 12, 5), row_of(KINDS, IDS[1], "ok", 13, 0), row_of(KINDS, IDS[0], "missing", 14)],
    ]
    none = [row_of(SMALL, "a", "missing", 0), row_of(SMALL, "b", "failed: no reason given", 1)]
    parts = [[row_of(SMALL, f"{number}", "ok", number, number)] for number in range(3)]
    contents = {
        "kinds": (KINDS, kinds),
        "empty": (SMALL, []),
        "valueless": (SMALL, [none]),
        "compacted": (SMALL, parts),
    }
    expected = {}
    for encoder, (fields, shards) in contents.items():
        feature_set = make_set(folder, encoder, fields, shards)
        if encoder == "compacted":
            with FeatureWriter(feature_set) as writer:
                writer.rewrite([writer.stage(0, [row for rows in shards for row in rows])])
            tidy(feature_set)
        rows = {row.id: row for shard in shards for row in shard}
        expected[feature_set.directory.name] = {row_id: as_json(row) for row_id, row in rows.items()}
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (folder / "rows.json").write_text(text + "\n", encoding="utf-8")
    (folder / "made_with.txt").write_text(f"HDF5 {h5py.version.hdf5_version}\n", encoding="utf-8")


def as_json(row: Row) -> dict[str, Any]:
    values = {name: value.tolist() for name, value in row.values.items()} if row.values is not None else None
    return {"digest": row.digest, "status": row.status, "values": values}


def make_damaged(folder: Path, scratch: Path) -> None:
    rows = [
        row_of(SMALL, "a1", "ok", 1, 1),
        row_of(SMALL, "b2", "ok", 2, 2),
        row_of(SMALL, "é", "missing", 3),
        row_of(SMALL, "d4", "ok", 4, 3),
        row_of(SMALL, "e5", "failed: out of memory", 5),
        row_of(SMALL, "f6", "ok", 6, 0),
    ]
    feature_set = make_set(folder / "base", "small", SMALL, [rows])
    damages = {
        "shard": list(damaged_shards(feature_set, rows, scratch)),
        "journal": list(damaged_journals(feature_set.journal().read_bytes())),
        "index": list(damaged_indexes(feature_set.index.read_bytes(), feature_set.fingerprint)),
        "recipe": list(damaged_recipes((feature_set.directory / "recipe.json").read_bytes())),
    }
    with (folder / "expected.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "when", "record", "error", "message"])
        for kind, of_kind in damages.items():
            (folder / kind).mkdir()
            for damage in of_kind:
                name = damage.name
                content = damage.content
                if kind == "shard":  # mostly the zeros between pages
                    name, content = f"{name}.xz", lzma.compress(content, preset=1)
                (folder / kind / name).write_bytes(content)
                table.writerow([f"{kind}/{name}", damage.when, damage.record, damage.error, damage.message])


def main(folder: Path) -> None:
    """Write everything anew; folders of older versions stay as they are."""
    for part in (folder / f"v{FORMAT_VERSION}", folder / "damaged"):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    make_stores(folder / f"v{FORMAT_VERSION}")
    with tempfile.TemporaryDirectory() as scratch:
        make_damaged(folder / "damaged", Path(scratch))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
