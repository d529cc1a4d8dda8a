"""Makes a whole shard file, by anyone, anywhere; whether it counts is the writer's business. Holds no lock.

Temporary name, write, fsync, SHA-256, rename, fsync of the folder: at no moment is there a file under a shard's name
that is not whole.
"""

import contextlib
import os
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sentifuse.cache.errors import BadRow, writing
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.files import fsync_directory, sha256_of
from sentifuse.cache.record import ShardRecord, StagedShard
from sentifuse.cache.shard_file import write_shard_file
from sentifuse.cache.spec import ALIGNMENT_BYTES, DIGEST_BYTES, MAX_STATUS_BYTES, Row, is_finite

__all__ = ["check_rows", "stage_shard"]


def stage_shard(feature_set: FeatureSet, number: int, rows: Sequence[Row]) -> StagedShard:
    """Write rows as a whole shard under its final name; it counts once a writer commits it.

    Needs no lock and no writer, so it may run in any process. May run twice: the same rows give the same file.

    Raises
    ------
    BadRow
        Something that must not be stored; nothing was written.
    DiskFull, Unwritable
        No temporary file is left. When it was the folder that could not be forced to the disk, the shard is there under
        its name, whole and not committed; the next writer of the set removes it.
    """
    if type(number) is not int or number < 0:
        raise BadRow(f"{feature_set.directory}: shard number {number!r}, expected a whole number from 0")
    check_rows(feature_set, rows)
    temporary = feature_set.temporary / f"{number:06d}.{uuid.uuid4().hex}.h5"
    try:
        with writing(feature_set.directory, needed_bytes=_size_estimate(feature_set, rows)):
            counts, proof = write_shard_file(temporary, feature_set, number, rows)
            size_bytes = temporary.stat().st_size
            with ThreadPoolExecutor(1) as pool, temporary.open("rb") as file:
                # The disk is the slower one: the digest is done while the bytes are still on their way.
                digest = pool.submit(sha256_of, temporary)
                os.fsync(file.fileno())
                sha256 = digest.result()
            name = f"{number:06d}-{sha256[:12]}.h5"
            temporary.replace(feature_set.shards / name)
            fsync_directory(feature_set.shards)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    record = ShardRecord(
        file=f"shards/{name}",
        number=number,
        rows=len(rows),
        ok=counts.get("ok", 0),
        counts=counts,
        sha256=sha256,
        size_bytes=size_bytes,
    )
    return StagedShard(record=record, proof=proof)


def check_rows(feature_set: FeatureSet, rows: Sequence[Row]) -> None:
    """Refuse rows that must not be stored.

    Raises
    ------
    BadRow
        No rows at all, an id twice, a field missing or unknown, a wrong dtype or shape, NaN or infinity.
    """
    if not rows:
        raise BadRow(f"{feature_set.directory}: a shard of no rows, expected at least one")
    twice = [row_id for row_id, count in Counter(row.id for row in rows).items() if count > 1]
    if twice:
        raise BadRow(f"{feature_set.directory}: id {twice[0]!r} more than once in one shard")
    names = {field.name for field in feature_set.fields}
    for row in rows:
        if row.values is None:
            continue
        if set(row.values) != names:
            raise BadRow(f"row {row.id!r}: fields {sorted(row.values)}, expected {sorted(names)}")
        for field in feature_set.fields:
            value = row.values[field.name]
            field.check(value, row.id)
            if not is_finite(value):
                raise BadRow(
                    f"row {row.id!r}, field {field.name!r}: NaN or infinity. The encoder's output is not usable; "
                    "the row belongs into the store as 'failed: …', not as values"
                )


def _size_estimate(feature_set: FeatureSet, rows: Sequence[Row]) -> int:
    """About how many bytes the shard of these rows takes, for the message of a full disk."""
    values = sum(np.asarray(value).nbytes for row in rows if row.values for value in row.values.values())
    per_row = DIGEST_BYTES + MAX_STATUS_BYTES // 4 + 64
    return values + len(rows) * per_row + ALIGNMENT_BYTES * (8 + 2 * len(feature_set.fields))
