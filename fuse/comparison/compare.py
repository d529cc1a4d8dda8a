"""The whole of a comparison: plan, find what is there, train what is missing, measure, put the table together.

Each step is in a file of its own; here is their order, and what becomes of a training that fails: a line in the report,
and a table without it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentifuse import ConfigError, TrainingError
from sentifuse.data.card import read_card
from sentifuse.data.labels import Labels, read_labels
from sentifuse.data.protocols import FOLDED
from sentifuse.data.splits import read_split
from sentifuse.fuse.comparison.choices import (
    DEFAULT_SEEDS,
    MAIN_HEADS,
    QUICK_SEEDS,
    Choice,
    default_heads,
    parse_heads,
    parse_seeds,
    parse_sweep,
    sweep_choices,
)
from sentifuse.fuse.comparison.comparable import check_comparable
from sentifuse.fuse.comparison.document import build_document
from sentifuse.fuse.comparison.existing import Found, find_runs
from sentifuse.fuse.comparison.gaps import digest_pairs, read_gaps
from sentifuse.fuse.comparison.given import rows_of_runs
from sentifuse.fuse.comparison.jobs import Job, Outcome, default_workers, run_jobs
from sentifuse.fuse.comparison.measured import Measured, is_measured, read_measured
from sentifuse.fuse.comparison.plan import Plan, make_plan
from sentifuse.fuse.comparison.today import Today
from sentifuse.fuse.evaluate import read_run_split
from sentifuse.fuse.heads import HEADS
from sentifuse.fuse.run import RunDirectory, check_runs_folder

Note = Callable[[str], None]
DEFAULT_BASELINE = "logreg"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """What to compare. None takes a default: all heads, five seeds (one where there are folds), the card's protocol."""

    artifacts: Path
    dataset: str
    heads: tuple[str, ...] | None = None
    seeds: str | None = None
    folds: str | None = None
    protocol: str | None = None
    rule: str | None = None
    target: str = "label"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False
    runs: tuple[Path, ...] = ()  # instead of heads: exactly these
    baseline: str | None = None
    claim: str | None = None
    missing: bool = False
    sweep: str | None = None
    workers: int | None = None
    device: str = "auto"
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run of the table: there already, or to be trained."""

    row: str
    choice: Choice
    seed: int
    fold: int
    run: RunDirectory | None

    @property
    def name(self) -> str:
        return f"{self.row}, seed {self.seed}" + (f", fold {self.fold}" if self.fold else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a request comes to before anything is trained."""

    dataset: str
    protocol: str
    rule: str
    target: str
    choices: tuple[Choice, ...]
    entries: tuple[Entry, ...]
    baseline: str | None
    plan: Plan | None  # None with explicit runs
    found: Found
    today: Today | None = None  # None with explicit runs, which need no features when they were measured

    @property
    def missing(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.run is None)

    def expected_s(self) -> float | None:
        """Seconds of training that earlier runs of the same heads suggest, in one process; None if one has none."""
        times = [self.found.seconds.get((entry.choice.head, self.dataset)) for entry in self.missing]
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) if len(known) == len(times) else None


def prepare(request: CompareRequest, *, write_splits: bool = True) -> Work:
    """Everything that can be refused, before any training; `write_splits=False` touches nothing on disk.

    Raises
    ------
    ConfigError, DataError, CacheError
        Unknown names and settings, runs that cannot be compared, a dataset that is not prepared, missing features.
    """
    found = find_runs(request.artifacts / "runs")
    if request.runs:
        named = [RunDirectory.open(path) for path in request.runs]
        check_comparable(named)
        rows = rows_of_runs(named)
        document = named[0].document
        entries = [
            Entry(row=row, choice=choice, seed=run.document["seed"], fold=run.document.get("fold", 0), run=run)
            for row, (choice, members) in rows.items()
            for run in members
        ]
        return Work(
            dataset=document["dataset"],
            protocol=document["protocol"],
            rule=document["rule"],
            target=document["target"],
            choices=tuple(choice for choice, _ in rows.values()),
            entries=tuple(entries),
            baseline=_baseline(request, list(rows)),
            plan=None,
            found=found,
        )
    choices = _choices(request)
    baseline = _baseline(request, [choice.name for choice in choices])
    protocol = read_card(request.artifacts / "datasets" / request.dataset).protocol
    protocol = protocol if request.protocol is None else request.protocol
    plan = make_plan(
        request.artifacts,
        request.dataset,
        choices,
        seeds=_seeds(request, protocol),
        folds=request.folds,
        protocol=protocol,
        rule=request.rule,
        target=request.target,
        skip_lacking=request.heads is None,
        write_splits=write_splits,
    )
    if baseline is not None and baseline in plan.left_out:
        if request.baseline is not None:
            raise ConfigError(f"--baseline {baseline}: {plan.left_out[baseline]}. Extract them, or name another")
        baseline = plan.choices[0].name
    today = Today(request.artifacts, plan.dataset, protocol=plan.protocol, rule=plan.rule, target=plan.target)
    return Work(
        dataset=plan.dataset,
        protocol=plan.protocol,
        rule=plan.rule,
        target=plan.target,
        choices=plan.choices,
        entries=tuple(
            Entry(
                row=one.choice.name,
                choice=one.choice,
                seed=one.seed,
                fold=one.fold,
                run=found.run_of(one, today.has_inputs_of),
            )
            for one in plan.wanted
        ),
        baseline=baseline,
        plan=plan,
        found=found,
        today=today,
    )


def compare(request: CompareRequest, note: Note = lambda line: None) -> dict[str, Any]:
    """Train what is missing, measure on test, and put the table together.

    Parameters
    ----------
    note
        Hears what is going on, a line at a time.

    Returns
    -------
    dict
        Everything of `document.build_document`. `failed` names runs that could not be trained or measured, with the
        reason; the table is made without them. `missing_failed` names those that could not be measured with texts or
        images missing; they stay in the table.

    Raises
    ------
    TrainingError
        Not one run came to be. And what `prepare` refuses.
    """
    work = prepare(request)
    check_runs_folder(request.artifacts)
    dataset_dir = request.artifacts / "datasets" / work.dataset
    labels = read_labels(dataset_dir, work.rule)
    for entry in work.entries if request.runs else ():  # those of a plan were found by the digest of their split
        if entry.run is not None:
            read_run_split(entry.run, dataset_dir)  # refuses another split than the run's
    tests = _test_parts(work, dataset_dir)
    jobs = _jobs(request, work, tests, labels)
    outcomes = _do(request, work, jobs, note)
    failed = {job.name: outcomes[job.number].error for job in jobs if outcomes[job.number].error}
    missing_failed = {job.name: outcomes[job.number].gaps_error for job in jobs if outcomes[job.number].gaps_error}
    measured = _collect(work, jobs, outcomes)
    if not measured:
        reasons = "; ".join(f"{name}: {error}" for name, error in list(failed.items())[:3])
        raise TrainingError(f"comparison: expected runs to compare, found none: {reasons}. Mend that and compare again")
    check_comparable([one.run for one in measured])
    return build_document(
        measured,
        dataset_dir=dataset_dir,
        labels=labels,
        order=[choice.name for choice in work.choices]
        if work.plan
        else list(dict.fromkeys(e.row for e in work.entries)),
        choices={entry.row: entry.choice for entry in work.entries},
        baseline=work.baseline,
        claim=request.claim,
        missing=_read_gaps(measured, tests, labels.by_id(work.target)) if request.missing else {},
        failed=failed,
        missing_failed=missing_failed,
        left_out=work.plan.left_out if work.plan else {},
        unreadable=work.found.unreadable,
        stored_regions=work.plan.stored_regions if work.plan else None,
        command=request.command,
    )


def _choices(request: CompareRequest) -> tuple[Choice, ...]:
    if request.sweep is not None:
        names = ("itin",) if request.heads is None else request.heads
        return sweep_choices(parse_heads(names, request.overrides), parse_sweep(request.sweep))
    names = MAIN_HEADS if request.quick else default_heads(list(HEADS))
    return parse_heads(names if request.heads is None else request.heads, request.overrides)


def _seeds(request: CompareRequest, protocol: str) -> tuple[int, ...]:
    if request.seeds is not None:
        return parse_seeds(request.seeds)
    return tuple(range(1 if protocol in FOLDED else QUICK_SEEDS if request.quick else DEFAULT_SEEDS))


def _baseline(request: CompareRequest, rows: Sequence[str]) -> str | None:
    """The row that all others are compared with; by default logreg or the first, in a sweep none."""
    for what, name in (("--baseline", request.baseline), ("--claim", request.claim)):
        if name is not None and name not in rows:
            raise ConfigError.unknown("row", name, rows, where=what)
    baseline = request.baseline
    if baseline is None and request.sweep is None and len(rows) > 1:
        baseline = DEFAULT_BASELINE if DEFAULT_BASELINE in rows else rows[0]
    if request.claim is not None and request.claim == baseline:
        raise ConfigError(f"--claim {request.claim}: expected another row than the baseline. Name one with --baseline")
    return baseline


def _test_parts(work: Work, dataset_dir: Path) -> dict[tuple[int, int], tuple[str, ...]]:
    places = dict.fromkeys((entry.seed, entry.fold) for entry in work.entries)
    return {
        (seed, fold): read_split(
            dataset_dir, protocol=work.protocol, seed=seed, rule=work.rule, fold=fold, parts=("test",)
        )["test"]
        for seed, fold in places
    }


def _jobs(
    request: CompareRequest, work: Work, tests: Mapping[tuple[int, int], Sequence[str]], labels: Labels
) -> list[Job]:
    known = labels.by_id(work.target)
    jobs = []
    for number, entry in enumerate(work.entries):
        test = tests[entry.seed, entry.fold]
        has_answers = entry.run is not None and is_measured(entry.run, test, known, _inputs_of(work, entry))
        gaps_on = digest_pairs(test, known) if request.missing else ""
        if gaps_on and has_answers and entry.run is not None and read_gaps(entry.run, gaps_on) is not None:
            gaps_on = ""
        if has_answers and not gaps_on:
            continue
        jobs.append(
            Job(
                number=number,
                name=entry.name,
                artifacts=request.artifacts,
                dataset=work.dataset,
                head=entry.choice.head,
                preset=entry.choice.preset,
                overrides=entry.choice.overrides,
                seed=entry.seed,
                fold=entry.fold,
                protocol=work.protocol,
                rule=work.rule,
                target=work.target,
                run=entry.run.path if entry.run else None,
                measure=not has_answers,
                gaps_on=gaps_on,
                command=request.command,
            )
        )
    return jobs


def _inputs_of(work: Work, entry: Entry) -> dict[str, str] | None:
    """What the test part gives to the run today, where that is looked at."""
    if work.today is None or entry.run is None:
        return None
    return work.today.features((entry.seed, entry.fold), "test", entry.run.document["feature_sets"])


def _do(request: CompareRequest, work: Work, jobs: Sequence[Job], note: Note) -> dict[int, Outcome]:
    n_here = len(work.entries) - len(work.missing)
    note(f"{len(work.entries)} runs: {n_here} there already, {len(work.missing)} to train")
    if not jobs:
        return {}
    wanted = default_workers(request.device) if request.workers is None else request.workers
    workers = min(wanted, len(jobs))
    note(f"{len(jobs)} to do in {workers} process{'es of one thread each' if workers > 1 else ''}")
    names = {job.number: job.name for job in jobs}
    started, done = time.monotonic(), 0

    def report(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        elapsed = time.monotonic() - started
        left = f", about {_spoken((len(jobs) - done) * elapsed / done)} left" if done < len(jobs) else ""
        what = f"measured on test{left}"
        if outcome.error:
            what = f"failed: {outcome.error}"
        elif outcome.trained:
            what = f"validation accuracy {outcome.val_accuracy:.4f}, trained in {outcome.fit_s:.1f} s{left}"
        if outcome.gaps_error:
            what += f"; not measured with texts or images missing: {outcome.gaps_error}"
        note(f"{done} of {len(jobs)}: {names[outcome.number]}: {what}")

    return run_jobs(jobs, workers=workers, device=request.device, report=report)


def _collect(work: Work, jobs: Sequence[Job], outcomes: Mapping[int, Outcome]) -> list[Measured]:
    done_by_job = {job.number for job in jobs}
    measured: list[Measured] = []
    for number, entry in enumerate(work.entries):
        outcome = outcomes.get(number)
        if outcome is None and (entry.run is None or number in done_by_job):
            continue
        if outcome is not None and outcome.error:
            continue
        path = Path(outcome.run) if outcome is not None else entry.run.path if entry.run else Path()
        measured.append(read_measured(entry.row, RunDirectory.open(path)))
    return measured


def _read_gaps(
    measured: Sequence[Measured], tests: Mapping[tuple[int, int], Sequence[str]], known: Mapping[str, str]
) -> dict[str, list[Sequence[Mapping[str, Any]]]]:
    found: dict[str, list[Sequence[Mapping[str, Any]]]] = {}
    for one in measured:
        rows = read_gaps(one.run, digest_pairs(tests[one.place], known))
        if rows is not None:
            found.setdefault(one.row, []).append(rows)
    return found


def _spoken(seconds: float) -> str:
    """
    >>> _spoken(42.3), _spoken(600)
    ('42 s', '10 min')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
