"""What some pairs give to a head, as digests: their labels, and what each encoder's rows of them were made from.

Two trainings with equal digests learned from the same labels and the same inputs. Reads no value of a feature: those
follow from the feature set's recipe, whose fingerprint a run has beside this.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sentifuse.cache.reader import FeatureReader
from sentifuse.data.labels import Labels
from sentifuse.data.manifest import Pair
from sentifuse.fuse.features.samples import digest_ids, is_stale

SIDES = ("text_label", "image_label")  # some heads learn from these, too
OLD = "stale"  # of a row that is not there, or not of today's input: no training ever saw one


def digest_inputs(
    ids: Sequence[str], labels: Labels, target: str, readers: Mapping[str, FeatureReader], pairs: Mapping[str, Pair]
) -> dict[str, Any]:
    """What a training or a measurement on these pairs starts from, usable or not.

    Parameters
    ----------
    pairs
        id → pair of the manifest as it is now.

    Returns
    -------
    dict
        labels: digest of the pairs' labels. features: encoder → digest of the inputs of its rows; a pair without values
        counts as such, whatever the reason.
    """
    return {
        "labels": digest_labels(ids, labels, target),
        "features": {encoder: digest_rows(ids, reader, pairs) for encoder, reader in sorted(readers.items())},
    }


def digest_labels(ids: Sequence[str], labels: Labels, target: str) -> str:
    """Of ids and labels: the target's, and those of text and image alone."""
    known = [labels.by_id(name) for name in dict.fromkeys((target, *SIDES))]
    return _digest((id_, *(found.get(id_, "") for found in known)) for id_ in ids)


def digest_rows(ids: Sequence[str], reader: FeatureReader, pairs: Mapping[str, Pair]) -> str:
    """Of what one encoder's rows of these pairs were made from."""
    return _digest((id_, _source_of(reader, id_, pairs)) for id_ in ids)


def _source_of(reader: FeatureReader, id_: str, pairs: Mapping[str, Pair]) -> str:
    if id_ not in reader or (id_ in pairs and is_stale(reader, pairs[id_])):
        return OLD
    return reader.digest(id_) if reader.has_value(id_) else ""


def _digest(lines: Iterable[Sequence[str]]) -> str:
    """As JSON, so that no sign in an id or a class makes two lists alike."""
    return digest_ids([json.dumps(line) for line in lines])
