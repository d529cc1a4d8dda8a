"""Runs a job: plan → tasks → engine → commits, with a summary that accounts for every row.

The one committer of the feature sets. Computes nothing itself; `worker.py` does.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sentifuse import DataError
from sentifuse.cache.current import write_current
from sentifuse.cache.featureset import RECIPE_FILE, FeatureSet, create_feature_set, open_feature_set
from sentifuse.cache.files import make_directory, replace_file
from sentifuse.cache.lock import WriterLock
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.writer import FeatureWriter
from sentifuse.engines import load_engine
from sentifuse.extract.encoder import Encoder, EncoderPlan
from sentifuse.extract.job import EncoderJob, ExtractRequest, Job, find_devices
from sentifuse.extract.lanes import core_count
from sentifuse.extract.plan import Plan, RowInput, plan_shards
from sentifuse.extract.worker import ShardResult, ShardTask, WorkerSpec, build_encoders, make_worker

DEFAULT_FAILURE_SHARE = 0.05
DEFAULT_FAILURE_FLOOR = 10

Known = Mapping[str, tuple[str, str]]  # id → digest and status, of the rows that a part knows of


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSummary:
    """What one feature set holds now, and what this run added to it."""

    directory: str
    fingerprint: str
    computed: int  # rows written by this run
    reused: int  # rows that were there
    statuses: Mapping[str, int]  # ok, missing, …; they add up to the rows of the manifest, of a part to those it knows
    quarantined: Mapping[str, str]  # id → status, of all rows that have an input and no features
    shards_written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The outcome of an extraction; counts in = rows out + failures listed."""

    dataset: str
    profile: str
    pairs: int
    encoders: Mapping[str, EncoderSummary]
    left_out: Mapping[str, str]
    devices: tuple[str, ...]
    seconds: float
    stage_seconds: Mapping[str, float] = field(default_factory=dict)

    incomplete: frozenset[str] = frozenset()  # ids of pairs that are not `ok` in every feature set of this run

    @property
    def computed(self) -> int:
        return sum(encoder.computed for encoder in self.encoders.values())

    @property
    def complete_pairs(self) -> int:
        """Pairs whose rows are `ok` in every feature set of this run."""
        return self.pairs - len(self.incomplete)

    def to_json(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "profile": self.profile,
            "pairs": self.pairs,
            "complete_pairs": self.complete_pairs,
            "computed": self.computed,
            "seconds": round(self.seconds, 2),
            "devices": list(self.devices),
            "stage_seconds": dict(self.stage_seconds),
            "left_out": dict(self.left_out),
            "encoders": {
                name: {
                    "feature_set": encoder.directory,
                    "fingerprint": encoder.fingerprint,
                    "computed": encoder.computed,
                    "reused": encoder.reused,
                    "statuses": dict(encoder.statuses),
                    "quarantined": dict(encoder.quarantined),
                    "shards_written": encoder.shards_written,
                }
                for name, encoder in self.encoders.items()
            },
        }


class TooManyFailures(DataError):
    """More rows failed than were allowed. All the rest is stored; `summary` accounts for it."""

    def __init__(self, message: str, summary: Summary) -> None:
        super().__init__(message)
        self.summary = summary


def run(
    job: Job, *, progress: Callable[[int], None] | None = None, say: Callable[[str], None] | None = None
) -> Summary:
    """Compute what is left, commit shard by shard, and account for every row.

    The same call again after an interruption goes on behind the last committed shard.

    Parameters
    ----------
    progress
        Called with the number of rows (one per task, however many encoders share it) newly done.
    say
        Called with lines a person should see while it runs.

    Raises
    ------
    TooManyFailures
        More rows failed than `max_failures`; raised after all the rest was done and committed.
    CacheError, ResourceError
        The store cannot be written, a model does not load. What was committed stays.
    """
    started = time.perf_counter()
    stages: Counter[str] = Counter()
    written: Counter[str] = Counter()
    shards: Counter[str] = Counter()
    devices = job.devices
    known: dict[str, Known] = {}
    if job.has_work:
        devices = devices or find_devices(job.request.device)
        done, known = _work(job, devices, progress, say or (lambda line: None))
        for name, result in done:
            written[name] += result.rows
            shards[name] += 1
            stages.update(result.seconds)
    if job.request.part is None:
        names = {name: encoder.directory.name for name, encoder in job.encoders.items()}
        write_current(job.request.cache_dir, names, job.request.profile.name)
    summary = _summarise(job, devices, known, written, shards, stages, time.perf_counter() - started)
    _refuse_many_failures(job, summary)
    return summary


@dataclass(frozen=True, slots=True, kw_only=True)
class _Committed:
    rows: int
    seconds: Mapping[str, float]


def _work(
    job: Job, devices: tuple[str, ...], progress: Callable[[int], None] | None, say: Callable[[str], None]
) -> tuple[list[tuple[str, _Committed]], dict[str, Known]]:
    request = job.request
    jobs = {name: encoder for name, encoder in job.encoders.items() if encoder.plan.shards}
    for encoder_job in jobs.values():
        _refuse_second_writer(encoder_job, request.part)
    is_single = len(devices) == 1
    # With several devices the models are loaded here only to learn the widths of their fields.
    encoders = build_encoders({name: j.encoder for name, j in jobs.items()}, devices[0] if is_single else "cpu")
    feature_sets = {name: _feature_set(request, jobs[name], encoders[name]) for name in jobs}
    done: list[tuple[str, _Committed]] = []
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(FeatureWriter(feature_sets[name], part=request.part)) for name in feature_sets
        }
        plans = {name: _plan_under_lock(request, jobs[name], writers[name]) for name in jobs}
        tasks = make_tasks({name: jobs[name].inputs for name in jobs}, plans)
        spec = WorkerSpec(
            plans={name: j.encoder for name, j in jobs.items()},
            feature_sets=feature_sets,
            root=job.manifest.root,
            loader_count=request.loader_count or core_count(),
            batch_rows=request.batch_rows,
        )
        if is_single:
            factory = partial(make_worker, spec, encoders, progress)
        else:
            del encoders
            factory = partial(make_worker, spec, None, None)
        with closing(load_engine(request.engine)(devices).run(tasks, factory)) as results:
            for result in results:
                for name, staged in result.staged:
                    writers[name].commit(staged)
                    _write_stats(feature_sets[name], staged.number, name, result)
                    done.append((name, _Committed(rows=staged.rows, seconds=_share(result))))
                    say(f"{name}: shard {staged.number} committed, {staged.rows} rows, {staged.ok} with features")
                if progress and not is_single:
                    progress(int(result.stats["rows"]))
        # A part's shards are in no index yet; only its writer knows them.
        known = {name: writer.known for name, writer in writers.items()} if request.part is not None else {}
    return done, known


def _refuse_second_writer(encoder_job: EncoderJob, part: tuple[int, int] | None) -> None:
    """Before models are loaded: the writer takes the lock only after, and would refuse after all the waiting."""
    if (encoder_job.directory / RECIPE_FILE).is_file():
        lock = WriterLock(open_feature_set(encoder_job.directory).lock(part))
        lock.acquire()
        lock.release()


def _feature_set(request: ExtractRequest, encoder_job: EncoderJob, encoder: Encoder) -> FeatureSet:
    plan = encoder_job.encoder
    return create_feature_set(
        request.cache_dir,
        encoder=plan.name,
        recipe=plan.recipe,
        fields=encoder.fields,
        details=set_details(request, plan),
    )


def set_details(request: ExtractRequest, plan: EncoderPlan) -> dict[str, Any]:
    """What recipe.json says of a feature set beside its recipe."""
    # How rows were batched changes no number beyond the last bits; each row's batch stands beside it in its shard.
    return {
        **plan.details,
        "profile": request.profile.name,
        "batch_rows": request.batch_rows,
        "shard_rows": request.rows_per_shard(plan),
    }


def _plan_under_lock(request: ExtractRequest, encoder_job: EncoderJob, writer: FeatureWriter) -> Plan:
    """The plan again, now that nobody else can write."""
    shard_rows = request.rows_per_shard(encoder_job.encoder)
    plan = plan_shards(encoder_job.inputs, writer.known, writer.shard_numbers, shard_rows=shard_rows)
    return only_part(plan, request.part)


def only_part(plan: Plan, part: tuple[int, int] | None) -> Plan:
    """Of part (i, n) only its own shards; of the whole (None) all."""
    if part is None:
        return plan
    mine, count = part
    return replace(plan, shards=tuple(shard for shard in plan.shards if shard.number % count == mine))


def make_tasks(inputs: Mapping[str, Sequence[RowInput]], plans: Mapping[str, Plan]) -> list[ShardTask]:
    """One task per set of equal rows: encoders that plan the very same rows are computed together.

    So an image is decoded once for all image encoders, and encoders of one model share its forward pass.
    """
    targets: dict[tuple[RowInput, ...], list[tuple[str, int]]] = {}
    for name, plan in plans.items():
        for shard in plan.shards:
            rows = tuple(inputs[name][position] for position in shard.rows)
            targets.setdefault(rows, []).append((name, shard.number))
    return [ShardTask(rows=rows, targets=tuple(chosen)) for rows, chosen in targets.items()]


def _share(result: ShardResult) -> dict[str, float]:
    """A task's seconds, split over its feature sets so that sums are right."""
    return {stage: value / len(result.staged) for stage, value in result.stats["seconds"].items()}


def _write_stats(feature_set: FeatureSet, number: int, name: str, result: ShardResult) -> None:
    """The stats file of a shard: for people and profilers, no part of the store."""
    folder = feature_set.directory / "stats"
    make_directory(folder)
    document = {
        "shard": number,
        "rows": result.stats["rows"],
        "status": result.stats["status"][name],
        "not_ok": result.stats["not_ok"][name],
        "device": result.stats["device"],
        "computed_with": [other for other, _ in result.staged],
        "seconds": result.stats["seconds"],
    }
    content = json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8") + b"\n"
    replace_file(folder / f"{number:06d}.json", content)


def _summarise(
    job: Job,
    devices: tuple[str, ...],
    known: Mapping[str, Known],
    written: Mapping[str, int],
    shards: Mapping[str, int],
    stages: Mapping[str, float],
    seconds: float,
) -> Summary:
    encoders: dict[str, EncoderSummary] = {}
    incomplete: set[str] = set()
    for name, encoder in job.encoders.items():
        status_of = _statuses(encoder, known.get(name))
        kinds = Counter(status.split(":")[0] for status in status_of.values())
        incomplete.update(row.id for row in encoder.inputs if status_of.get(row.id) != "ok")
        encoders[name] = EncoderSummary(
            directory=str(encoder.directory),
            fingerprint=encoder.directory.name.rpartition("-")[2],
            computed=written.get(name, 0),
            reused=len(status_of) - written.get(name, 0),
            statuses={kind: kinds[kind] for kind in ("ok", "missing", "unreadable", "failed") if kinds[kind]},
            quarantined={k: status for k, status in status_of.items() if status not in {"ok", "missing"}},
            shards_written=shards.get(name, 0),
        )
    return Summary(
        dataset=job.request.dataset,
        profile=job.request.profile.name,
        pairs=max((len(encoder.inputs) for encoder in job.encoders.values()), default=0),
        encoders=encoders,
        left_out=job.left_out,
        devices=devices,
        seconds=seconds,
        stage_seconds={stage: round(value, 2) for stage, value in sorted(stages.items())},
        incomplete=frozenset(incomplete),
    )


def _statuses(encoder: EncoderJob, known: Known | None) -> dict[str, str]:
    """id → status of every row of the manifest; of a part only of the rows that are there."""
    if known is not None:
        return {row.id: known[row.id][1] for row in encoder.inputs if row.id in known}
    reader = FeatureReader(encoder.directory)
    return {row.id: reader.status(row.id) for row in encoder.inputs}


def _refuse_many_failures(job: Job, summary: Summary) -> None:
    failed = {row_id: status for encoder in summary.encoders.values() for row_id, status in encoder.quarantined.items()}
    limit = job.request.max_failures
    if limit is None:
        limit = max(DEFAULT_FAILURE_FLOOR, int(DEFAULT_FAILURE_SHARE * summary.pairs))
    if len(failed) > limit:
        first = ", ".join(f"{row_id} ({status})" for row_id, status in list(failed.items())[:3])
        raise TooManyFailures(
            f"{job.request.dataset}: {len(failed):,} of {summary.pairs:,} pairs failed, more than the {limit:,} "
            f"allowed; the first: {first}. All others are stored. Mend the inputs, then run "
            f"`sentifuse data prepare {job.request.dataset}` and extract again, or allow them with --max-failures "
            f"{len(failed)}",
            summary,
        )
