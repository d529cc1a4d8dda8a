"""What a filter did, in numbers: shares kept, class balance, images of a tweet, and how right the teacher is by people.

People's labels are looked at here and nowhere before: they choose nothing. Draws and writes nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse.crowd.labels.choose import Chosen
from sentifuse.crowd.labels.pseudo_labels import PseudoLabels
from sentifuse.crowd.labels.teachers import describe_teacher, same_words
from sentifuse.data.card import read_card
from sentifuse.data.labels import read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import dataset_dir
from sentifuse.data.reasons import count_reasons
from sentifuse.data.source import SENTIMENT
from sentifuse.data.tweets import tweet_of

__all__ = ["GOLD", "build_report"]

# Shapes: N pairs with a pseudo-label, n of them that people labelled too.

GOLD = ("image_label", "text_label")
MANY_IMAGES = 5  # of a tweet: this many and more are counted together

Bools = npt.NDArray[np.bool_]


def build_report(artifacts: Path, chosen: Chosen) -> dict[str, Any]:
    """Everything that `distil filter` tells.

    Returns
    -------
    dict
        dataset, labels, thresholds, dedup, val_share, seed: as in the kept set's metadata; teacher: in words.
        counts: pairs (of the dataset), labelled, usable (their image can be decoded), sure (usable, by the filter
        alone), kept. without_label, left_out: reason → pairs; labelled = kept + all of left_out.
        per_class: class → labelled, usable, kept, kept_share (of the usable ones), balance_before (share of the usable
        ones), balance_after (of the kept), train, val.
        tweets: "labelled" and "kept" → tweets, images, mean, images_per_tweet ("1" to "5+" → tweets).
        split: train, val; absent: classes without a validation image.
        gold: see `measure_gold`; None with gold_reason where no human labels of these classes are there.
        gold_agreement: see `measure_agreement`; empty without gold.
    """
    kept, labels = chosen.kept, chosen.labels
    gold, reason = measure_gold(artifacts, chosen)
    parts = {part: [found == part for found in kept.split] for part in ("train", "val")}
    per_class = _per_class(chosen, {part: np.array(is_in, dtype=np.bool_) for part, is_in in parts.items()})
    usable = [id_ for id_, is_here in zip(labels.ids, chosen.is_usable.tolist(), strict=True) if is_here]
    return {
        **kept.metadata,
        "teacher": describe_teacher(labels.provenance),
        "dedup": dict(chosen.dedup),
        "counts": {
            "pairs": len(labels) + len(labels.left_out),
            "labelled": len(labels),
            "usable": int(chosen.is_usable.sum()),
            "sure": int((chosen.is_usable & chosen.filtered.is_kept).sum()),
            "kept": len(kept),
        },
        "without_label": count_reasons(labels.left_out),
        "left_out": count_reasons(chosen.left_out),
        "per_class": per_class,
        "tweets": {"usable": _images_per_tweet(usable), "kept": _images_per_tweet(kept.ids)},
        "split": {part: sum(is_in) for part, is_in in parts.items()}
        | {"absent": [name for name, row in per_class.items() if not row["val"]]},
        "gold": gold,
        "gold_reason": reason,
        "gold_agreement": measure_agreement(artifacts, chosen) if gold else {},
    }


def measure_gold(artifacts: Path, chosen: Chosen) -> tuple[dict[str, Any] | None, str]:
    """The pseudo-labels beside what people said, by `GOLD`, then "unseen" or "seen", then "usable" or "kept".

    "unseen" are the pairs whose human label the teacher was not trained or chosen with, nor that of a pair with the
    same words; of the others it knew a label, so figures of "seen" flatter it. "usable" are all pairs with
    an image, "kept" those that the student learns from. Each is None where there is no such pair, or everything of
    `metrics.score` with probabilities, `majority` (share of the commonest human label) and `intervals` (accuracy,
    f1_macro) over groups of pairs that belong together.

    Returns
    -------
    dict or None, str
        The reason where there is nothing to compare with.
    """
    folder = dataset_dir(artifacts, chosen.kept.metadata["dataset"])
    if set(read_card(folder).classes) != set(SENTIMENT):
        return None, f"the classes of the dataset are others than {', '.join(SENTIMENT)}"
    labels = read_labels(folder)
    by_target = {target: labels.by_id(target) for target in GOLD}
    if not any(by_target.values()):
        return None, "the dataset has no labels of images or texts by people"
    subsets = {"usable": chosen.is_usable, "kept": chosen.is_kept}
    return {
        target: {
            name: {which: _score(chosen, by_id, is_named & is_in) for which, is_in in subsets.items()}
            for name, is_named in _by_seen(folder, chosen.labels).items()
        }
        for target, by_id in by_target.items()
    }, ""


def measure_agreement(artifacts: Path, chosen: Chosen) -> dict[str, dict[str, Any]]:
    """ "unseen" and "seen" → n usable pairs whose text and image people labelled, and the share with one for both.

    Pairs whose labels contradict each other belong to no part of a split and are "unseen", so that there even a teacher
    that is right about every text is often wrong about the image.
    """
    folder = dataset_dir(artifacts, chosen.kept.metadata["dataset"])
    labels = read_labels(folder)
    of_image, of_text = (labels.by_id(target) for target in GOLD)
    found = {}
    for name, is_named in _by_seen(folder, chosen.labels).items():
        ids = [chosen.labels.ids[row] for row in np.flatnonzero(is_named & chosen.is_usable).tolist()]
        same = [of_image[id_] == of_text[id_] for id_ in ids if id_ in of_image and id_ in of_text]
        found[name] = {"n": len(same), "share": sum(same) / len(same) if same else None}
    return found


def _by_seen(folder: Path, labels: PseudoLabels) -> dict[str, Bools]:
    """(N,) each; "seen": the teacher knows the human label of the pair, or of another one with its words."""
    manifest = read_manifest(folder)
    seen = {id_ for id_, is_named in zip(labels.ids, labels.gold_seen.tolist(), strict=True) if is_named}
    seen |= {*labels.gold_pairs.get(folder.name, ())}
    seen |= same_words(manifest, manifest, seen)
    is_seen: Bools = np.array([id_ in seen for id_ in labels.ids], dtype=np.bool_)
    return {"unseen": ~is_seen, "seen": is_seen}


def _score(chosen: Chosen, gold: Mapping[str, str], is_chosen: Bools) -> dict[str, Any] | None:
    from sentifuse.fuse.measure.metrics import score
    from sentifuse.fuse.measure.statistics import bootstrap

    ids = chosen.labels.ids
    rows = np.array([row for row in np.flatnonzero(is_chosen).tolist() if ids[row] in gold], dtype=np.int64)
    if not len(rows):
        return None
    true = np.array([SENTIMENT.index(gold[ids[row]]) for row in rows], dtype=np.int64)
    shares = chosen.labels.probabilities[rows].astype(np.float64)
    shares /= shares.sum(1, keepdims=True)  # float32 shares add up to 1 but for rounding
    # The class as the filter gave it: dividing could make a tie of it, or undo one.
    predicted = chosen.filtered.classes[rows]
    groups = [chosen.components[ids[row]] for row in rows]
    intervals = bootstrap(true, predicted, len(SENTIMENT), groups=groups, measures=("accuracy", "f1_macro"))
    return score(true, predicted, SENTIMENT, shares) | {
        "majority": float(np.bincount(true).max() / len(true)),
        "intervals": {name: interval.to_json() for name, interval in intervals.items()},
    }


def _per_class(chosen: Chosen, parts: Mapping[str, Bools]) -> dict[str, dict[str, Any]]:
    classes, found = chosen.filtered.classes, {}
    usable, kept = int(chosen.is_usable.sum()), int(chosen.is_kept.sum())
    for k, name in enumerate(SENTIMENT):
        is_class = classes == k
        n_usable, n_kept = int((is_class & chosen.is_usable).sum()), int((is_class & chosen.is_kept).sum())
        found[name] = {
            "labelled": int(is_class.sum()),
            "usable": n_usable,
            "kept": n_kept,
            "kept_share": n_kept / n_usable if n_usable else None,
            "balance_before": n_usable / usable,
            "balance_after": n_kept / kept,
            **{part: int((is_in & (chosen.kept.classes == k)).sum()) for part, is_in in parts.items()},
        }
    return found


def _images_per_tweet(ids: Sequence[str]) -> dict[str, Any]:
    """Tweets, images, their mean, and how many tweets have 1, 2, … images.

    >>> _images_per_tweet(["7-1", "7-2", "8-1"])
    {'tweets': 2, 'images': 3, 'mean': 1.5, 'images_per_tweet': {'1': 1, '2': 1, '3': 0, '4': 0, '5+': 0}}
    """
    sizes = Counter(Counter(tweet_of(id_) for id_ in ids).values())
    counts = {str(n): sizes[n] for n in range(1, MANY_IMAGES)}
    tweets = sum(sizes.values())
    more = tweets - sum(counts.values())
    return {
        "tweets": tweets,
        "images": len(ids),
        "mean": len(ids) / tweets if tweets else None,
        "images_per_tweet": counts | {f"{MANY_IMAGES}+": more},
    }
