"""Makes a damaged feature set what it was: files from one another, rows from what is proven, the rest made again.

What must be made again is somebody else's work, asked for batch by batch (`Recompute`). Knows no models.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse.cache.checkup.evidence import INDEX, JOURNAL, Evidence, weigh
from sentifuse.cache.checkup.faults import MANIFEST, Fault, Report
from sentifuse.cache.checkup.guess import Expected
from sentifuse.cache.checkup.recognise import find_proof
from sentifuse.cache.checkup.salvage import LostBatch, Salvage
from sentifuse.cache.checkup.verify import verify
from sentifuse.cache.errors import CorruptIndex, FutureVersion
from sentifuse.cache.featureset import RECIPE_FILE, FeatureSet, open_feature_set, write_recipe
from sentifuse.cache.files import make_directory, replace_file, sha256_of
from sentifuse.cache.journal import Index, Journal, replace_journal, write_index
from sentifuse.cache.lock import WriterLock
from sentifuse.cache.record import ShardRecord, StagedShard
from sentifuse.cache.spec import NO_BATCH, Row
from sentifuse.cache.staging import stage_shard
from sentifuse.cache.writer import FeatureWriter

__all__ = ["Recompute", "Repaired", "ShardOutcome", "mend_files", "repair"]

# Encodes batches again and returns the rows it could make; None when it cannot make any now (no models).
Recompute = Callable[[FeatureSet, Sequence[LostBatch]], Iterable[Row] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOutcome:
    """What became of one damaged shard.

    Attributes
    ----------
    outcome : str
        "restored": the very bytes are back. "changed": all rows are right, but not bit by bit those of before; the
        journal has their new checksums. "dropped": nothing of it could be kept, its rows are to be extracted again.
        "left": it is damaged as before, see `reason`. Of a dry run: "damaged".
    rows, lost : int
        Rows of the shard; those that were not proven.
    recomputed : int
        Lost rows that were made again (of a dry run: would be).
    batches, encoded : int
        Batches that went through the encoder, and rows in them.
    gone : tuple of str
        Lost rows that were not made again, as their input is not the one of before; they are to be extracted anew.
    """

    number: int
    file: str
    outcome: str
    rows: int
    lost: int = 0
    recomputed: int = 0
    batches: int = 0
    encoded: int = 0
    gone: tuple[str, ...] = ()
    reason: str = ""

    @property
    def kept(self) -> int:
        """Rows whose stored bytes stayed."""
        return self.rows - self.lost if self.outcome != "dropped" else 0

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "gone": list(self.gone), "kept": self.kept}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """The outcome of `repair`; `files` names what was made anew of recipe, journals and index."""

    directory: Path
    before: Report
    after: Report
    files: tuple[str, ...] = ()
    shards: tuple[ShardOutcome, ...] = ()

    @property
    def must_extract(self) -> bool:
        """Whether rows were lost that only an extraction brings back."""
        return any(shard.outcome == "dropped" or shard.gone for shard in self.shards)

    def count(self, outcome: str) -> int:
        """Shards of an outcome."""
        return sum(shard.outcome == outcome for shard in self.shards)

    def total(self, name: str) -> int:
        """Sum of a count over all shards."""
        return sum(int(getattr(shard, name)) for shard in self.shards)


def repair(
    directory: Path,
    *,
    expected: Expected | None = None,
    recompute: Recompute | None = None,
    details: Mapping[str, Any] | None = None,
    is_dry: bool = False,
    timeout_s: float = 0.0,
    progress: Callable[[int], None] | None = None,
) -> Repaired:
    """Find all damage of a feature set and mend it; a whole one is not touched.

    Only rows that were damaged are made again and taken; all others keep their stored bytes.

    Parameters
    ----------
    expected
        What the dataset has, in manifest order; without it lost rows stay lost.
    recompute
        Makes lost rows again; None: they stay damaged.
    details
        As in `evidence.weigh`.
    is_dry
        Only say what would be done.
    progress
        Called with the number of bytes checked while looking for damage.

    Raises
    ------
    FutureVersion
        A file was written by a later version; nothing was touched.
    CorruptIndex
        Neither recipe.json nor any shard says what the feature set is.
    Locked
        A writer is at work.
    DiskFull, Unwritable
        What was mended stays mended.
    """
    before = verify(directory, expected=expected, progress=progress)
    todo = [fault for fault in before.faults if fault.file != MANIFEST]
    _refuse_later_version(directory, todo)
    if not todo:
        return Repaired(directory=directory, before=before, after=before)
    suspects = {fault.file: fault for fault in todo if fault.shard is not None}
    if is_dry:
        planned = _planned(weigh(directory, details=details), suspects, expected)
        return Repaired(directory=directory, before=before, after=before, shards=tuple(planned))
    refuted = {fault.shard for fault in todo if fault.file == JOURNAL and fault.shard is not None}
    files, outcomes = mend_files(directory, details=details, refuted=refuted, timeout_s=timeout_s)
    feature_set = open_feature_set(directory)
    with FeatureWriter(feature_set, timeout_s=timeout_s, accept_damage=True) as writer:
        outcomes += [_dropped(shard.record, "its file has gone") for shard in writer.lost]
        for shard in writer.shards:
            if shard.file in suspects:
                outcomes.append(_restore(writer, shard, before.faults, expected, recompute))
    after = verify(directory, expected=expected)
    return Repaired(directory=directory, before=before, after=after, files=files, shards=tuple(outcomes))


def mend_files(
    directory: Path,
    *,
    details: Mapping[str, Any] | None = None,
    refuted: Collection[int] = (),
    timeout_s: float = 0.0,
) -> tuple[tuple[str, ...], list[ShardOutcome]]:
    """Make recipe, journals and index anew where they are damaged, so that a writer can open the set again.

    Parameters
    ----------
    refuted
        Numbers of shards of which the journal says what their whole files do not.

    Returns
    -------
    files : tuple of str
        What was made anew.
    dropped : list of ShardOutcome
        Shards of which neither journal nor file tells enough.
    """
    lock = WriterLock(directory / "lock")
    lock.acquire(timeout_s)
    try:
        evidence = weigh(directory, details=details)
        _refuse_later_version(directory, evidence.faults)
        feature_set = evidence.feature_set
        if feature_set is None:
            raise CorruptIndex(
                f"{directory}: recipe.json is damaged and no shard says what it was. Move the folder away and extract "
                "again."
            )
        files = {fault.file for fault in evidence.faults} | ({JOURNAL} if refuted else set())
        if RECIPE_FILE in files:
            write_recipe(feature_set)
        for name, shards in evidence.part_journals.items():
            replace_file(directory / name, Journal(shards=shards).to_bytes())
        outcomes = _mend_journal(feature_set, evidence, files, refuted)
    finally:
        lock.release()
    return tuple(sorted(files)), outcomes


def _mend_journal(
    feature_set: FeatureSet, evidence: Evidence, files: Collection[str], refuted: Collection[int]
) -> list[ShardOutcome]:
    make_directory(feature_set.shards)
    kept, dropped = [], []
    for witness in evidence.shards:
        known = None if witness.record.number in refuted else witness.proof
        proof = known or find_proof(feature_set, witness.record)
        if proof is None:
            dropped.append(_dropped(witness.record, "its journal line is lost, and its file is not readable"))
        else:
            kept.append(StagedShard(record=witness.record, proof=proof))
    nameless = [
        ShardOutcome(number=number, file=file, outcome="dropped", rows=0, reason="nothing says any more what was in it")
        for number, file in evidence.nameless
    ]
    if evidence.index is None and not evidence.shards:
        # No writer opens a set that has shards and says of none that it counts.
        write_index(feature_set.index, Index(fingerprint=feature_set.fingerprint, generation=0, shards=()))
        return nameless
    if JOURNAL in files or dropped:
        replace_journal(feature_set.journal(), Journal(rewritten=evidence.rewritten, shards=tuple(kept)))
    if evidence.index is not None and (INDEX in files or dropped):
        numbers = {shard.number for shard in dropped}
        records = tuple(record for record in evidence.index.shards if record.number not in numbers)
        index = Index(fingerprint=feature_set.fingerprint, generation=evidence.index.generation, shards=records)
        write_index(feature_set.index, index)
    elif INDEX in files:
        feature_set.index.unlink(missing_ok=True)  # the writer makes it from the journal
    return [*dropped, *nameless]


def _restore(
    writer: FeatureWriter,
    shard: StagedShard,
    faults: Sequence[Fault],
    expected: Expected | None,
    recompute: Recompute | None,
) -> ShardOutcome:
    """Put the proven rows of a shard and those made again into a file of its own number."""
    feature_set = writer.feature_set
    is_as_committed = sha256_of(feature_set.directory / shard.file) == shard.record.sha256
    odd = [row for fault in faults if fault.file == shard.file for row in fault.rows] if is_as_committed else []
    with Salvage(feature_set, shard, expected, odd) as saved:
        base = ShardOutcome(number=shard.number, file=shard.file, outcome="left", rows=shard.rows, lost=len(saved.lost))
        if saved.lost and saved.is_imported:
            return dataclasses.replace(
                base, reason="rows of another program are damaged, which no encoder here can make again: import again"
            )
        if saved.lost and expected is None:
            return dataclasses.replace(base, reason="nothing says from which inputs its lost rows were made")
        batches = list(saved.lost_batches())
        made = [] if not batches else recompute(feature_set, batches) if recompute is not None else None
        if made is None:
            return dataclasses.replace(base, reason="its lost rows have to be made again, which cannot be done now")
        by_id = {row.id: row for row in made}
        rows, gone = [], []
        for position in range(saved.count):
            row = saved.row(position) or _made_again(saved, position, by_id)
            if row is None:
                gone.append(saved.name(position))
            else:
                rows.append(row)
    base = dataclasses.replace(
        base,
        recomputed=base.lost - len(gone),
        batches=sum(batch.number != NO_BATCH for batch in batches),
        encoded=sum(len(batch.ids) for batch in batches if batch.number != NO_BATCH),
        gone=tuple(gone),
    )
    if not rows:
        writer.drop([shard.number])
        return dataclasses.replace(base, outcome="dropped", reason="no row of it could be kept or made again")
    staged = stage_shard(feature_set, shard.number, rows)
    writer.replace(staged)
    if (
        staged.file != shard.file
    ):  # the name has the SHA-256; of a shard that nothing named that is all there is to go by
        return dataclasses.replace(base, outcome="changed")
    if odd:
        return dataclasses.replace(base, reason="the encoder gives these values again")
    return dataclasses.replace(base, outcome="restored")


def _made_again(saved: Salvage, position: int, made: Mapping[str, Row]) -> Row | None:
    """The row that takes the place of a lost one; None when it is not that row for certain."""
    row = made.get(saved.ids[position] or "")
    if row is None:
        return None
    row = dataclasses.replace(row, batch=int(saved.batches[position]))
    if saved.fits(position, row):
        return row
    # Another processor gives other last bits. Then id and input must be beyond doubt.
    is_same_input = not saved.knows_digest(position) or saved.digests[position] == row.digest
    return row if row.status == "ok" and is_same_input and saved.is_sure_id(position) else None


def _planned(evidence: Evidence, suspects: Mapping[str, Fault], expected: Expected | None) -> Iterable[ShardOutcome]:
    """What a repair would find in the damaged shards."""
    feature_set = evidence.feature_set
    for witness in evidence.shards:
        record = witness.record
        if feature_set is None or record.file not in suspects:
            continue
        proof = witness.proof or find_proof(feature_set, record)
        if proof is None or not (feature_set.directory / record.file).exists():
            yield _dropped(record)
            continue
        with Salvage(feature_set, StagedShard(record=record, proof=proof), expected) as saved:
            batches = list(saved.lost_batches())
            yield ShardOutcome(
                number=record.number,
                file=record.file,
                outcome="damaged",
                rows=record.rows,
                lost=len(saved.lost),
                recomputed=sum(len(batch.wanted) for batch in batches),
                batches=sum(batch.number != NO_BATCH for batch in batches),
                encoded=sum(len(batch.ids) for batch in batches if batch.number != NO_BATCH),
            )


def _dropped(record: ShardRecord, reason: str = "") -> ShardOutcome:
    return ShardOutcome(
        number=record.number, file=record.file, outcome="dropped", rows=record.rows, lost=record.rows, reason=reason
    )


def _refuse_later_version(directory: Path, faults: Iterable[Fault]) -> None:
    for fault in faults:
        if fault.remedy == "upgrade":
            raise FutureVersion(
                f"{directory / fault.file}: {fault.problem}. Nothing was touched. Install a later sentifuse."
            )
