"""A small feature set with every kind of field, and rows of every status."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.spec import Array, Field, Row

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
