"""Does the cache work here? A small store in a folder of the caller: written, proved, damaged, read, locked.

Every function raises a CacheError that says what went wrong, or returns one line about what was seen. What other
rooms do with a store is not looked at.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sentifuse.cache.checkup.verify import verify
from sentifuse.cache.errors import CacheError, Locked
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.lock import WriterLock
from sentifuse.cache.reader import READERS, FeatureReader
from sentifuse.cache.spec import Array, Field, Row
from sentifuse.cache.writer import FeatureWriter

__all__ = ["check_damage", "check_lock", "check_rows"]

FIELDS = (
    Field(name="features", dtype="float32", shape=(6, 16)),
    Field(name="count", dtype="int32", shape=()),
    Field(name="states", dtype="float16", shape=(8,), is_ragged=True),
)
ROWS = 24
DAMAGED = "pair 7"


def check_lock(folder: Path) -> str:
    """Whether a lock in this folder keeps a second holder out, and lets it in when it is given back."""
    with _place(folder) as place:
        first, second = WriterLock(place / "lock"), WriterLock(place / "lock")
        first.acquire()
        try:
            second.acquire()
        except Locked:
            pass
        else:
            second.release()
            raise CacheError(f"{folder}: two writers got the lock of one file; expected the second to be refused")
        finally:
            first.release()
        second.acquire()
        second.release()
    return "a second holder out until the first lets go"


def check_rows(folder: Path) -> str:
    """Whether rows come back as they were written, through every reader, and a second writer is refused."""
    rows = _rows()
    with _store(folder, rows) as feature_set:
        report = verify(feature_set.directory, deep=True)
        if report.faults:
            raise CacheError(f"{report.faults[0].file}: just written, and {report.faults[0].problem}")
        for kind in READERS:
            reader = FeatureReader(feature_set, reader=kind)
            reader.prove()
            for row in rows:
                _compare(reader, row, kind)
        with FeatureWriter(feature_set):
            _refuse_second_writer(feature_set)
    return f"{len(rows)} rows written, proved and read back by {' and '.join(READERS)}; a second writer is refused"


def check_damage(folder: Path) -> str:
    """Whether one turned bit is found, and the row that it hits is named."""
    rows = _rows()
    with _store(folder, rows) as feature_set:
        (shard,) = sorted(feature_set.shards.glob("*.h5"))
        content = bytearray(shard.read_bytes())
        values = next(row.values for row in rows if row.id == DAMAGED)
        assert values is not None
        content[content.index(values["features"].tobytes())] ^= 1
        shard.write_bytes(content)
        report = verify(feature_set.directory, deep=True)
        named = {row for fault in report.faults for row in fault.rows}
        if named != {DAMAGED}:
            seen = f"found {', '.join(sorted(named)) or 'nothing'}"
            raise CacheError(f"{shard.name}: a bit of {DAMAGED!r} was turned, a deep check {seen}; expected that row")
        return f"a turned bit is found, its row {DAMAGED!r} and no other named"


@contextmanager
def _place(folder: Path) -> Iterator[Path]:
    try:
        with TemporaryDirectory(prefix=".sentifuse-self-test-", dir=folder) as place:
            yield Path(place)
    except OSError as error:
        raise CacheError(
            f"{folder}: nothing can be written there ({error.strerror or error}). Choose a folder you may write to "
            "with --artifacts"
        ) from error


@contextmanager
def _store(folder: Path, rows: list[Row]) -> Iterator[FeatureSet]:
    with _place(folder) as place:
        recipe = {"encoder": "tokens", "version": 1, "model": {"digest": "00" * 32}}
        feature_set = create_feature_set(place, encoder="tokens", recipe=recipe, fields=FIELDS, details={})
        with FeatureWriter(feature_set) as writer:
            writer.commit(writer.stage(0, rows))
        yield feature_set


def _rows() -> list[Row]:
    """Rows of every kind; the fifth and every fifth after it have no values."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        name = f"pair {number}"
        if number % 5 == 4:
            rows.append(Row(id=name, digest="", status="missing"))
            continue
        values: dict[str, Array] = {
            "features": random.standard_normal((6, 16)).astype(np.float32),
            "count": np.array(number, dtype=np.int32),
            "states": random.standard_normal((number % 4, 8)).astype(np.float16),
        }
        rows.append(Row(id=name, digest=sha256(name.encode()).hexdigest(), status="ok", values=values))
    return rows


def _compare(reader: FeatureReader, row: Row, kind: str) -> None:
    if (reader.status(row.id), reader.digest(row.id)) != (row.status, row.digest):
        raise CacheError(f"row {row.id!r} read by {kind}: status or digest are not what was written")
    for name, value in (row.values or {}).items():
        found = reader.value(row.id, name)
        if found.dtype != value.dtype or found.shape != value.shape or found.tobytes() != value.tobytes():
            raise CacheError(f"row {row.id!r} read by {kind}: {name} is not what was written")


def _refuse_second_writer(feature_set: FeatureSet) -> None:
    try:
        with FeatureWriter(feature_set):
            pass
    except Locked:
        return
    raise CacheError(f"{feature_set.directory}: a second writer was let in; expected it to be refused")
