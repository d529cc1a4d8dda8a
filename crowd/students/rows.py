"""Rows of the feature set `crowd` by this student or that: a probe's from cached vectors, a transformer's from images.

Stages shards and commits none. Which student answers for which pair is decided elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import load_file

from sentifuse import CacheError
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.record import StagedShard
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import stage_shard
from sentifuse.crowd.students.embeddings import CachedEmbeddings
from sentifuse.crowd.students.probe import answer
from sentifuse.data.manifest import Manifest
from sentifuse.extract.encoder import describe_encoder
from sentifuse.extract.encoders.sentiment_classes import CLASSES
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.gold_seen import KEY as GOLD_SEEN_IDS
from sentifuse.extract.job import find_devices, refuse_missing_root
from sentifuse.extract.lanes import core_count
from sentifuse.extract.models.located import read_folder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.plan import RowInput
from sentifuse.extract.profile import EncoderEntry
from sentifuse.extract.students import WEIGHTS, StudentConfig, read_student
from sentifuse.extract.worker import ShardTask, WorkerSpec, build_encoders, make_worker

__all__ = ["ImageAnswers", "ProbeAnswers"]

ENCODER = "crowd"
SHOWN_IDS = 5
FloatArray = npt.NDArray[np.float32]
Task = tuple[int, Sequence[RowInput]]  # the number of a shard and its rows
Progress = Callable[[int], None]


def crowd_fields(width: int) -> tuple[Field, ...]:
    """What the encoder `crowd` stores, with an embedding of this width."""
    return (
        Field(name="probabilities", dtype="float32", shape=(len(CLASSES),)),
        Field(name="embedding", dtype="float32", shape=(width,)),
    )


class ProbeAnswers:
    """Rows from the cached vectors of another encoder; its rows without vectors keep their status here."""

    def __init__(self, folders: Mapping[int, Path], reader: FeatureReader, field: str, dataset: str) -> None:
        self._folders, self._reader, self._field, self._dataset = folders, reader, field, dataset
        self._loaded: tuple[int, StudentConfig, dict[str, FloatArray]] | None = None  # the last fold's alone
        self.gold_seen: tuple[str, ...] = tuple(reader.feature_set.details.get(GOLD_SEEN_IDS, ()))
        head = read_student(next(iter(folders.values()))).head
        self.fields = crowd_fields(int(head["in"] if head["kind"] == "linear" else head["width"]))

    def check(self, inputs: Sequence[RowInput]) -> None:
        """Refuse vectors that are not there, or were made from other images than there are now."""
        reader = self._reader
        unknown = [row.id for row in inputs if row.id not in reader]
        stale = [row.id for row in inputs if row.id in reader and self._is_stale(row)]
        for ids, what in ((unknown, "have no row"), (stale, "have changed since they were encoded")):
            if ids:
                shown = ", ".join(ids[:SHOWN_IDS]) + (", …" if len(ids) > SHOWN_IDS else "")
                raise CacheError(
                    f"{reader.feature_set.directory}: {len(ids):,} of {len(inputs):,} pairs {what}: {shown}. "
                    f"Run: sentifuse extract --dataset {self._dataset} --encoders {reader.encoder}"
                )

    def stage(
        self, feature_set: FeatureSet, fold: int, tasks: Sequence[Task], progress: Progress
    ) -> Iterator[StagedShard]:
        """One staged shard for each task, in order."""
        for number, inputs in tasks:
            values = self.values(fold, inputs)
            yield stage_shard(feature_set, number, [self._row(one, values.get(one.id)) for one in inputs])
            progress(len(inputs))

    def values(self, fold: int, inputs: Sequence[RowInput]) -> dict[str, dict[str, FloatArray]]:
        """id -> probabilities float32 (3,) and embedding float32 (W,), of the rows that have a vector."""
        config, tensors = self._load(fold)
        ids = [row.id for row in inputs if self._reader.has_value(row.id)]
        embeddings = CachedEmbeddings(self._reader, self._field, ids)
        found: dict[str, dict[str, FloatArray]] = {}
        every = np.arange(len(ids), dtype=np.int64)
        for rows, shares, hidden in answer(config.head, tensors, config.temperature, embeddings, every):
            for row, share, vector in zip(rows.tolist(), shares, hidden, strict=True):
                found[ids[row]] = {"probabilities": share, "embedding": vector}
        return found

    def status(self, id_: str) -> str:
        """Of the row that the vector was asked from."""
        return self._reader.status(id_)

    def _load(self, fold: int) -> tuple[StudentConfig, dict[str, FloatArray]]:
        """Read once for all shards of a fold, which come one after the other."""
        if self._loaded is None or self._loaded[0] != fold:
            self._loaded = None  # two of them never lie in memory
            self._loaded = (fold, read_student(self._folders[fold]), _read_tensors(self._folders[fold]))
        return self._loaded[1], self._loaded[2]

    def _row(self, one: RowInput, values: Mapping[str, FloatArray] | None) -> Row:
        if values is not None:
            return Row(id=one.id, digest=one.digest, status="ok", values=values)
        return Row(id=one.id, digest=self._reader.digest(one.id), status=self._reader.status(one.id))

    def _is_stale(self, row: RowInput) -> bool:
        digest, status = self._reader.digest(row.id), self._reader.status(row.id)
        # What failed while its image was read has no digest, and is tried again by the next extraction, not by this.
        return digest != row.digest and not (not digest and status.startswith("failed"))


class ImageAnswers:
    """Rows from the images themselves, as `extract` computes them."""

    def __init__(
        self,
        folders: Mapping[int, Path],
        *,
        width: int,
        manifest: Manifest,
        dataset: str,
        device: str,
        batch_rows: int,
    ) -> None:
        self._folders, self._manifest, self._dataset = folders, manifest, dataset
        self._device, self._batch_rows = device, batch_rows
        self.gold_seen: tuple[str, ...] = ()
        self.fields = crowd_fields(width)

    def check(self, inputs: Sequence[RowInput]) -> None:
        """Refuse a disk that is not mounted."""
        refuse_missing_root(self._dataset, self._manifest.root, inputs)

    def stage(
        self, feature_set: FeatureSet, fold: int, tasks: Sequence[Task], progress: Progress
    ) -> Iterator[StagedShard]:
        """One staged shard for each task."""
        folder = self._folders[fold]
        device = find_devices(self._device)[0]
        source = ModelSource(kind="path", name=str(folder))
        entry = EncoderEntry(name=ENCODER, model=source, where=str(folder))
        plan = describe_encoder(entry, read_folder(source, folder), precision="exact", device=device)
        spec = WorkerSpec(
            plans={ENCODER: plan},
            feature_sets={ENCODER: feature_set},
            root=self._manifest.root,
            loader_count=core_count(),
            batch_rows=self._batch_rows,
        )
        work = make_worker(spec, build_encoders(spec.plans, device), progress, device)
        shards = [ShardTask(rows=tuple(rows), targets=((ENCODER, number),)) for number, rows in tasks]
        for result in work(iter(shards)):
            yield from (staged for _, staged in result.staged)


def _read_tensors(folder: Path) -> dict[str, FloatArray]:
    path = folder / WEIGHTS
    try:
        return dict(load_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelMismatch(f"{path}: cannot be read as weights: {error}. Copy the folder again") from error
