"""Is a feature set what was written? Says in which file, part and rows it is not. Changes nothing, needs no lock.

Quick looks at sizes, seals, HDF5 metadata and what the files say of each other; deep reads every byte as well. Damage
is never an error here: all of it comes back as faults. What a writer is doing meanwhile is none.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sentifuse.cache.checkup.evidence import JOURNAL, Evidence, Witness, reason_of, weigh
from sentifuse.cache.checkup.faults import FILE, MANIFEST, METADATA, ROWS, Fault, Report
from sentifuse.cache.checkup.guess import Expected
from sentifuse.cache.checkup.recognise import find_row_proof
from sentifuse.cache.checkup.salvage import Salvage, is_imported
from sentifuse.cache.checkup.scan import Scan, scan
from sentifuse.cache.errors import CacheError, CorruptShard, FingerprintMismatch, FutureVersion
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.record import ShardProof, StagedShard
from sentifuse.cache.shard import ShardLayout, proof_of, read_layout
from sentifuse.cache.spec import Array

__all__ = ["shard_bytes", "verify"]

_THREADS = 2  # SHA-256 and reading let other threads run; more than two outrun most disks
_SHOWN = 3


def verify(
    directory: Path,
    *,
    deep: bool = True,
    expected: Expected | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Check the feature set in a folder.

    Parameters
    ----------
    deep
        Read every byte: SHA-256 of each shard, finite values, rows of zeros. Otherwise metadata only.
    expected
        What the dataset has, in manifest order: to be compared with what is stored.
    progress
        Called with the number of bytes newly read, from several threads.
    """
    started = time.perf_counter()
    evidence = weigh(directory)
    check = _Check(evidence.feature_set, deep=deep, expected=expected, progress=progress or (lambda count: None))
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(check.shard, evidence.shards))
    found = [_unless_replaced(one, directory) for one in found]
    faults = [*evidence.faults, *(fault for one in found for fault in one.faults)]
    remarks = [*evidence.remarks, *(remark for one in found for remark in one.remarks)]
    if expected is not None:
        _compare(evidence, found, expected, faults, remarks)
    return Report(
        directory=directory,
        encoder=evidence.feature_set.encoder if evidence.feature_set else directory.name.rpartition("-")[0],
        is_deep=deep,
        faults=tuple(faults),
        remarks=tuple(remarks),
        shards=len(evidence.shards),
        rows=sum(witness.record.rows for witness in evidence.shards),
        ok=sum(witness.record.ok for witness in evidence.shards),
        bytes_read=sum(one.bytes_read for one in found),
        seconds=time.perf_counter() - started,
    )


def shard_bytes(directory: Path) -> int:
    """Bytes of all shard files in a feature set's folder: what a deep check reads."""
    folder = directory / "shards"
    return sum(path.stat().st_size for path in folder.glob("*.h5")) if folder.is_dir() else 0


@dataclass(slots=True, kw_only=True)
class _Found:
    """One shard, checked; `rows` is None when its ids could not be read."""

    witness: Witness
    faults: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    rows: list[tuple[str, str, str]] | None = None  # id, digest, status
    bytes_read: int = 0


class _Check:
    """The checks of shards, one at a time, in any thread."""

    def __init__(
        self,
        feature_set: FeatureSet | None,
        *,
        deep: bool,
        expected: Expected | None,
        progress: Callable[[int], None],
    ) -> None:
        self.feature_set = feature_set
        self.deep = deep
        self.expected = expected
        self.progress = progress

    def shard(self, witness: Witness) -> _Found:
        """Check one shard."""
        found = _Found(witness=witness)
        if self.feature_set is None:
            self._fault(found, FILE, "not checked: nothing says what this feature set is", remedy="extract")
            return found
        path = self.feature_set.directory / witness.record.file
        if not path.exists():
            rows = f"{witness.record.rows:,} rows are gone"
            self._fault(found, FILE, f"missing, but journal or index names it: {rows}")
            return found
        layout, problem = self._layout(self.feature_set, witness)
        if layout is not None:
            found.rows = list(zip(layout.ids, layout.digests, layout.statuses, strict=True))
        if not self.deep:
            if problem is not None:
                self._fault(found, FILE, reason_of(problem), remedy=_remedy(problem))
            elif layout is not None:
                self._compare_columns(found, self.feature_set, layout)
        else:
            self._deep(found, self.feature_set, path, layout, problem)
        return found

    def _layout(self, feature_set: FeatureSet, witness: Witness) -> tuple[ShardLayout, None] | tuple[None, CacheError]:
        try:
            return read_layout(feature_set, witness.record), None
        except CacheError as error:
            return None, _better_reason(feature_set, witness, error)

    def _deep(
        self,
        found: _Found,
        feature_set: FeatureSet,
        path: Path,
        layout: ShardLayout | None,
        problem: CacheError | None,
    ) -> None:
        record = found.witness.record
        try:
            seen = scan(path, feature_set, layout, self._told(found))
        except OSError as error:
            self._fault(found, FILE, f"cannot be read: {error.strerror}")
            self._locate(found, feature_set, problem)
            return
        if seen.sha256 != record.sha256:
            self._locate(found, feature_set, problem)
        elif problem is not None:
            self._fault(found, FILE, f"committed like this: {reason_of(problem)}", remedy=_remedy(problem))
        elif layout is not None:
            self._refute_line(found, feature_set, layout)
            self._judge(found, layout, seen, is_imported=is_imported(feature_set))

    def _told(self, found: _Found) -> Callable[[int], None]:
        def tell(count: int) -> None:
            found.bytes_read += count
            self.progress(count)

        return tell

    def _judge(self, found: _Found, layout: ShardLayout, seen: Scan, *, is_imported: bool) -> None:
        """A file that is the one committed may still have been written wrong: training proves rows, not files."""
        for name, is_infinite in seen.is_infinite.items():
            if is_infinite.any():
                self._fault(found, f"fields/{name}", "NaN or infinite values", rows=_ids(layout, is_infinite))
        zeros = _ids(layout, seen.is_zero)
        if zeros and is_imported:
            shown, more = ", ".join(zeros[:_SHOWN]), " …" if len(zeros) > _SHOWN else ""
            found.remarks.append(
                f"{found.witness.record.file}: {len(zeros):,} imported rows are all zeros: {shown}{more}"
            )
        elif zeros:
            self._fault(found, ROWS, "all values are zero, which no encoder gives", rows=zeros)
        named = {row for fault in found.faults for row in fault.rows}
        lost = _ids(layout, seen.row_crc32c != layout.crc32c) if seen.row_crc32c is not None else ()
        lost = tuple(row_id for row_id in lost if row_id not in named)
        if lost:
            wrong = f"{len(lost):,} of {len(layout.ids):,} rows: committed with a checksum that does not fit"
            self._fault(found, ROWS, wrong, rows=lost)

    def _locate(self, found: _Found, feature_set: FeatureSet, problem: CacheError | None) -> None:
        """Say what of a file that is not the one committed is damaged."""
        record = found.witness.record
        proof = found.witness.proof or find_row_proof(feature_set, record)
        if proof is None:
            reason = reason_of(problem) if problem else "another SHA-256"
            self._fault(found, FILE, f"damaged ({reason}), and its journal line is lost too")
            return
        with Salvage(feature_set, StagedShard(record=record, proof=proof), self.expected) as saved:
            self._say_damage(found, saved, problem)
            found.bytes_read += saved.bytes_read
            if all(row_id is not None for row_id in saved.ids) and saved.are_ids_sure:
                rows = zip(saved.ids, saved.digests, saved.statuses, strict=True)
                found.rows = [(row_id or "", digest or "", status or "") for row_id, digest, status in rows]

    def _say_damage(self, found: _Found, saved: Salvage, problem: CacheError | None) -> None:
        record = found.witness.record
        lost = tuple(saved.name(position) for position in saved.lost)
        remedy = "import" if saved.lost and saved.is_imported else "repair"
        is_cut = saved.size_bytes != record.size_bytes
        if is_cut:
            known = f"; {reason_of(problem)}" if isinstance(problem, FutureVersion | FingerprintMismatch) else ""
            wrong = f"{saved.size_bytes:,} bytes, expected {record.size_bytes:,}{known}"
            self._fault(found, FILE, wrong, rows=lost)
        for part, places in saved.damage.items():
            rows = tuple(saved.name(position) for position in places) or lost
            self._fault(found, part, "not the bytes that were written", rows=rows)
        if lost:
            what = "the checksum of the row does not fit"
            self._fault(found, ROWS, f"{len(lost):,} of {record.rows:,} rows: {what}", rows=lost, remedy=remedy)
        if not is_cut and not saved.damage and (not lost or _is_unreadable(problem)):
            known = f"; {reason_of(problem)}" if problem is not None else ""
            where = "elsewhere as well" if lost else "all rows are whole"
            self._fault(found, METADATA, f"{where}{known}")

    def _refute_line(self, found: _Found, feature_set: FeatureSet, layout: ShardLayout) -> None:
        """Of a file that is the one committed: whether the journal's line says what the file does."""
        proof = found.witness.proof
        if proof is not None and not _says_same(proof, proof_of(feature_set, layout)):
            record = found.witness.record
            wrong = f"says of shard {record.number} what its file does not"
            found.faults.append(Fault(file=JOURNAL, part=JOURNAL, shard=record.number, problem=wrong))

    def _compare_columns(self, found: _Found, feature_set: FeatureSet, layout: ShardLayout) -> None:
        """Of a file that was not read: whether its columns are those that the sealed line of the journal names."""
        proof = found.witness.proof
        if proof is not None and not _says_same(proof, proof_of(feature_set, layout)):
            self._fault(
                found, FILE, "its columns are not those that the journal names; without --quick it is said which"
            )

    def _fault(
        self, found: _Found, part: str, problem: str, *, rows: tuple[str, ...] = (), remedy: str = "repair"
    ) -> None:
        record = found.witness.record
        found.faults.append(
            Fault(file=record.file, part=part, problem=problem, shard=record.number, rows=rows, remedy=remedy)
        )


def _unless_replaced(found: _Found, directory: Path) -> _Found:
    """Without the faults of a shard that a writer has replaced since it was looked at."""
    record = found.witness.record
    if not found.faults or (directory / record.file).exists():
        return found
    if any(witness.record == record for witness in weigh(directory).shards):
        return found
    return _Found(witness=found.witness, rows=None, bytes_read=found.bytes_read)


def _compare(
    evidence: Evidence, found: Sequence[_Found], expected: Expected, faults: list[Fault], remarks: list[str]
) -> None:
    """What is stored, beside what the dataset has."""
    known: dict[str, tuple[str, str]] = {}
    for one in found:
        known.update((row_id, (digest, status)) for row_id, digest, status in one.rows or [])
    is_foreign = evidence.feature_set is not None and is_imported(evidence.feature_set)
    remedy = "import" if is_foreign else "extract"
    unread = [one for one in found if one.rows is None]
    missing = tuple(row_id for row_id in expected if row_id not in known)
    if missing and unread:
        numbers = ", ".join(str(one.witness.record.number) for one in unread[:_SHOWN])
        remarks.append(f"{len(missing):,} ids are in no shard that could be read (not read: {numbers})")
    elif missing:
        problem = f"{len(missing):,} of the dataset's {len(expected):,} ids are not stored"
        faults.append(Fault(file=MANIFEST, part="ids", problem=problem, rows=missing, remedy=remedy))
    changed = [row_id for row_id, now in expected.items() if row_id in known and _is_stale(known[row_id], now)]
    # Such a row keeps no digest: nothing was made from its input, and the next extraction tries it again.
    failed = [row_id for row_id in changed if known[row_id][1].startswith("failed: ") and not known[row_id][0]]
    stale = tuple(row_id for row_id in changed if row_id not in set(failed))
    if failed:
        remarks.append(f"{len(failed):,} rows failed because their input could not be read; `extract` tries them again")
    if stale:
        problem = f"{len(stale):,} rows were made from an input that has changed since"
        faults.append(Fault(file=MANIFEST, part="digests", problem=problem, rows=stale, remedy=remedy))
    gone = sum(row_id not in expected for row_id in known)
    if gone:
        remarks.append(f"{gone:,} stored rows are of pairs that the dataset no longer has")
    superseded = sum(len(one.rows or []) for one in found) - len(known)
    if superseded:
        remarks.append(f"{superseded:,} rows were replaced by later shards; `cache compact` leaves them out")


def _is_stale(stored: tuple[str, str], now: tuple[str, str]) -> bool:
    # The rule of an extraction: without an input in hand the reason may have changed.
    return stored[0] != now[0] if now[0] or stored[0] else stored[1] != now[1]


def _better_reason(feature_set: FeatureSet, witness: Witness, error: CacheError) -> CacheError:
    """Of a file of another size: what it says of itself, if it is a whole one of another make."""
    path = feature_set.directory / witness.record.file
    try:
        size_bytes = path.stat().st_size
        if size_bytes != witness.record.size_bytes:
            read_layout(feature_set, replace(witness.record, size_bytes=size_bytes))
    except (FutureVersion, FingerprintMismatch) as better:
        return better
    except (CacheError, OSError):
        pass
    return error


def _says_same(line: ShardProof, file: ShardProof) -> bool:
    """Whether a journal's line fits a file. A line may lack checksums of columns: a repair could not know them."""
    places = [(place.name, place.offset_bytes, place.size_bytes) for place in line.datasets]
    sums = [(ours.crc32c, theirs.crc32c) for ours, theirs in zip(line.datasets, file.datasets, strict=False)]
    return (
        places == [(place.name, place.offset_bytes, place.size_bytes) for place in file.datasets]
        and all(ours is None or ours == theirs for ours, theirs in sums)
        and np.array_equal(line.row_crc32c, file.row_crc32c)
        and np.array_equal(line.row_batch, file.row_batch)
    )


def _ids(layout: ShardLayout, chosen: Array) -> tuple[str, ...]:
    return tuple(layout.ids[row] for row in np.flatnonzero(chosen))


def _is_unreadable(problem: CacheError | None) -> bool:
    return isinstance(problem, CorruptShard) and "not readable as HDF5" in str(problem)


def _remedy(problem: CacheError) -> str:
    return "upgrade" if isinstance(problem, FutureVersion) else "repair"
