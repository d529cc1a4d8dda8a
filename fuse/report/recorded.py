"""What a run has recorded about one part, proven to be about the dataset as it is now; measured first where need be.

Every measurement goes through `evaluate`, which counts it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.data.card import Card, read_card
from sentifuse.data.labels import Labels, read_labels
from sentifuse.data.manifest import Manifest, read_manifest
from sentifuse.data.source import SPLITS
from sentifuse.data.splits import SplitFacts, read_split, read_split_facts
from sentifuse.fuse.evaluate import evaluate, read_run_split
from sentifuse.fuse.features.samples import digest_ids
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.run import HINT, RUN_FILE, Predictions, RunDirectory, read_predictions

RUN_KEYS = (
    "head", "preset", "config", "dataset", "rule", "target", "classes", "protocol", "seed", "split", "feature_sets",
    "samples", "excluded", "parameters", "best", "device", "versions", "command", "created", "timings",
)  # fmt: skip
# What `evaluate` writes and training does not: a file without these was never measured.
METRIC_KEYS = (
    "n", "accuracy", "f1_weighted", "f1_macro", "balanced_accuracy", "per_class", "confusion", "classes", "absent",
    "auroc", "auroc_per_class", "auroc_reason", "nll", "brier", "bins", "ece", "ece_if_calibrated", "reliability",
    "intervals", "subsets", "split_digest", "rule", "excluded",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run, its dataset, and what it said about one part."""

    run: RunDirectory
    split: str
    metrics: Mapping[str, Any]
    predictions: Predictions
    is_measured_now: bool
    dataset_dir: Path
    artifacts: Path
    card: Card
    facts: SplitFacts
    labels: Labels
    manifest: Manifest


def read_recorded(
    run: Path | RunDirectory,
    split: str,
    *,
    artifacts: Path | None = None,
    device: str = "auto",
    reader: str = "mmap",
) -> Recorded:
    """Metrics and predictions of a part, written earlier or now; parameters are those of `evaluate`.

    Raises
    ------
    ConfigError
        No run there, or no such part.
    DataError
        A file of the run is torn, or is not about these pairs and labels: another manifest, rule or split.
    CacheError
        The part was not evaluated yet, and the features that it takes are gone.
    """
    if split not in SPLITS:
        raise ConfigError.unknown("part of the split", split, SPLITS, where="--split")
    run = run if isinstance(run, RunDirectory) else RunDirectory.open(run)
    require(run.path / RUN_FILE, run.document, RUN_KEYS, hint=HINT)
    document = run.document
    artifacts = artifacts or run.artifacts
    dataset_dir = artifacts / "datasets" / document["dataset"]
    card = read_card(dataset_dir)
    labels = read_labels(dataset_dir, document["rule"])
    if labels.classes != run.classes:
        raise DataError(
            f"{dataset_dir}: the classes are {list(labels.classes)}, expected {list(run.classes)} as in run "
            f"{run.name}. Prepare the dataset as then, or train again"
        )
    read_run_split(run, dataset_dir)  # refuses another split than the run's
    place: dict[str, Any] = {name: document.get(name, 0) for name in ("protocol", "seed", "fold")}
    place["rule"] = document["rule"]
    is_measured_now = not _is_measured(run, split)
    if is_measured_now:
        evaluate(run, split=split, artifacts=artifacts, device=device, reader=reader)
        run = RunDirectory.open(run.path)
    recorded = Recorded(
        run=run,
        split=split,
        metrics=files.read_json(run.path / f"metrics-{split}.json", hint=_hint(run, split)),
        predictions=_predictions(run, split),
        is_measured_now=is_measured_now,
        dataset_dir=dataset_dir,
        artifacts=artifacts,
        card=card,
        facts=read_split_facts(dataset_dir, **place),
        labels=labels,
        manifest=read_manifest(dataset_dir),
    )
    _refuse_others(recorded, read_split(dataset_dir, **place, parts=(split,))[split])
    return recorded


def require(path: Path, document: Mapping[str, Any], keys: tuple[str, ...], *, hint: str) -> None:
    """Refuse a JSON file that lacks something; `DataError` with `hint`."""
    absent = [key for key in keys if key not in document]
    if absent:
        raise DataError(f"{path}: expected the keys {', '.join(keys)}, these are missing: {', '.join(absent)}. {hint}")


def _is_measured(run: RunDirectory, split: str) -> bool:
    """Whether `evaluate` was here: training writes metrics of validation, too, but without intervals."""
    path = run.path / f"metrics-{split}.json"
    if not files.is_file(path) or not files.is_file(run.path / f"predictions-{split}.parquet"):
        return False
    return all(key in files.read_json(path, hint=_hint(run, split)) for key in METRIC_KEYS)


def _predictions(run: RunDirectory, split: str) -> Predictions:
    try:
        return read_predictions(run, split)
    except KeyError as error:  # a label that is no class of the run
        raise _strange(run, split, f"a pair labelled {error}, which is none of {list(run.classes)}") from error


def _refuse_others(recorded: Recorded, ids: tuple[str, ...]) -> None:
    """Refuse metrics and predictions of other pairs or labels than those of the split now, or of each other."""
    run, split, metrics, predictions = recorded.run, recorded.split, recorded.metrics, recorded.predictions
    if metrics["split_digest"] != digest_ids(ids) or metrics["rule"] != run.document["rule"]:
        raise _strange(run, split, f"those of other pairs (rule {metrics['rule']}, {metrics['n']:,} pairs)")
    if {*predictions.ids} | {*metrics["excluded"]} != {*ids}:
        raise _strange(run, split, f"predictions of {len(predictions.ids):,} pairs, which are others")
    known = recorded.labels.by_id(run.document["target"])
    changed = [
        id_
        for id_, label in zip(predictions.ids, predictions.labels.tolist(), strict=True)
        if known.get(id_) != predictions.classes[label]
    ]
    if changed:
        raise _strange(run, split, f"{len(changed):,} pairs with another label than now, as {changed[0]}")
    found = score(predictions.labels, predictions.predicted, predictions.classes)
    if found["confusion"] != metrics["confusion"]:
        raise _strange(run, split, "metrics and predictions of two different measurements")


def _strange(run: RunDirectory, split: str, found: str) -> DataError:
    return DataError(
        f"{run.path}: expected metrics and predictions of the {split} part as it is now, found {found}. "
        f"{_hint(run, split)}"
    )


def _hint(run: RunDirectory, split: str) -> str:
    return f"Run: sentifuse evaluate --run {run.name} --split {split}"
