"""The trainings and test measurements of a comparison, one after the other or in several processes of one thread each.

A finished training is on disk before the next begins, so an interruption loses none. A training that fails becomes a
line of the report. Imports nothing heavy, so that a process can be told its number of threads before torch is there.
"""

import importlib
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentifuse import SentifuseError
from sentifuse.engines.local import LocalEngine
from sentifuse.engines.stream import TasksLost

if TYPE_CHECKING:
    from sentifuse.cache.featureset import FeatureSet
    from sentifuse.cache.reader import FeatureReader
    from sentifuse.fuse.run import RunDirectory

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Train one head (`run` is None) or take a finished run, and measure it on the test part."""

    number: int
    name: str  # for the person
    artifacts: Path
    dataset: str
    head: str
    preset: str
    overrides: Mapping[str, Any]
    seed: int
    fold: int
    protocol: str
    rule: str
    target: str
    run: Path | None = None
    measure: bool = True  # False: its test part was measured before
    gaps_on: str = ""  # `gaps.digest_pairs` of the test part: measure with texts or images missing, too
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a job."""

    number: int
    run: str = ""  # its folder; empty where none came to be
    error: str = ""
    gaps_error: str = ""  # why it was not measured with texts or images missing; the run is good all the same
    trained: bool = False
    val_accuracy: float | None = None
    fit_s: float = 0.0


def run_jobs(
    jobs: Sequence[Job], *, workers: int, device: str, report: Callable[[Outcome], None] | None = None
) -> dict[int, Outcome]:
    """All outcomes by number; `report` hears each as it comes.

    A job whose process died (out of memory, say) is tried three times and then told as failed like any other.
    """
    found: dict[int, Outcome] = {}
    engine = LocalEngine([device] * max(1, workers))
    try:
        for outcome in engine.run(list(jobs), start_worker if workers > 1 else start_here):
            found[outcome.number] = outcome
            if report is not None:
                report(outcome)
    except TasksLost as error:
        for job in jobs:
            if job.number not in found:
                found[job.number] = Outcome(number=job.number, error=str(error))
                if report is not None:
                    report(found[job.number])
    return found


def default_workers(device: str) -> int:
    """One process per core that this process may use; with a GPU four at most, which fill it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device == "cpu":
        return cores
    import torch

    return min(cores, 4) if device.startswith("cuda") or torch.cuda.is_available() else cores


def start_worker(device: str) -> "Callable[[Iterator[Job]], Iterator[Outcome]]":
    """A process of one thread: several of them with many threads each would only get in each other's way."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # of this process, before torch and numpy are imported
    importlib.import_module("torch").set_num_threads(1)
    return start_here(device)


def start_here(device: str) -> "Callable[[Iterator[Job]], Iterator[Outcome]]":
    """Works in this process, with the threads it has; feature sets are opened and proven once."""
    readers = SharedReaders()

    def work(jobs: Iterator[Job]) -> Iterator[Outcome]:
        for job in jobs:
            yield do_job(job, device, readers)

    return work


class SharedReaders:
    """Opens every feature set once; a reader remembers which rows it has proven."""

    def __init__(self) -> None:
        self._readers: dict[tuple[str, str, str], FeatureReader] = {}

    def __call__(self, feature_set: "FeatureSet", *, reader: str = "mmap") -> "FeatureReader":
        from sentifuse.cache.reader import FeatureReader

        key = (str(feature_set.directory), feature_set.fingerprint, reader)
        if key not in self._readers:
            self._readers[key] = FeatureReader(feature_set, reader=reader)
        return self._readers[key]


def do_job(job: Job, device: str, readers: SharedReaders) -> Outcome:
    """Train if need be, then measure. Whatever goes wrong is this job's outcome, Ctrl-C apart.

    A run that was trained and measured stays good when it cannot be measured with texts or images missing.
    """
    run: RunDirectory | None = None
    try:
        run = _train(job, device, readers) if job.run is None else _open(job.run)
        _measure(job, run, device, readers)
    except Exception as error:  # noqa: BLE001  # the outermost frame of one training: the other ones go on
        return Outcome(number=job.number, run=str(run.path) if run else "", error=_said(error))
    gaps_error = ""
    try:
        _measure_gaps(job, run, device, readers)
    except Exception as error:  # noqa: BLE001  # as above
        gaps_error = _said(error)
    return Outcome(
        number=job.number,
        run=str(run.path),
        gaps_error=gaps_error,
        trained=job.run is None,
        val_accuracy=run.document["best"]["val_accuracy"],
        fit_s=run.document["timings"]["fit_s"],
    )


def _said(error: Exception) -> str:
    """The message of an error that we foresaw; of any other, a bug, where it happened."""
    return str(error) if isinstance(error, SentifuseError) else "".join(traceback.format_exception(error, limit=-3))


def _train(job: Job, device: str, readers: SharedReaders) -> "RunDirectory":
    from sentifuse.fuse.train import TrainRequest, train

    request = TrainRequest(
        artifacts=job.artifacts,
        dataset=job.dataset,
        head=job.head,
        preset=job.preset,
        seed=job.seed,
        protocol=job.protocol,
        fold=job.fold or None,
        rule=job.rule,
        target=job.target,
        overrides=job.overrides,
        device=device,
        command=job.command,
    )
    return train(request, open_reader=readers)


def _open(path: Path) -> "RunDirectory":
    from sentifuse.fuse.run import RunDirectory

    return RunDirectory.open(path)


def _measure(job: Job, run: "RunDirectory", device: str, readers: SharedReaders) -> None:
    from sentifuse.fuse.evaluate import evaluate

    if job.measure:
        evaluate(run, split="test", artifacts=job.artifacts, device=device, open_reader=readers)


def _measure_gaps(job: Job, run: "RunDirectory", device: str, readers: SharedReaders) -> None:
    from sentifuse.fuse.comparison.gaps import measure_gaps

    if job.gaps_on:
        measure_gaps(run, job.gaps_on, artifacts=job.artifacts, device=device, open_reader=readers)
