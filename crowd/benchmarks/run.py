"""One benchmarking: lists read, images answered, protocols run, everything written to a folder of its own.

What can be refused is refused before any weight is loaded. Nothing is lost: images in = answers + statuses, and the
same command with the same folder goes on behind what was done.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sentifuse
from sentifuse import ConfigError
from sentifuse.crowd.benchmarks.answers import OK, Answers, answer_images
from sentifuse.crowd.benchmarks.binary import majority_of, score_binary
from sentifuse.crowd.benchmarks.fi_splits import FI_SPLITS, PARTS, FiPart, run_split, summarise_splits
from sentifuse.crowd.benchmarks.five_fold import run_five_fold, split_folds
from sentifuse.crowd.benchmarks.model import BenchmarkedModel, find_model
from sentifuse.crowd.benchmarks.predictions import write_predictions
from sentifuse.crowd.benchmarks.published import read_published
from sentifuse.crowd.benchmarks.record import JSON_FILE, Record, refuse_other_content
from sentifuse.crowd.benchmarks.table import grids_of
from sentifuse.crowd.benchmarks.tasks import Trainer
from sentifuse.crowd.finetune.checkpoints import plain
from sentifuse.crowd.folder_lock import only_here
from sentifuse.data import files
from sentifuse.data.benchmarks import BENCHMARKS, Benchmark, fi_part, read_benchmark
from sentifuse.fuse.tables import to_latex, to_markdown

__all__ = ["BenchmarkRequest", "run_benchmarks"]

FI = "FI"
Progress = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkRequest:
    """What to benchmark, on what, and how.

    Attributes
    ----------
    names
        Of `data.benchmarks.BENCHMARKS`.
    root
        The folder of all benchmarks, or what holds it in the original's layout.
    labels
        Classes of the model's outputs, where its config.json does not name them.
    overrides
        Settings of the protocols' fine-tuning over their presets.
    out
        A new folder, or one where the same benchmarking was stopped; None: a new one below artifacts/crowd/benchmarks.
    """

    artifacts: Path
    model: str
    root: Path
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    with_five_fold: bool = False
    with_fi_splits: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    batch_rows: int = 16
    seed: int = 0
    out: Path | None = None
    command: tuple[str, ...] = ()


def run_benchmarks(
    request: BenchmarkRequest,
    *,
    progress: Progress = lambda what, total, unit: nullcontext(lambda done: None),
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Answer, score and write; returns the document of benchmark.json with "files": what → path.

    Parameters
    ----------
    progress
        (what, how many, of which unit) → a context that gives a function of the number newly done.
    note
        Hears lines for a person.

    Raises
    ------
    ConfigError
        Unknown benchmarks or settings, nothing asked for, a folder that holds something else.
    Locked
        Another process is at this benchmarking.
    DataError
        A list is missing or damaged, no image of it can be read, a class has too few images for five folds.
    ResourceError
        The model or the device is missing, or the model cannot be loaded or fine-tuned.
    TrainingError
        A part without usable images of a class; a loss that is not finite.
    """
    _check(request)
    out = _choose_out(request)
    benchmarks = {name: read_benchmark(request.root, name) for name in request.names}
    folded = [name for name in request.names if request.with_five_fold and not name.startswith(FI)]
    for name in folded:
        split_folds(benchmarks[name].is_positive, where=name)
    splits = {k: _read_split(request.root, k) for k in FI_SPLITS} if request.with_fi_splits else {}
    device = _device(request.device)
    model = find_model(request.artifacts, request.model, labels=request.labels, device=device)
    trainer = _trainer(request, model, out, device, note) if folded or splits else None
    empty = {
        "model": model.to_json(),
        "device": device,
        "batch_rows": request.batch_rows,
        "root": str(request.root),
        "made": {"sentifuse": sentifuse.__version__, "at": datetime.now(UTC).isoformat(timespec="seconds")},
        "command": list(request.command),
        "benchmarks": [],
        "five_fold": [],
        "fi_splits": None,
        "published": read_published().to_json(),
    }
    if trainer is not None:
        empty["fine_tuning"] = {"seed": request.seed, "overrides": dict(request.overrides)}
    with only_here(out):
        identity = _identity(request, benchmarks, splits, model)
        record = Record(out, identity, empty, lambda document: _write(out, document))
        note(f"{'going on in' if record.is_begun else 'writing to'} {out}; if this is stopped, --out {out} goes on")
        _answer_all(request, benchmarks, model, device, record, progress)
        if trainer is not None:
            kept = record.kept(trainer)
            for name in [name for name in folded if name not in record.names("five_fold")]:
                record.add("five_fold", _fold(request, benchmarks[name], model, kept, out, progress))
            if splits and record.document["fi_splits"] is None:
                record.put("fi_splits", _run_splits(request, splits, model, kept, out, progress))
        record.complete()
    for name in sorted(set(request.names) - set(folded)) if request.with_five_fold else ():
        note(f"{name}: no five folds; it has splits of its own (--fi-splits)")
    return record.document | {"files": {what: str(path) for what, path in _files(out).items()}}


def _identity(
    request: BenchmarkRequest,
    benchmarks: Mapping[str, Benchmark],
    splits: Mapping[int, Mapping[str, Benchmark]],
    model: BenchmarkedModel,
) -> dict[str, Any]:
    """What fixes the numbers; device and batches change rounding alone."""
    lists = {**benchmarks, **{part.name: part for parts in splits.values() for part in parts.values()}}
    found = {
        "model": model.plan.backbone.model.digest,
        "labels": list(request.labels),
        "lists": {name: _list_digest(lists[name]) for name in sorted(lists)},
        "five_fold": request.with_five_fold,
        "seed": request.seed,
        "settings": {key: str(value) for key, value in request.overrides.items() if key != "micro_batch"},
    }
    identity: dict[str, Any] = plain(found)
    return identity


def _list_digest(benchmark: Benchmark) -> str:
    lines = [f"{path},{int(flag)}\n" for path, flag in zip(benchmark.paths, benchmark.is_positive, strict=True)]
    return files.digest("".join(lines).encode("utf-8", "surrogateescape"))


def _check(request: BenchmarkRequest) -> None:
    for name in request.names:
        if name not in BENCHMARKS:
            raise ConfigError.unknown("benchmark", name, BENCHMARKS, where="--on")
    if len(set(request.names)) != len(request.names):
        raise ConfigError(f"--on {','.join(request.names)}: expected each benchmark once")
    if not request.names and not request.with_fi_splits:
        raise ConfigError("expected at least one benchmark. Type: --on 5agree,4agree,3agree, or --fi-splits")
    if request.with_five_fold and all(name.startswith(FI) for name in request.names):
        raise ConfigError("--five-fold: expected a benchmark to fold, such as --on 5agree. FI has --fi-splits instead")
    if request.batch_rows < 1:
        raise ConfigError(f"--batch {request.batch_rows}: expected at least 1")


def _choose_out(request: BenchmarkRequest) -> Path:
    hint = "Mend the permissions, or name another folder with --out"
    if request.out is None:
        stem = Path(request.model).name or "model"
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{stem}-{secrets.token_hex(2)}"
        out = request.artifacts / "crowd" / "benchmarks" / name
    else:
        out = request.out
        refuse_other_content(out)
    files.check_writable(out, hint=hint)
    return out


def _device(asked: str) -> str:
    from sentifuse.extract.devices import resolve_devices

    return resolve_devices(asked)[0]


def _trainer(
    request: BenchmarkRequest, model: BenchmarkedModel, out: Path, device: str, note: Callable[[str], None]
) -> Trainer:
    from sentifuse.crowd.benchmarks.trainers import make_trainer

    return make_trainer(
        model,
        work=out,
        overrides=request.overrides,
        device=device,
        batch_rows=request.batch_rows,
        report=lambda name, row: note(_told(name, row)),
    )


def _told(name: str, row: Mapping[str, Any]) -> str:
    """A row of a fine-tuning's logs as a line for a person."""
    if "val_loss" not in row:  # of steps.csv
        return f"{name}: step {row['step']}, loss {row['loss']:.4f}, {row['images_per_s']} images/s"
    accuracy = "" if row["val_accuracy"] is None else f", validation accuracy {row['val_accuracy']:.4f}"
    return f"{name}: pass {row['epoch']}, loss {row['train_loss']:.4f}{accuracy}, {row['seconds']:.0f} s"


def _answer_all(
    request: BenchmarkRequest,
    benchmarks: Mapping[str, Benchmark],
    model: BenchmarkedModel,
    device: str,
    record: Record,
    progress: Progress,
) -> None:
    open_ = {name: benchmark for name, benchmark in benchmarks.items() if name not in record.names("benchmarks")}
    if not open_:
        return
    encoder = model.plan.build(device=device, share={})
    for name, benchmark in open_.items():
        with progress(name, len(benchmark.images), "images") as advance:
            answers = answer_images(
                encoder,
                benchmark.images,
                batch_rows=request.batch_rows,
                progress=advance,
            )
        written = _write_answers(record.out / "predictions", name, benchmark, answers, model)
        is_ok = answers.is_ok
        scores = score_binary(benchmark.is_positive[is_ok], answers.probabilities[is_ok])
        predictions = {what: str(path) for what, path in written.items()}
        record.add("benchmarks", _counts(benchmark, answers, model) | {"scores": scores, "predictions": predictions})


def _counts(benchmark: Benchmark, answers: Answers, model: BenchmarkedModel) -> dict[str, Any]:
    problems = [
        {"path": path, "status": status, "detail": detail or benchmark.statuses.get(row, ("", ""))[1]}
        for row, (path, status, detail) in enumerate(
            zip(benchmark.paths, answers.statuses, answers.details, strict=True)
        )
        if status != OK
    ]
    return {
        "name": benchmark.name,
        "n_listed": len(benchmark.paths),
        "published_count": benchmark.published_count,
        "statuses": dict(sorted(Counter(answers.statuses).items())),
        "problems": problems,
        "n_seen": sum(digest in model.seen for digest in answers.digests),
    }


def _fold(
    request: BenchmarkRequest,
    benchmark: Benchmark,
    model: BenchmarkedModel,
    trainer: Trainer,
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    with progress(f"{benchmark.name}, five folds", 5, "folds") as advance:
        found = run_five_fold(
            benchmark.name,
            benchmark.images,
            benchmark.is_positive,
            trainer,
            seed=request.seed,
            progress=advance,
        )
    written = _write_answers(out / "five_fold", benchmark.name, benchmark, found.answers, model, fold_of=found.fold_of)
    share = majority_of(benchmark.is_positive[found.answers.is_ok])["share"]
    counts = _counts(benchmark, found.answers, model)
    return counts | found.to_json() | {"majority": share, "predictions": {k: str(v) for k, v in written.items()}}


def _read_split(root: Path, split: int) -> dict[str, Benchmark]:
    return {part: read_benchmark(root, fi_part(split, part)) for part in PARTS}


def _run_splits(
    request: BenchmarkRequest,
    splits: Mapping[int, Mapping[str, Benchmark]],
    model: BenchmarkedModel,
    trainer: Trainer,
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    documents = []
    with progress("FI, published splits", len(splits), "splits") as advance:
        for split, parts in splits.items():
            lists = {
                part: FiPart(
                    images=benchmark.images,
                    paths=benchmark.paths,
                    is_positive=benchmark.is_positive,
                )
                for part, benchmark in parts.items()
            }
            found = run_split(split, lists, trainer, seed=request.seed, progress=advance)
            name = f"split-{split}"
            written = _write_answers(out / "fi_splits", name, parts["test"], found.answers, model)
            counts = _counts(parts["test"], found.answers, model)
            files_of = {"predictions": {what: str(path) for what, path in written.items()}}
            documents.append(counts | dict(found.document) | files_of)
    return summarise_splits(documents)


def _write_answers(
    folder: Path, name: str, benchmark: Benchmark, answers: Answers, model: BenchmarkedModel, **more: Any
) -> dict[str, Path]:
    return write_predictions(
        folder,
        name,
        paths=benchmark.paths,
        is_positive=benchmark.is_positive,
        answers=answers,
        metadata={"benchmark": benchmark.name, "model": model.to_json(), "made_by": sentifuse.__version__},
        **more,
    )


def _files(out: Path) -> dict[str, Path]:
    return {"json": out / JSON_FILE, "markdown": out / "table.md", "latex": out / "table.tex"}


def _write(out: Path, document: Mapping[str, Any]) -> None:
    grids = grids_of(document)
    heading = f"Benchmarks of {document['model']['name']}"
    found = _files(out)
    files.write_json(found["json"], document)
    files.write_bytes(found["markdown"], to_markdown(heading, grids).encode())
    files.write_bytes(found["latex"], to_latex(heading, grids).encode())
