"""Computes shards: rows → loader threads → batches → one forward pass per backbone → staged shard files.

A worker lives on one device and gets a stream of tasks. Encoders that name the same model share one forward pass;
each writes its own feature set. Batches never cross a shard, so a shard's bytes do not depend on what else is done.
Commits nothing: the one committer is `runner.py`.
"""

import hashlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from sentifuse import DataError
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.spec import NO_BATCH, Row, is_finite, status_text
from sentifuse.cache.writer import StagedShard, stage_shard
from sentifuse.data.images import UnreadableImage, read_image
from sentifuse.extract.encoder import Array, Backbone, Encoder, EncoderPlan, RowValues, batch_limit
from sentifuse.extract.lanes import Lanes
from sentifuse.extract.plan import RowInput

Outcome = Mapping[str, Array] | str  # the values of a row, or the status that says why it has none


class NotRead(str):
    """The status of a row whose input could not be read just now.

    Such a row keeps no digest: nothing was made from its input, so the next run tries it again. A row that failed on
    bytes in hand keeps theirs, and is not tried again.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """The rows of one shard, for every feature set that plans exactly these rows."""

    rows: tuple[RowInput, ...]
    targets: tuple[tuple[str, int], ...]  # (encoder, shard number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What became of a task: staged files, to be committed, and what they cost."""

    staged: tuple[tuple[str, StagedShard], ...]
    stats: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """Everything a worker process needs; picklable."""

    plans: Mapping[str, EncoderPlan]
    feature_sets: Mapping[str, FeatureSet]
    root: Path
    loader_count: int
    batch_rows: int


@dataclass(slots=True)
class _Stats:
    """Seconds spent per stage of one task, summed over threads."""

    seconds: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, stage: str, started: float) -> None:
        with self.lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


def build_encoders(plans: Mapping[str, EncoderPlan], device: str) -> dict[str, Encoder]:
    """Load the models of several encoders; those with equal backbones share one."""
    shared: dict[str, Backbone] = {}
    return {name: plan.build(device=device, share=shared) for name, plan in plans.items()}


def make_worker(
    spec: WorkerSpec,
    encoders: Mapping[str, Encoder] | None,
    on_rows: Callable[[int], None] | None,
    device: str,
) -> Callable[[Iterator[ShardTask]], Iterator[ShardResult]]:
    """Load the models onto a device and return the function that turns tasks into results.

    Parameters
    ----------
    encoders
        Encoders already on that device, in the process that has them; None: load them here.
    on_rows
        Called with the number of rows finished since the last call; only of use inside one process.
    """
    loaded = build_encoders(spec.plans, device) if encoders is None else encoders

    def work(tasks: Iterator[ShardTask]) -> Iterator[ShardResult]:
        with (
            ThreadPoolExecutor(spec.loader_count) as loaders,
            Lanes(device) as lanes,
            ThreadPoolExecutor(1) as writer,
        ):
            waiting: deque[Future[ShardResult]] = deque()
            try:
                for task in tasks:
                    rows, stats = yield from _compute(task, spec, loaded, loaders, lanes, on_rows, waiting)
                    waiting.append(writer.submit(_stage, task, rows, spec, stats, device))
                    while len(waiting) > 1:  # one shard is written while the next is computed
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except GeneratorExit:
                raise  # nobody takes results any more
            except BaseException:
                # A shard that is whole is not lost with the one in hand, whatever stopped that: Ctrl-C too.
                yield from (whole.result() for whole in waiting if whole.exception() is None)
                raise
            finally:
                loaders.shutdown(wait=False, cancel_futures=True)

    return work


def _stage(
    task: ShardTask, rows: Mapping[str, Sequence[Row]], spec: WorkerSpec, stats: _Stats, device: str
) -> ShardResult:
    started = time.perf_counter()
    staged = tuple((name, stage_shard(spec.feature_sets[name], number, rows[name])) for name, number in task.targets)
    stats.add("write", started)
    return ShardResult(
        staged=staged,
        stats={
            "rows": len(task.rows),
            "device": device,
            "seconds": {stage: round(value, 3) for stage, value in sorted(stats.seconds.items())},
            "status": {name: _counted(rows[name]) for name, _ in task.targets},
            "not_ok": {
                name: {row.id: row.status for row in rows[name] if row.status not in {"ok", "missing"}}
                for name, _ in task.targets
            },
        },
    )


def _counted(rows: Iterable[Row]) -> dict[str, int]:
    return dict(sorted(Counter(row.status.split(":")[0] for row in rows).items()))


def _compute(
    task: ShardTask,
    spec: WorkerSpec,
    encoders: Mapping[str, Encoder],
    loaders: ThreadPoolExecutor,
    lanes: Lanes,
    on_rows: Callable[[int], None] | None,
    waiting: deque[Future[ShardResult]],
) -> Generator[ShardResult, None, tuple[dict[str, list[Row]], _Stats]]:
    """Returns all rows of a task, for each of its encoders, in the task's order.

    Yields the results among `waiting` as soon as they are written: this task may take minutes, and what is not
    committed by then would be lost to a failure of the machine.
    """
    stats = _Stats()
    keys = {name: spec.plans[name].backbone_key for name, _ in task.targets}
    backbones = {key: encoders[name].backbone for name, key in keys.items()}
    readers = {key: [encoders[name] for name in keys if keys[name] == key] for key in backbones}
    outcomes: dict[str, list[Outcome]] = {name: [row.status for row in task.rows] for name in keys}
    # Batches are numbered by backbone: a feature set's bytes must not depend on what else is computed beside it.
    batches: dict[str, list[int]] = {key: [NO_BATCH] * len(task.rows) for key in backbones}
    counters = {key: count() for key in backbones}
    limits = {key: min(spec.batch_rows, batch_limit(one) or spec.batch_rows) for key, one in backbones.items()}
    buckets: dict[tuple[str, Hashable], list[tuple[int, Any]]] = {}

    def submit(key: str, batch: list[tuple[int, Any]]) -> None:
        number = next(counters[key])
        for position, _ in batch:
            batches[key][position] = number
        lanes.run(partial(encode, key, batch))

    def encode(key: str, batch: list[tuple[int, Any]]) -> None:
        prepared = [item for _, item in batch]
        started = time.perf_counter()
        outputs = backbones[key].forward(prepared)
        stats.add("forward", started)
        started = time.perf_counter()
        for encoder in readers[key]:
            for (position, _), values in zip(batch, encoder.read(outputs, prepared), strict=True):
                outcomes[encoder.name][position] = _outcome(values)
        stats.add("read", started)
        if on_rows and key == counted:
            on_rows(len(batch))

    counted = next(iter(backbones))  # a row counts as done when its first backbone is through
    ready = [i for i, row in enumerate(task.rows) if row.status == "ok"]
    for position, loaded in _prefetch(loaders, task.rows, ready, spec, backbones, stats):
        yield from _written(waiting)
        for key, item in loaded.items():
            if isinstance(item, str):
                for encoder in readers[key]:
                    outcomes[encoder.name][position] = item
                if on_rows and key == counted:
                    on_rows(1)
                continue
            bucket_key = (key, backbones[key].batch_key(item))
            bucket = buckets.setdefault(bucket_key, [])
            bucket.append((position, item))
            if len(bucket) == limits[key]:
                submit(key, buckets.pop(bucket_key))
    for (key, _), bucket in buckets.items():
        submit(key, bucket)
    while lanes.wait():
        yield from _written(waiting)
    if on_rows:
        on_rows(len(task.rows) - len(ready))
    rows = {
        name: [
            _row(source, outcome, batch)
            for source, outcome, batch in zip(task.rows, outcomes[name], batches[keys[name]], strict=True)
        ]
        for name, _ in task.targets
    }
    return rows, stats


def _written(waiting: deque[Future[ShardResult]]) -> Iterator[ShardResult]:
    """Those at the head of the queue whose shards are written; they leave it."""
    while waiting and waiting[0].done():
        yield waiting.popleft().result()


def encode_again(
    batches: Sequence[Sequence[RowInput]], encoder: Encoder, *, root: Path, loader_count: int, device: str
) -> list[Row]:
    """The rows of batches, each encoded with exactly these rows in this order: on the same processor the same bytes.

    Their batch numbers are for the caller to set.
    """
    backbone = encoder.backbone
    outcomes: list[list[Outcome]] = [[row.status for row in batch] for batch in batches]

    def encode(outcome: list[Outcome], loaded: list[tuple[int, Any]]) -> None:
        prepared = [item for _, item in loaded]
        values = encoder.read(backbone.forward(prepared), prepared)
        for (position, _), row_values in zip(loaded, values, strict=True):
            outcome[position] = _outcome(row_values)

    with ThreadPoolExecutor(loader_count) as loaders, Lanes(device) as lanes:
        for batch, outcome in zip(batches, outcomes, strict=True):
            ready = [position for position, row in enumerate(batch) if row.status == "ok"]
            items = loaders.map(lambda row: _load(row, root, {"": backbone})[""], [batch[i] for i in ready])
            buckets: dict[Hashable, list[tuple[int, Any]]] = {}
            for position, item in zip(ready, items, strict=True):
                if isinstance(item, str):
                    outcome[position] = item
                else:
                    buckets.setdefault(backbone.batch_key(item), []).append((position, item))
            for bucket in buckets.values():
                lanes.run(partial(encode, outcome, bucket))
        lanes.drain()
    return [
        _row(source, found, NO_BATCH)
        for batch, outcome in zip(batches, outcomes, strict=True)
        for source, found in zip(batch, outcome, strict=True)
    ]


def _row(source: RowInput, outcome: Outcome, batch: int) -> Row:
    if isinstance(outcome, str):
        digest = "" if isinstance(outcome, NotRead) else source.digest
        return Row(id=source.id, digest=digest, status=str(outcome), values=None, batch=batch)
    return Row(id=source.id, digest=source.digest, status="ok", values=outcome, batch=batch)


def _outcome(values: RowValues) -> Outcome:
    """The values, or why this row cannot be stored: a feature that is not a number is not a feature."""
    if isinstance(values, DataError):
        return status_text("failed", str(values))
    for name, array in values.items():
        if not is_finite(array):
            return status_text("failed", f"{name} holds NaN or infinite values")
    return values


def _prefetch(
    loaders: ThreadPoolExecutor,
    rows: Sequence[RowInput],
    ready: Sequence[int],
    spec: WorkerSpec,
    backbones: Mapping[str, Backbone],
    stats: _Stats,
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Loaded rows in order, with at most two batches in flight, so that memory stays flat."""
    window = 2 * spec.batch_rows
    flying: deque[tuple[int, Future[Mapping[str, Any]]]] = deque()
    source = iter(ready)

    def submit() -> None:
        for position in source:
            flying.append((position, loaders.submit(_load, rows[position], spec.root, backbones)))
            if len(flying) >= window:
                return

    submit()
    while flying:
        position, future = flying.popleft()
        started = time.perf_counter()
        loaded = future.result()
        stats.add("wait for loading", started)
        yield position, loaded
        submit()


def _load(row: RowInput, root: Path, backbones: Mapping[str, Backbone]) -> Mapping[str, Any]:
    """One row, read and preprocessed for every backbone; a string says why it cannot be."""
    try:
        image = _read_checked_image(row, root) if row.image_path else None
    except UnreadableImage as error:
        return dict.fromkeys(backbones, status_text("unreadable", error.reason))
    except (DataError, OSError) as error:
        return dict.fromkeys(backbones, NotRead(status_text("failed", str(error))))
    loaded: dict[str, Any] = {}
    for key, backbone in backbones.items():
        try:
            loaded[key] = backbone.prepare(image, row.text if "text" in backbone.inputs else None)
        except (DataError, ValueError, OSError) as error:
            loaded[key] = status_text("failed", str(error))
        except Exception as error:  # noqa: BLE001 - a library's surprise at one row must not end the run; tried again
            loaded[key] = NotRead(status_text("failed", f"{type(error).__name__}: {error}"))
    return loaded


def _read_checked_image(row: RowInput, root: Path) -> Any:
    raw = (root / row.image_path).read_bytes()
    # A feature must belong to the bytes whose digest stands beside it.
    if hashlib.sha256(raw).hexdigest() != row.image_digest:
        raise DataError("the image changed since the dataset was prepared; run `sentifuse data prepare` again")
    return read_image(raw)
