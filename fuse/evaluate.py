"""Measure a finished run on one part of its split: numbers, a table of predictions, a picture. Learns nothing.

The split must be the one that the run was trained on, and its features the very same; otherwise nothing is measured.
Every look at a part is counted in run.json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import DataError
from sentifuse.cache.reader import FeatureReader
from sentifuse.data.groups import read_groups
from sentifuse.data.labels import Labels, read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.protocols import GROUPED
from sentifuse.data.splits import read_split, read_split_facts
from sentifuse.fuse.features.batches import BatchSource
from sentifuse.fuse.features.inputs import digest_inputs
from sentifuse.fuse.features.samples import OpenReader, Samples, digest_ids, prove_features, select_samples
from sentifuse.fuse.figures import draw_confusion
from sentifuse.fuse.heads.head import Head
from sentifuse.fuse.infer import infer, softmax
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.measure.statistics import RESAMPLES, bootstrap
from sentifuse.fuse.measure.subsets import score_subsets, subsets
from sentifuse.fuse.run import Predictions, RunDirectory, write_metrics
from sentifuse.fuse.train import PARTS, find_device


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPart:
    """A run and one part of its split, ready to be measured."""

    run: RunDirectory
    head: Head
    source: BatchSource
    samples: Samples
    ids: tuple[str, ...]  # of the whole part, usable or not
    labels: Labels
    training_ids: tuple[str, ...]
    inputs: Mapping[str, Any]  # of `ids`, see `digest_inputs`
    dataset_dir: Path
    artifacts: Path

    @property
    def is_grouped(self) -> bool:
        """Whether the split keeps near-duplicates together; intervals then draw groups, otherwise pairs."""
        return self.run.document["protocol"] in GROUPED

    def subsets(self, groups: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """The named subsets that the dataset and `groups` (id → near-duplicates) tell; see `fuse.measure.subsets`."""
        is_unseen = not {*self.ids} & {*self.training_ids}
        training_ids = self.training_ids if is_unseen else ()
        return subsets(self.ids, labels=self.labels, groups=groups if is_unseen else None, training_ids=training_ids)


def evaluate(
    run: Path | RunDirectory,
    *,
    split: str = "test",
    artifacts: Path | None = None,
    device: str = "auto",
    reader: str = "mmap",
    open_reader: OpenReader = FeatureReader,
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
    open_reader
        Makes the reader of a feature set, see `samples.open_features`.

    Returns
    -------
    dict
        Everything of `measure`, and run, split, dataset, head, preset, protocol, seed, rule, target, split_digest,
        inputs (`digest_inputs` of the part), excluded (id → reason), evaluations (how often this part was opened),
        files (predictions, metrics, confusion); and `statistics` (their means), if the head has any.

    Raises
    ------
    ConfigError
        No run there, or no such part.
    DataError
        Labels or split are not those of the training any more, or no pair can be used.
    CacheError
        The features are gone, out of date, damaged, or made by another recipe.
    """
    part = open_part(run, split, artifacts=artifacts, device=device, reader=reader, open_reader=open_reader)
    run, samples, document = part.run, part.samples, part.run.document
    answers = infer(part.head, part.source, device=part.source.device)
    predictions = Predictions(
        ids=samples.ids,
        labels=samples.labels,
        probabilities=softmax(answers.logits),
        classes=run.classes,
    )
    groups = read_groups(part.dataset_dir)
    opened = run.count_evaluation(split)
    result = (
        measure(predictions, named=part.subsets(groups), groups=groups if part.is_grouped else None)
        | answers.to_metrics()
        | {
            "run": str(run.path),
            "split": split,
            "dataset": document["dataset"],
            "head": document["head"],
            "preset": document["preset"],
            "protocol": document["protocol"],
            "fold": document.get("fold", 0),
            "seed": document["seed"],
            "rule": document["rule"],
            "target": document["target"],
            "split_digest": digest_ids(part.ids),
            "inputs": dict(part.inputs),
            "excluded": dict(samples.excluded),
            "evaluations": opened,
        }
    )
    return result | {"files": _write(run, split, predictions, result)}


def measure(
    predictions: Predictions,
    *,
    named: Mapping[str, Sequence[str]] | None = None,
    groups: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """All numbers that follow from a table of predictions; the written table is enough to have them again.

    Parameters
    ----------
    named
        Subsets: name → ids, see `subsets`.
    groups
        id → group, to draw groups instead of pairs for the intervals.

    Returns
    -------
    dict
        Everything of `metrics.score` with probabilities; intervals: measure → `statistics.Interval`; subsets: name →
        `subsets.score_subsets`.
    """
    metrics = score(predictions.labels, predictions.predicted, predictions.classes, predictions.probabilities)
    intervals = bootstrap(
        predictions.labels,
        predictions.predicted,
        len(predictions.classes),
        groups=None if groups is None else [groups[id_] for id_ in predictions.ids],
        resamples=resamples,
        seed=seed,
    )
    return metrics | {
        "intervals": {name: interval.to_json() for name, interval in intervals.items()},
        "subsets": score_subsets(predictions, named or {}, groups=groups, resamples=resamples, seed=seed),
    }


def open_part(
    run: Path | RunDirectory,
    split: str,
    *,
    artifacts: Path | None = None,
    device: str = "auto",
    reader: str = "mmap",
    open_reader: OpenReader = FeatureReader,
) -> OpenedPart:
    """The trained head and the usable pairs of a part of its split; see `evaluate`, which refuses the same."""
    run = run if isinstance(run, RunDirectory) else RunDirectory.open(run)
    document = run.document
    artifacts = artifacts or run.artifacts
    dataset_dir = artifacts / "datasets" / document["dataset"]
    target_device = find_device(device)
    readers = run.open_features(artifacts, reader=reader, open_reader=open_reader)
    labels = read_labels(dataset_dir, document["rule"])
    if labels.classes != run.classes:
        raise DataError(
            f"{dataset_dir}: the classes are {list(labels.classes)}, expected {list(run.classes)} as in run "
            f"{run.name}. Train again"
        )
    training_ids = read_run_split(run, dataset_dir)["train"]
    ids = read_split(
        dataset_dir,
        protocol=document["protocol"],
        seed=document["seed"],
        rule=labels.rule,
        fold=document.get("fold", 0),
        parts=(split,),
    )[split]
    manifest = read_manifest(dataset_dir)
    samples = select_samples(ids, labels, document["target"], readers, run.requests(), manifest)
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
    return OpenedPart(
        run=run,
        head=head,
        source=source,
        samples=samples,
        ids=ids,
        labels=labels,
        training_ids=training_ids,
        inputs=digest_inputs(ids, labels, document["target"], readers, manifest.by_id()),
        dataset_dir=dataset_dir,
        artifacts=artifacts,
    )


def _write(run: RunDirectory, split: str, predictions: Predictions, result: Mapping[str, Any]) -> dict[str, str]:
    ends = result["intervals"]["accuracy"]
    fold = f", fold {result['fold']}" if result["fold"] else ""
    interval = "" if ends["low"] is None else f" [{ends['low']:.1%}, {ends['high']:.1%}]"
    title = (
        f"{result['head']} on {result['dataset']}\n"
        f"{split}: {result['n']:,} pairs, {result['protocol']} split, seed {result['seed']}{fold}\n"
        f"accuracy {result['accuracy']:.1%}{interval}, weighted F1 {result['f1_weighted']:.1%}"
    )
    picture = run.path / f"confusion-{split}.png"
    return {
        "predictions": str(predictions.write(run.path, split)),
        "metrics": str(write_metrics(run.path, split, result)),
        "confusion": str(draw_confusion(picture, result["confusion"], result["classes"], title)),
    }


def read_run_split(run: RunDirectory, dataset_dir: Path) -> dict[str, tuple[str, ...]]:
    """The parts of the split that a run was trained on: part -> ids.

    Raises
    ------
    DataError
        It is another split now: one made anew may hold in its test part what the run was trained on.
    """
    document = run.document
    split = {"protocol": document["protocol"], "seed": document["seed"], "fold": document.get("fold", 0)}
    parts = read_split(dataset_dir, **split, rule=document["rule"], parts=PARTS)
    facts = read_split_facts(dataset_dir, **split, rule=document["rule"])
    for part, recorded in document["split"].items():
        if digest_ids(parts[part]) != recorded["digest"]:
            raise DataError(
                f"{dataset_dir}: the {part} part of split {document['protocol']}-s{document['seed']} has "
                f"{len(parts[part])} pairs, and they are not the {recorded['n']} that run {run.name} was trained with: "
                "labels or pairs have changed since. Its test part may hold training pairs. Train again"
            )
    # Runs from before the digest was recorded are known by training and validation part alone.
    if document.get("split_digest", facts.digest) != facts.digest:
        raise DataError(
            f"{dataset_dir}: the test part of split {document['protocol']}-s{document['seed']} is not that of run "
            f"{run.name}: labels or pairs have changed since. Prepare as then, or train again"
        )
    return parts
