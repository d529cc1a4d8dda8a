"""A small feature set with every kind of field, and rows of every status."""

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from sentifuse.cache.checkup.salvage import LostBatch
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.record import StagedShard
from sentifuse.cache.spec import Array, Field, Row
from sentifuse.cache.writer import FeatureWriter

RECIPE = {"encoder": "tokens", "version": 1, "model": {"sha256": "ab" * 32}, "dropout": 0.1}
FIELDS = (
    Field(name="grid", dtype="float16", shape=(3, 4)),
    Field(name="count", dtype="int32", shape=()),
    Field(name="states", dtype="float32", shape=(5,), is_ragged=True),
    Field(name="pieces", dtype="int64", shape=(), is_ragged=True),
)

MakeRows = Callable[..., list[Row]]


def values_of(seed: int, length: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "grid": rng.normal(size=(3, 4)).astype(np.float16),
        "count": np.array(length, dtype=np.int32),
        "states": rng.normal(size=(length, 5)).astype(np.float32),
        "pieces": rng.integers(0, 1 << 40, size=length),
    }


def row_of(row_id: str, seed: int, *, length: int | None = None) -> Row:
    values = values_of(seed, seed % 4 if length is None else length)
    return Row(id=row_id, digest=sha256(f"{row_id} {seed}".encode()).hexdigest(), status="ok", values=values)


@pytest.fixture
def make_rows() -> MakeRows:
    """rows(start, count): every fifth row has no values; lengths of ragged values go from 0 to 3."""

    def rows(start: int, count: int, *, seed: int = 0) -> list[Row]:
        made = []
        for number in range(start, start + count):
            if number % 5 == 3:
                made.append(Row(id=f"pair é{number}", digest="", status="missing"))
            elif number % 5 == 4:
                made.append(Row(id=f"pair é{number}", digest="cd" * 32, status="unreadable: cut short"))
            else:
                made.append(row_of(f"pair é{number}", number + seed))
        return made

    return rows


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "mvsa_single"


@pytest.fixture
def feature_set(cache_dir: Path) -> FeatureSet:
    return create_feature_set(cache_dir, encoder="tokens", recipe=RECIPE, fields=FIELDS, details={"path": "/x"})


def files_of(directory: Path) -> dict[str, bytes]:
    """Every file of a store but the locks: what two equal stores have in common."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.startswith("lock")
    }


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    return files_of


@pytest.fixture
def make_row() -> Callable[..., Row]:
    return row_of


def assert_holds(reader: object, rows: list[Row]) -> None:
    """The reader gives exactly what the rows say."""
    for row in rows:
        assert reader.status(row.id) == row.status  # type: ignore[attr-defined]
        assert reader.digest(row.id) == row.digest  # type: ignore[attr-defined]
        for name, value in (row.values or {}).items():
            found = reader.value(row.id, name)  # type: ignore[attr-defined]
            assert found.dtype == value.dtype
            assert found.shape == value.shape
            assert found.tobytes() == value.tobytes()


@pytest.fixture
def holds() -> Callable[[object, list[Row]], None]:
    return assert_holds


@dataclasses.dataclass(kw_only=True)
class Store:
    """A whole store of three shards, what its dataset is known to have, and an encoder that gives the same again."""

    feature_set: FeatureSet
    rows: dict[str, Row]
    shards: dict[str, StagedShard]  # by file
    whole: dict[str, bytes]
    asked: list[LostBatch] = dataclasses.field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.feature_set.directory

    @property
    def expected(self) -> dict[str, tuple[str, str]]:
        return {row.id: (row.digest, row.status) for row in self.rows.values()}

    def recompute(self, feature_set: FeatureSet, batches: Sequence[LostBatch]) -> list[Row]:
        self.asked += batches
        return [dataclasses.replace(self.rows[row_id], batch=-1) for batch in batches for row_id in batch.ids]

    def put(self, name: str, content: bytes) -> None:
        (self.directory / name).write_bytes(content)

    def files(self) -> dict[str, bytes]:
        return files_of(self.directory)

    def choose_place(self, rng: random.Random) -> tuple[str, int]:
        """A file and a place in it: anywhere in the store, in some dataset, or in one of the small files."""
        names = sorted(self.whole)
        kind = rng.randrange(3)
        if kind == 0:
            name = rng.choices(names, [len(self.whole[name]) for name in names])[0]
        elif kind == 1:
            name = rng.choice(sorted(self.shards))
            place = rng.choice([place for place in self.shards[name].proof.datasets if place.size_bytes])
            return name, place.offset_bytes + rng.randrange(place.size_bytes)
        else:
            name = rng.choice([name for name in names if name not in self.shards])
        return name, rng.randrange(len(self.whole[name]))

    def ids(self, name: str) -> list[str]:
        number = self.shards[name].number
        return list(self.rows)[number * SHARD_ROWS : (number + 1) * SHARD_ROWS]

    def places(self, name: str) -> Iterator[tuple[str, int, str, list[tuple[int, int]]]]:
        """Of each row with values of a shard: id, batch and where its bytes lie."""
        content, shard = self.whole[name], self.shards[name]
        places = {place.name: place for place in shard.proof.datasets}
        slot = 0
        for row_id, batch in zip(self.ids(name), shard.proof.row_batch.tolist(), strict=True):
            if self.rows[row_id].values is None:
                continue
            ranges = []
            for field in self.feature_set.fields:
                first, last = slot, slot + 1
                place = places[f"fields/{field.name}" + ("/values" if field.is_ragged else "")]
                if field.is_ragged:
                    start = places[f"fields/{field.name}/offsets"].offset_bytes
                    first, last = np.frombuffer(content, "<i8", count=2, offset=start + 8 * slot).tolist()
                size = field.element_bytes
                ranges.append((place.offset_bytes + first * size, place.offset_bytes + last * size))
            slot += 1
            yield row_id, batch, name, ranges


SHARD_ROWS = 30
BATCH_ROWS = 4


@pytest.fixture
def store(feature_set: FeatureSet) -> Store:
    """Three shards, the last one smaller; rows of every status, batches of four."""
    rows: list[Row] = []
    for number in range(2 * SHARD_ROWS + 17):
        if number % 11 == 3:
            rows.append(Row(id=f"pair é{number}", digest="", status="missing"))
        elif number % 11 == 7:
            rows.append(Row(id=f"pair é{number}", digest="cd" * 32, status="unreadable: cut short"))
        else:
            rows.append(row_of(f"pair é{number}", number))
    with FeatureWriter(feature_set) as writer:
        for number in range(3):
            part, seen = [], 0
            for row in rows[number * SHARD_ROWS : (number + 1) * SHARD_ROWS]:
                part.append(dataclasses.replace(row, batch=seen // BATCH_ROWS) if row.values is not None else row)
                seen += row.values is not None
            writer.commit(writer.stage(number, part))
        shards = {shard.file: shard for shard in writer.shards}
    return Store(
        feature_set=feature_set,
        rows={row.id: row for row in rows},
        shards=shards,
        whole=files_of(feature_set.directory),
    )


def flip(content: bytes, rng: random.Random, at: int | None = None) -> tuple[int, bytes]:
    """The place of a turned bit, and what the file is then."""
    at = rng.randrange(len(content)) if at is None else at
    return at, content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def spoil_page(content: bytes, rng: random.Random, at: int | None = None) -> tuple[int, bytes]:
    """A page of zeros, or the file cut off there."""
    at = rng.randrange(len(content)) if at is None else at
    zeros = bytes(min(4096, len(content) - at))
    return at, content[:at] + (zeros + content[at + 4096 :] if rng.random() < 0.6 else b"")


@pytest.fixture
def damages() -> dict[str, Callable[..., tuple[int, bytes]]]:
    return {"flip": flip, "page": spoil_page}
