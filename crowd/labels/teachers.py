"""Teachers: probabilities for every pair with a usable text, from a cached encoder or from a run of our own.

Reads the cache and never fills it: what is missing is named with the line to type. Writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sentifuse import CacheError, ConfigError, DataError, __version__
from sentifuse.cache.current import read_current
from sentifuse.cache.errors import NoFeatures
from sentifuse.cache.featureset import open_feature_set
from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.labels.pseudo_labels import PseudoLabels
from sentifuse.crowd.vectors import gather
from sentifuse.data import files
from sentifuse.data.manifest import OK, Manifest, read_manifest
from sentifuse.data.prepare import dataset_dir
from sentifuse.data.source import SENTIMENT
from sentifuse.data.text import normalise

if TYPE_CHECKING:
    from sentifuse.fuse.run import RunDirectory

__all__ = ["ENCODER", "TEXT_TARGET", "describe_teacher", "label_by_encoder", "label_by_run", "same_words"]

# Shapes: N pairs, 3 classes in the order negative, neutral, positive.

ENCODER, FIELD = "teacher", "probabilities"
TEXT_TARGET = "text_label"
TEACHER_LINE = "sentifuse train --head text_only --target text_label"
SHOWN_IDS = 5


def label_by_encoder(artifacts: Path, dataset: str, *, profile: str | None = None) -> PseudoLabels:
    """What the encoder `teacher` says, as it was extracted. It knows no label of ours: `gold_seen` is False everywhere.

    Parameters
    ----------
    profile
        Take the features of this profile's teacher; None: those last extracted for the dataset.

    Raises
    ------
    CacheError
        Not extracted, or not for these texts; the message has the command to type.
    DataError
        The dataset is not prepared, or no pair has a text.
    ResourceError
        The profile's model is not on this machine.
    """
    folder = dataset_dir(artifacts, dataset)
    manifest = read_manifest(folder)
    flag = f" --profile {profile}" if profile else ""
    line = f"sentifuse extract --dataset {dataset} --encoders {ENCODER}{flag}"
    reader = FeatureReader(open_feature_set(_encoder_folder(artifacts, dataset, profile, line)))
    usable, left_out = _split_usable(manifest, folder)
    _refuse_unknown_or_stale(usable, {ENCODER: reader}, manifest, line)
    ids, left_out = _with_features(usable, {ENCODER: reader}, left_out)
    details = reader.feature_set.details
    settings = details.get("settings", reader.recipe.get("settings", {}))
    model = details.get("model", {})
    return PseudoLabels(
        ids=ids,
        probabilities=gather(reader, FIELD, ids).astype(np.float32),
        gold_seen=np.zeros(len(ids), dtype=np.bool_),
        provenance={
            "dataset": dataset,
            "teacher": "encoder",
            "digest": reader.fingerprint,
            "model": model.get("source") or reader.recipe.get("model"),
            "recipe": reader.recipe,
            "cleaning": settings.get("clean"),
            "versions": {"sentifuse": __version__},
        },
        left_out=left_out,
    )


def label_by_run(artifacts: Path, dataset: str, run: Path, *, device: str = "auto") -> PseudoLabels:
    """What a run's head says of the texts, its training, validation and test pairs alike.

    `gold_seen` marks the pairs of its training and validation part; of another dataset than its own, the pairs with the
    same words as one of these. `gold_pairs` are these parts, in the run's own dataset.

    Parameters
    ----------
    run
        A run whose head reads texts alone, over negative, neutral and positive.

    Raises
    ------
    ConfigError
        No run there; its head sees images; its classes are others.
    DataError
        The dataset is not prepared, no pair has a text, or the run's split is not what it was.
    CacheError
        The run's text features are not there for this dataset; the message has the command to type.
    """
    from sentifuse.fuse.evaluate import read_run_split
    from sentifuse.fuse.run import RunDirectory

    opened = RunDirectory.open(run)
    _refuse_other_than_text(opened)
    own_dataset = opened.document["dataset"]
    folder = dataset_dir(artifacts, dataset)
    manifest = read_manifest(folder)
    own_folder = dataset_dir(artifacts, own_dataset)
    seen_ids = {id_ for ids in read_run_split(opened, own_folder).values() for id_ in ids}
    readers = _open_text_features(opened, artifacts, dataset)
    line = f"sentifuse extract --dataset {dataset} --encoders {','.join(readers)}"
    usable, left_out = _split_usable(manifest, folder)
    _refuse_unknown_or_stale(usable, readers, manifest, line)
    ids, left_out = _with_features(usable, readers, left_out)
    probabilities = _answers(opened, readers, ids, device)
    own = manifest if own_dataset == dataset else read_manifest(own_folder)
    digests = {pair.id: pair.image_digest for pair in own.pairs}
    return PseudoLabels(
        ids=ids,
        probabilities=probabilities,
        gold_seen=_is_among(ids, seen_ids if own_dataset == dataset else same_words(manifest, own, seen_ids)),
        provenance=_provenance(opened, dataset, readers),
        left_out=left_out,
        gold_pairs={own_dataset: {id_: digests.get(id_, "") for id_ in sorted(seen_ids)}},
    )


def _answers(
    opened: "RunDirectory", readers: Mapping[str, FeatureReader], ids: Sequence[str], device: str
) -> npt.NDArray[np.float32]:
    """(N, 3) of the run's head."""
    from sentifuse.fuse.features.batches import BatchSource
    from sentifuse.fuse.infer import infer_logits, softmax
    from sentifuse.fuse.train import find_device

    target = find_device(device)
    source = BatchSource(readers, opened.requests(), ids, reuse=True, device=target)
    answers = softmax(infer_logits(opened.load_head().to(target), source, device=target))
    columns = [opened.classes.index(name) for name in SENTIMENT]
    return answers[:, columns].astype(np.float32)


def _provenance(opened: "RunDirectory", dataset: str, readers: Mapping[str, FeatureReader]) -> dict[str, Any]:
    from sentifuse.fuse.run import MODEL_FILE

    document = opened.document
    return {
        "dataset": dataset,
        "teacher": "run",
        "run": opened.name,
        "digest": files.digest(files.read_bytes(opened.path / MODEL_FILE, hint=f"Train again: {TEACHER_LINE}")),
        "head": document["head"],
        "target": document["target"],
        "trained_on": {name: document.get(name) for name in ("dataset", "protocol", "seed", "rule", "fold")},
        "split_digest": document.get("split_digest"),
        "feature_sets": {name: reader.fingerprint for name, reader in readers.items()},
        "cleaning": {name: reader.recipe.get("settings", {}).get("clean") for name, reader in readers.items()},
        "versions": {"sentifuse": __version__},
    }


def _encoder_folder(artifacts: Path, dataset: str, profile: str | None, line: str) -> Path:
    """The folder of the teacher's features, whole for the manifest as it is now."""
    cache_dir = artifacts / "cache" / dataset
    if profile is None:
        try:
            return read_current(cache_dir).directory(ENCODER)
        except NoFeatures as error:
            raise NoFeatures(
                f"{cache_dir}: expected features of the encoder {ENCODER}, found none. Run: {line} (with --profile "
                f"NAME for a profile that has one); or train your own teacher: {TEACHER_LINE} --dataset {dataset}, "
                f"and name it: sentifuse distil label --dataset {dataset} --teacher RUN"
            ) from error
    from sentifuse.extract.job import ExtractRequest, resolve
    from sentifuse.extract.profile import load_profile

    request = ExtractRequest(
        artifacts=artifacts, dataset=dataset, profile=load_profile(profile), encoders=(ENCODER,), is_offline=True
    )
    job = resolve(request).encoders[ENCODER]
    to_do = job.plan.new_rows + job.plan.stale_rows
    if to_do:
        raise CacheError(
            f"{job.directory}: expected {len(job.inputs):,} rows of the encoder {ENCODER}, {to_do:,} are still to be "
            f"computed. Run: {line}"
        )
    return job.directory


def _open_text_features(run: "RunDirectory", artifacts: Path, dataset: str) -> dict[str, FeatureReader]:
    """The features that the run's head reads, for another dataset those made by the very same recipe."""
    from sentifuse.fuse.features.samples import open_features

    if run.document["dataset"] == dataset:
        return run.open_features(artifacts)
    readers = open_features(artifacts, dataset, run.requests())
    for encoder, reader in readers.items():
        expected = run.document["feature_sets"][encoder]["fingerprint"]
        if reader.fingerprint != expected:
            raise CacheError(
                f"{reader.feature_set.directory}: run {run.name} was trained on {encoder} features {expected[:12]}, "
                f"found {reader.fingerprint[:12]} for {dataset}. Extract with the run's profile: sentifuse extract "
                f"--dataset {dataset} --encoders {encoder} --profile {run.document.get('profile', 'NAME')}"
            )
    return readers


def _refuse_other_than_text(run: "RunDirectory") -> None:
    from sentifuse.extract.encoders import ENCODERS, encoder_inputs

    read = sorted({request.encoder for request in run.requests()})
    sighted = [name for name in read if name not in ENCODERS or encoder_inputs(name) != ("text",)]
    if sighted:
        raise ConfigError(
            f"--teacher {run.name}: expected a head that reads texts alone, found {run.document['head']}, which reads "
            f"{', '.join(sighted)} too: a teacher that sees the image has nothing to hand on. Type: {TEACHER_LINE}"
        )
    if set(run.classes) != set(SENTIMENT):
        raise ConfigError(
            f"--teacher {run.name}: its classes are {', '.join(run.classes)}, expected {', '.join(SENTIMENT)}. "
            f"Type: {TEACHER_LINE}"
        )


def _split_usable(manifest: Manifest, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Pairs with a text that says something, and why the others have none."""
    usable, left_out = [], {}
    for pair in manifest.pairs:
        if pair.text_status != OK:
            left_out[pair.id] = f"text: {pair.text_status}"
        elif not pair.text.strip():
            left_out[pair.id] = "text: blank"
        else:
            usable.append(pair.id)
    if not usable:
        raise DataError(f"{folder}: expected pairs with a text to label, found none of {len(manifest):,}. Look at it: "
                        f"sentifuse data audit {folder.name}")  # fmt: skip
    return usable, left_out


def _with_features(
    usable: Sequence[str], readers: Mapping[str, FeatureReader], left_out: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The ids whose row is "ok" in every feature set; the others join `left_out`."""
    found, without = [], dict(left_out)
    for id_ in usable:
        odd = [f"{name}: {reader.status(id_)}" for name, reader in readers.items() if reader.status(id_) != OK]
        if odd:
            without[id_] = "; ".join(odd)
        else:
            found.append(id_)
    if not found:
        raise DataError(
            f"teacher: expected rows that were encoded, found none of {len(usable):,} ({without[usable[0]]}). "
            "Extract again"
        )
    return tuple(found), without


def _refuse_unknown_or_stale(
    ids: Sequence[str], readers: Mapping[str, FeatureReader], manifest: Manifest, line: str
) -> None:
    pairs = manifest.by_id()
    for encoder, reader in readers.items():
        unknown = [id_ for id_ in ids if id_ not in reader]
        stale = [id_ for id_ in ids if id_ in reader and reader.digest(id_) != pairs[id_].text_digest]
        for odd, what in ((unknown, "are in no row"), (stale, "have another text than the one that was encoded")):
            if odd:
                names = ", ".join(odd[:SHOWN_IDS]) + (", …" if len(odd) > SHOWN_IDS else "")
                raise CacheError(
                    f"feature set {encoder} ({reader.fingerprint[:12]}): {len(odd):,} of {len(ids):,} pairs {what}: "
                    f"{names}. Run: {line} (it computes these rows only)"
                )


def same_words(manifest: Manifest, own: Manifest, seen_ids: Iterable[str]) -> set[str]:
    """Pairs of `manifest` whose normalised text is that of a seen pair of `own`; a text without words is like none."""
    pairs = own.by_id()
    words = {normalise(pairs[id_].text) for id_ in seen_ids if id_ in pairs} - {""}
    return {pair.id for pair in manifest.pairs if normalise(pair.text) in words}


def _is_among(ids: Sequence[str], chosen: set[str]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.array([id_ in chosen for id_ in ids], dtype=np.bool_)
    return found


def describe_teacher(provenance: Mapping[str, Any]) -> str:
    """The teacher in a few words, for reports.

    >>> describe_teacher({"teacher": "run", "run": "r1", "target": "text_label"})
    'run r1 (trained on text_label)'
    """
    if provenance.get("teacher") == "run":
        return f"run {provenance['run']} (trained on {provenance.get('target')})"
    return f"encoder {ENCODER} ({provenance.get('model')})"
