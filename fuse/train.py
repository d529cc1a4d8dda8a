"""Train one head on one dataset's cached features: everything is checked first, the run directory appears last.

Reads the training and the validation part of the split; the test part is never asked for.
"""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

import sentifuse
from sentifuse import ConfigError, ResourceError, TrainingError
from sentifuse.cache.current import read_current
from sentifuse.cache.reader import READERS, FeatureReader
from sentifuse.data.card import read_card
from sentifuse.data.labels import TARGETS, Labels, read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.protocols import PROTOCOLS
from sentifuse.data.reasons import count_reasons
from sentifuse.data.splits import SplitFacts, read_split, read_split_facts
from sentifuse.fuse.config import ResolvedConfig, resolve
from sentifuse.fuse.features.batches import BatchSource, FieldRequest
from sentifuse.fuse.features.delivery import RESIDENT
from sentifuse.fuse.features.inputs import digest_inputs
from sentifuse.fuse.features.samples import (
    OpenReader,
    Samples,
    digest_ids,
    open_features,
    prove_features,
    select_samples,
)
from sentifuse.fuse.heads import load_head
from sentifuse.fuse.heads.head import Head
from sentifuse.fuse.infer import infer, softmax
from sentifuse.fuse.loop import EpochReport, FitResult, fit_head
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.run import (
    FORMAT_VERSION,
    Predictions,
    RunDirectory,
    check_runs_folder,
    count_parameters,
    describe_feature_set,
    run_name,
    write_run,
)
from sentifuse.fuse.seen import refuse_seen

PARTS = ("train", "val")
MAX_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What to train, on what, and how. `None` takes the dataset card's value."""

    artifacts: Path
    dataset: str
    head: str
    preset: str = "default"
    seed: int = 0  # of the split and of everything random in the training
    protocol: str | None = None
    fold: int | None = None  # from 1, under a protocol with folds
    rule: str | None = None
    target: str = "label"
    overrides: Mapping[str, Any] | None = None  # `--set key=value`
    device: str = "auto"
    reader: str = "mmap"  # how features are read: "mmap" or "h5py"
    resident: str | None = None  # "device" or "ram": move the features there once, if they fit
    command: tuple[str, ...] = ()  # the command line, for the record


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """What a training starts from, all of it checked."""

    labels: Labels
    split_facts: SplitFacts
    requests: tuple[FieldRequest, ...]
    readers: Mapping[str, FeatureReader]
    split: Mapping[str, tuple[str, ...]]
    samples: Mapping[str, Samples]
    digests: Mapping[str, Mapping[str, Any]]  # part -> `digest_inputs`
    fit_in_memory: bool  # and are proven

    def source(self, part: str, device: torch.device, resident: str | None) -> BatchSource:
        samples = self.samples[part]
        return BatchSource(
            self.readers,
            self.requests,
            samples.ids,
            samples.labels,
            text_labels=samples.text_labels if part == "train" else None,
            image_labels=samples.image_labels if part == "train" else None,
            reuse=True,
            device=device,
            resident=resident,
            read_ahead=not self.fit_in_memory,
        )


def train(
    request: TrainRequest,
    progress: Callable[[EpochReport], None] | None = None,
    announce: Callable[[Mapping[str, Any]], None] | None = None,
    report_split: Callable[[SplitFacts], None] | None = None,
    *,
    open_reader: OpenReader = FeatureReader,
) -> RunDirectory:
    """Train and write a run directory; `announce` hears before the first step what the head has to say about it.

    `report_split` hears, as soon as the inputs are checked, sizes and leak of the split. `open_reader` makes the reader
    of a feature set, see `samples.open_features`.

    Raises
    ------
    ConfigError
        Unknown head, preset, setting, protocol, fold, rule, target or device.
    DataError
        The dataset is not prepared, or the artefacts folder cannot be written.
    CacheError
        A feature that the head needs was not extracted, is out of date or damaged.
    ResourceError
        The device is not there, or the features do not fit where `resident` wants them.
    TrainingError
        No usable pairs, a class without training pairs, or a loss that is not finite.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    head_class = load_head(request.head)
    config = resolve(
        request.head,
        head_class.Config,
        head_class.PRESETS,
        preset=request.preset,
        overrides=request.overrides,
        dataset=request.dataset,
    )
    _check_request(request)
    if head_class.has_closed_fit and config.train.precision != "float32":
        raise ConfigError(
            f"precision: head {request.head} is solved in float64, not trained in steps; expected float32, found "
            f"{config.train.precision}. Leave the setting out"
        )
    device = torch.device("cpu") if head_class.has_closed_fit else find_device(request.device)
    inputs = _read_inputs(request, head_class.requests(config.head), open_reader)
    runs = check_runs_folder(request.artifacts)
    if report_split is not None:
        report_split(inputs.split_facts)

    train_source, val_source = (inputs.source(part, device, request.resident) for part in PARTS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        head = head_class(config.head, train_source.widths, len(inputs.labels.classes)).to(device)
    prepared = time.perf_counter()
    result = fit_head(
        head,
        config.train,
        train_source,
        val_source,
        seed=request.seed,
        device=device,
        progress=progress,
        announce=announce,
    )
    fitted = time.perf_counter()
    answers = infer(head, val_source, device=device)
    predictions = Predictions(
        ids=inputs.samples["val"].ids,
        labels=inputs.samples["val"].labels,
        probabilities=softmax(answers.logits),
        classes=inputs.labels.classes,
    )
    metrics = score(predictions.labels, predictions.predicted, predictions.classes, predictions.probabilities)
    metrics |= answers.to_metrics()
    document = _document(request, config, inputs, head, result, metrics, device) | {
        "created": started.isoformat(timespec="seconds"),
        "timings": {"prepare_s": round(prepared - clock, 3), "fit_s": round(fitted - prepared, 3)},
        "evaluations": {},
    }
    name = run_name(
        started,
        head=request.head,
        dataset=request.dataset,
        protocol=inputs.split_facts.protocol,
        seed=request.seed,
        fold=inputs.split_facts.fold or None,
    )
    return write_run(
        runs, name, document=document, history=result.history, head=head, predictions=predictions, metrics=metrics
    )


def find_device(name: str) -> torch.device:
    """`auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.

    Raises
    ------
    ConfigError, ResourceError
        No such kind of device; or it is not there.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ConfigError.unknown("device", name, ("auto", "cpu", "cuda", "cuda:0"), where="--device")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise ResourceError(f"--device {name}: expected a CUDA device of this number, found {count}. Use --device cpu")
    return torch.device("cuda", int(number or 0))


def _check_request(request: TrainRequest) -> None:
    if request.target not in TARGETS:
        raise ConfigError.unknown("target", request.target, TARGETS, where="--target")
    if request.protocol is not None and request.protocol not in PROTOCOLS:
        raise ConfigError.unknown("protocol", request.protocol, PROTOCOLS, where="--protocol")
    if request.reader not in READERS:
        raise ConfigError.unknown("reader", request.reader, READERS, where="--reader")
    if request.resident not in (None, *RESIDENT):
        raise ConfigError.unknown("place", str(request.resident), RESIDENT, where="--resident")
    if not 0 <= request.seed <= MAX_SEED:
        raise ConfigError(f"--seed: expected a whole number from 0 to {MAX_SEED}, found {request.seed}")


def _read_inputs(request: TrainRequest, requests: tuple[FieldRequest, ...], open_reader: OpenReader) -> _Inputs:
    dataset_dir = request.artifacts / "datasets" / request.dataset
    card = read_card(dataset_dir)
    readers = open_features(
        request.artifacts, request.dataset, requests, reader=request.reader, open_reader=open_reader
    )
    labels = read_labels(dataset_dir, request.rule)
    protocol = card.protocol if request.protocol is None else request.protocol
    fold = 0 if request.fold is None else request.fold
    split = read_split(dataset_dir, protocol=protocol, seed=request.seed, rule=labels.rule, fold=fold, parts=PARTS)
    facts = read_split_facts(dataset_dir, protocol=protocol, seed=request.seed, rule=labels.rule, fold=fold)
    manifest = read_manifest(dataset_dir)
    samples = {part: select_samples(split[part], labels, request.target, readers, requests, manifest) for part in PARTS}
    own = [id_ for ids in split.values() for id_ in ids]
    refuse_seen(readers, labelled=labels.by_id(request.target), own=own)
    _refuse_useless(request, labels, samples)
    fit_in_memory = prove_features(readers, [id_ for found in samples.values() for id_ in found.ids])
    return _Inputs(
        labels=labels,
        split_facts=facts,
        requests=requests,
        readers=readers,
        split=split,
        samples=samples,
        digests={
            part: digest_inputs(ids, labels, request.target, readers, manifest.by_id()) for part, ids in split.items()
        },
        fit_in_memory=fit_in_memory,
    )


def _refuse_useless(request: TrainRequest, labels: Labels, samples: Mapping[str, Samples]) -> None:
    where = f"head {request.head} on {request.dataset}"
    if len(labels.classes) < 2:
        raise TrainingError(f"{where}: expected at least two classes, found {list(labels.classes)}. Label more pairs")
    for part in PARTS:
        if not samples[part].ids:
            reasons = "; ".join(f"{n} pairs {reason}" for reason, n in count_reasons(samples[part].excluded).items())
            todo = "Extract what is missing, choose a head that does not need it, or another --protocol or --rule"
            if not reasons:
                todo = "The dataset is too small to be split so: label more pairs, or choose another --protocol"
            raise TrainingError(
                f"{where}: expected usable pairs in the {part} part, found none ({reasons or 'the part is empty'}). "
                f"{todo}"
            )
    counts = samples["train"].class_counts(labels.classes)
    empty = [name for name, n in counts.items() if n == 0]
    if empty:
        raise TrainingError(
            f"{where}: expected training pairs of every class, found none of {', '.join(empty)} ({counts}). "
            "Choose another --seed or --protocol, or label more pairs"
        )


def _document(
    request: TrainRequest,
    config: ResolvedConfig,
    inputs: _Inputs,
    head: Head,
    result: FitResult,
    metrics: Mapping[str, Any],
    device: torch.device,
) -> dict[str, Any]:
    averages = ("accuracy", "f1_weighted", "f1_macro", "balanced_accuracy")
    return {
        "format": FORMAT_VERSION,
        "head": request.head,
        "preset": request.preset,
        "config": config.to_json(),
        "dataset": request.dataset,
        "profile": read_current(request.artifacts / "cache" / request.dataset).profile,
        "rule": inputs.labels.rule,
        "target": request.target,
        "classes": list(inputs.labels.classes),
        "protocol": inputs.split_facts.protocol,
        "fold": inputs.split_facts.fold,
        "seed": request.seed,
        "split": {part: {"n": len(inputs.split[part]), "digest": digest_ids(inputs.split[part])} for part in PARTS},
        **_of_split(inputs.split_facts),
        "inputs": inputs.digests,
        "feature_sets": {name: describe_feature_set(reader) for name, reader in inputs.readers.items()},
        "widths": head.widths,
        "samples": {
            part: {"n": len(found.ids), "classes": found.class_counts(inputs.labels.classes)}
            for part, found in inputs.samples.items()
        },
        "excluded": {part: dict(found.excluded) for part, found in inputs.samples.items()},
        **_own_of_head(inputs, result),
        "parameters": count_parameters(head),
        "best": {"epoch": result.best_epoch, "val_accuracy": result.val_accuracy, "val_loss": result.val_loss},
        "epochs_run": len(result.history),
        "validation": {name: metrics[name] for name in averages},
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": {
            "sentifuse": sentifuse.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "command": list(request.command),
    }


def _of_split(facts: SplitFacts) -> dict[str, Any]:
    """What a run remembers of the whole split, test part included: no id of it."""
    return {
        "folds": facts.k,
        "split_digest": facts.digest,
        "leak": {part: dict(counts) for part, counts in facts.leak.items()},
        "images_compared": {"n": facts.n_hashed, "of": facts.n_pairs},
        "missing_listed": facts.missing,
    }


def _own_of_head(inputs: _Inputs, result: FitResult) -> dict[str, Any]:
    """`notes` and `held_out`, for a head that has them."""
    found: dict[str, Any] = {"notes": dict(result.notes)} if result.notes else {}
    if result.held_out:
        known = dict(zip(inputs.samples["train"].ids, inputs.samples["train"].labels.tolist(), strict=True))
        counts = np.bincount([known[id_] for id_ in result.held_out], minlength=len(inputs.labels.classes))
        classes = dict(zip(inputs.labels.classes, counts.tolist(), strict=True))
        found["held_out"] = {"n": len(result.held_out), "digest": digest_ids(result.held_out), "classes": classes}
    return found
