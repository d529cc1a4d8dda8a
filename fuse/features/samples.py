"""Which pairs of a part can be used: labelled, with every needed feature; the others are kept by name with the reason.

Joins labels, a split's part and feature sets by id. Knows nothing of heads or tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from sentifuse import CacheError
from sentifuse.cache.current import read_current
from sentifuse.cache.featureset import open_feature_set
from sentifuse.cache.memory import free_memory_bytes
from sentifuse.cache.reader import FeatureReader
from sentifuse.data.labels import Labels
from sentifuse.data.manifest import Manifest, Pair
from sentifuse.fuse.features.batches import FieldRequest, find_field

Positions = np.ndarray[Any, np.dtype[np.int64]]
OpenReader = Callable[..., FeatureReader]  # called with a feature set and `reader=`

SHOWN_IDS = 5
MEMORY_SHARE = 0.8  # of the free memory: features that take more would push each other out


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The usable pairs of one part, and the others."""

    ids: tuple[str, ...]
    labels: Positions  # (len(ids),) position in the list of classes
    excluded: Mapping[str, str]  # id -> "encoder: status", or why there is no label
    text_labels: Positions | None = None  # (len(ids),) what the text alone was labelled, -1 where it was not
    image_labels: Positions | None = None  # (len(ids),) the same of the image; both None where nobody labelled them

    def class_counts(self, classes: Sequence[str]) -> dict[str, int]:
        """How many usable pairs each class has."""
        counts = np.bincount(self.labels, minlength=len(classes))
        return {name: int(n) for name, n in zip(classes, counts, strict=True)}


def encoders_of(requests: Sequence[FieldRequest]) -> tuple[str, ...]:
    """The encoders that the requests name, each once, in order."""
    return tuple(dict.fromkeys(request.encoder for request in requests))


def open_features(
    artifacts: Path,
    dataset: str,
    requests: Sequence[FieldRequest],
    *,
    reader: str = "mmap",
    open_reader: OpenReader = FeatureReader,
) -> dict[str, FeatureReader]:
    """Readers of the feature sets last extracted, by encoder; every requested field is there.

    Parameters
    ----------
    open_reader
        Makes the reader of a feature set; who trains many heads gives one that makes each only once.

    Raises
    ------
    CacheError
        An encoder was not extracted, or lacks a field; the message has the command to type.
    """
    current = read_current(artifacts / "cache" / dataset)
    missing = [name for name in encoders_of(requests) if name not in current.encoders]
    if missing:
        raise CacheError(
            f"{current.cache_dir}: expected features of {', '.join(encoders_of(requests))}, found "
            f"{', '.join(sorted(current.encoders)) or 'none'}. "
            f"Run: sentifuse extract --dataset {dataset} --encoders {','.join(missing)}"
        )
    readers = {
        name: open_reader(open_feature_set(current.directory(name)), reader=reader) for name in encoders_of(requests)
    }
    for request in requests:
        find_field(readers, request)
    return readers


def select_samples(
    part_ids: Sequence[str],
    labels: Labels,
    target: str,
    readers: Mapping[str, FeatureReader],
    requests: Sequence[FieldRequest],
    manifest: Manifest,
) -> Samples:
    """The pairs of a part that have a label and every feature that is not optional.

    Raises
    ------
    CacheError
        A pair is in no row of a feature set, or its row was made from another input than the manifest names now.
    """
    known = labels.by_id(target)
    pairs = manifest.by_id()
    required = {request.encoder for request in requests if not request.optional}
    positions = {name: position for position, name in enumerate(labels.classes)}
    _refuse_unknown_or_stale(part_ids, readers, pairs)
    ids, numbers, excluded = [], [], {}
    for id_ in part_ids:
        reasons = [f"{name}: {readers[name].status(id_)}" for name in sorted(required) if _status(readers, name, id_)]
        if id_ not in known:
            excluded[id_] = f"no {target}"
        elif reasons:
            excluded[id_] = "; ".join(reasons)
        else:
            ids.append(id_)
            numbers.append(positions[known[id_]])
    return Samples(
        ids=tuple(ids),
        labels=np.array(numbers, dtype=np.int64),
        excluded=excluded,
        text_labels=_labels_of(ids, labels, "text_label"),
        image_labels=_labels_of(ids, labels, "image_label"),
    )


def prove_features(readers: Mapping[str, FeatureReader], ids: Sequence[str]) -> bool:
    """Check every byte of these pairs' rows, unless they do not fit in memory; whether they do.

    What fits is in the page cache afterwards. What does not is better read ahead, batch by batch.

    Raises
    ------
    CorruptShard
        A row is not what was written; the message names it.
    """
    free = free_memory_bytes()
    if free is not None and sum(reader.size_bytes(ids) for reader in readers.values()) > MEMORY_SHARE * free:
        return False
    for reader in readers.values():
        reader.prove(ids)
    return True


def digest_ids(ids: Sequence[str]) -> str:
    """SHA-256 of a list of ids, in any order: what a run remembers of a part of the split."""
    return sha256("\n".join(sorted(ids)).encode()).hexdigest()


def _labels_of(ids: Sequence[str], labels: Labels, target: str) -> Positions | None:
    """Position in the list of classes or -1 per id; None where the dataset has no such labels at all."""
    known = labels.by_id(target)
    if not known:
        return None
    positions = {name: position for position, name in enumerate(labels.classes)}
    return np.array([positions[known[id_]] if id_ in known else -1 for id_ in ids], dtype=np.int64)


def _status(readers: Mapping[str, FeatureReader], encoder: str, id_: str) -> bool:
    return readers[encoder].status(id_) != "ok"


def _refuse_unknown_or_stale(
    part_ids: Sequence[str], readers: Mapping[str, FeatureReader], pairs: Mapping[str, Pair]
) -> None:
    for encoder, reader in readers.items():
        unknown = [id_ for id_ in part_ids if id_ not in reader]
        stale = [id_ for id_ in part_ids if id_ in reader and id_ in pairs and is_stale(reader, pairs[id_])]
        for ids, what in ((unknown, "are in no row"), (stale, "have changed since they were encoded")):
            if ids:
                reader.prove()  # a damaged id or digest is no change of the inputs, and extracting would not mend it
                names = ", ".join(ids[:SHOWN_IDS]) + (", …" if len(ids) > SHOWN_IDS else "")
                raise CacheError(
                    f"feature set {encoder} ({reader.fingerprint[:12]}): {len(ids)} of {len(part_ids)} pairs {what}: "
                    f"{names}. Run extract again for this dataset: it computes these rows only"
                )


def is_stale(reader: FeatureReader, pair: Pair) -> bool:
    """Whether a row was made from other bytes than the manifest names; an encoder reads the image, the text or both."""
    digest = reader.digest(pair.id)
    both = sha256(f"{pair.image_digest}:{pair.text_digest}".encode("ascii")).hexdigest()
    if digest:
        return digest not in (pair.image_digest, pair.text_digest, both)
    # There was no input then. A row that failed while its input was read says so itself and is left out by that name.
    is_there_now = pair.image_status == "ok" and pair.text_status == "ok"
    return is_there_now and not reader.status(pair.id).startswith("failed")
