"""Measure a finished run on one part of its split: numbers, a table of predictions, a picture. Learns nothing.

The split must be the one that the run was trained on, and its features the very same; otherwise nothing is measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import DataError
from sentifuse.data.labels import read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.splits import read_split
from sentifuse.fuse.batches import BatchSource
from sentifuse.fuse.figures import draw_confusion
from sentifuse.fuse.heads.head import Head
from sentifuse.fuse.infer import infer, softmax
from sentifuse.fuse.metrics import score
from sentifuse.fuse.run import Predictions, RunDirectory, write_metrics
from sentifuse.fuse.samples import Samples, digest_ids, prove_features, select_samples
from sentifuse.fuse.train import PARTS, find_device


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPart:
    """A run and one part of its split, ready to be measured."""

    run: RunDirectory
    head: Head
    source: BatchSource
    samples: Samples
    ids: tuple[str, ...]  # of the whole part, usable or not
    artifacts: Path


def evaluate(
    run: Path | RunDirectory,
    *,
    split: str = "test",
    artifacts: Path | None = None,
    device: str = "auto",
    reader: str = "mmap",
) -> dict[str, Any]:
    """Metrics of a run on a part of its split; also written into the run directory.

    Parameters
    ----------
    split
        "test", "val" or "train".
    artifacts
        Where dataset and cache lie; None: the artefacts folder that the run lies in.
    reader
        How features are read: "mmap" or "h5py", see `FeatureReader`.

    Returns
    -------
    dict
        Everything of `metrics.score`, and run, split, dataset, head, preset, protocol, seed, rule, target,
        split_digest, excluded (id → reason), evaluations (how often this part was opened), files (predictions,
        metrics, confusion); and `statistics` (their means), if the head has any.

    Raises
    ------
    ConfigError
        No run there, or no such part.
    DataError
        Labels or split are not those of the training any more, or no pair can be used.
    CacheError
        The features are gone, out of date, damaged, or made by another recipe.
    """
    part = open_part(run, split, artifacts=artifacts, device=device, reader=reader)
    run, samples, document = part.run, part.samples, part.run.document
    answers = infer(part.head, part.source, device=part.source.device)
    predictions = Predictions(
        ids=samples.ids,
        labels=samples.labels,
        probabilities=softmax(answers.logits),
        classes=run.classes,
    )
    opened = run.count_evaluation(split)
    result = (
        score(samples.labels, predictions.predicted, run.classes)
        | answers.to_metrics()
        | {
            "run": str(run.path),
            "split": split,
            "dataset": document["dataset"],
            "head": document["head"],
            "preset": document["preset"],
            "protocol": document["protocol"],
            "seed": document["seed"],
            "rule": document["rule"],
            "target": document["target"],
            "split_digest": digest_ids(part.ids),
            "excluded": dict(samples.excluded),
            "evaluations": opened,
        }
    )
    return result | {"files": _write(run, split, predictions, result)}


def open_part(
    run: Path | RunDirectory,
    split: str,
    *,
    artifacts: Path | None = None,
    device: str = "auto",
    reader: str = "mmap",
) -> OpenedPart:
    """The trained head and the usable pairs of a part of its split; see `evaluate`, which refuses the same."""
    run = run if isinstance(run, RunDirectory) else RunDirectory.open(run)
    document = run.document
    artifacts = artifacts or run.artifacts
    dataset_dir = artifacts / "datasets" / document["dataset"]
    target_device = find_device(device)
    readers = run.open_features(artifacts, reader=reader)
    labels = read_labels(dataset_dir, document["rule"])
    if labels.classes != run.classes:
        raise DataError(
            f"{dataset_dir}: the classes are {list(labels.classes)}, expected {list(run.classes)} as in run "
            f"{run.name}. Train again"
        )
    _refuse_other_split(run, dataset_dir)
    ids = read_split(
        dataset_dir, protocol=document["protocol"], seed=document["seed"], rule=labels.rule, parts=(split,)
    )[split]
    samples = select_samples(ids, labels, document["target"], readers, run.requests(), read_manifest(dataset_dir))
    if not samples.ids:
        raise DataError(
            f"run {run.name}: expected usable pairs in the {split} part, found none of {len(ids)}. "
            "Extract the missing features, or choose another --split"
        )
    head = run.load_head().to(target_device)
    fits = prove_features(readers, samples.ids)
    source = BatchSource(
        readers,
        run.requests(),
        samples.ids,
        samples.labels,
        reuse=True,
        device=target_device,
        read_ahead=not fits,
    )
    return OpenedPart(run=run, head=head, source=source, samples=samples, ids=ids, artifacts=artifacts)


def _write(run: RunDirectory, split: str, predictions: Predictions, result: Mapping[str, Any]) -> dict[str, str]:
    title = (
        f"{result['head']} on {result['dataset']}\n"
        f"{split}: {result['n']:,} pairs, {result['protocol']} split, seed {result['seed']}\n"
        f"accuracy {result['accuracy']:.1%}, weighted F1 {result['f1_weighted']:.1%}"
    )
    picture = run.path / f"confusion-{split}.png"
    return {
        "predictions": str(predictions.write(run.path, split)),
        "metrics": str(write_metrics(run.path, split, result)),
        "confusion": str(draw_confusion(picture, result["confusion"], result["classes"], title)),
    }


def _refuse_other_split(run: RunDirectory, dataset_dir: Path) -> None:
    """A split made anew may hold in its test part what the run was trained on."""
    document = run.document
    parts = read_split(
        dataset_dir, protocol=document["protocol"], seed=document["seed"], rule=document["rule"], parts=PARTS
    )
    for part, recorded in document["split"].items():
        if digest_ids(parts[part]) != recorded["digest"]:
            raise DataError(
                f"{dataset_dir}: the {part} part of split {document['protocol']}-s{document['seed']} has "
                f"{len(parts[part])} pairs, and they are not the {recorded['n']} that run {run.name} was trained with: "
                "labels or pairs have changed since. Its test part may hold training pairs. Train again"
            )
