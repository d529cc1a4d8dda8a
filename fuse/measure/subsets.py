"""Parts of a part: pairs whose modalities agree or not, leaked or not, on which two unimodal heads differ or not.

Every subset has a name and is a tuple of ids. Learns nothing; what it needs to know of the pairs it is given.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sentifuse import DataError
from sentifuse.data.labels import NEUTRAL, Labels
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.measure.resampling import FloatArray, measure_resamples, sort_units
from sentifuse.fuse.measure.statistics import LEVEL, RESAMPLES, Interval, bootstrap, order_statistic
from sentifuse.fuse.run import Predictions

# Name -> what a table calls it. Those of one family share no pair, and together they are all pairs.
FAMILIES: dict[str, dict[str, str]] = {
    "annotated": {
        "agree": "text and image labels are equal",
        "soften": "one of text and image is neutral",
        "conflict": "text and image labels contradict",
        "unlabelled": "text or image has no label",
    },
    "duplicates": {
        "leaked": "a near-duplicate is in training",
        "not_leaked": "no near-duplicate in training",
    },
    "predicted": {
        "heads_agree": "text-only and image-only head agree",
        "heads_soften": "one of the two heads says neutral",
        "heads_opposite": "text-only and image-only head contradict",
    },
}
TITLES = {name: title for family in FAMILIES.values() for name, title in family.items()}
MEASURES = ("accuracy", "f1_weighted", "f1_macro")


def subsets(
    ids: Sequence[str],
    *,
    labels: Labels | None = None,
    groups: Mapping[str, str] | None = None,
    training_ids: Iterable[str] = (),
    text_head: Predictions | None = None,
    image_head: Predictions | None = None,
) -> dict[str, tuple[str, ...]]:
    """Name → ids, in the order of `ids`; only families that something is known about, but of these the empty ones too.

    Parameters
    ----------
    labels
        With the labels of text and image alone; a dataset without them has no "annotated" family. `conflict` pairs are
        labelled by rules other than `multisentinet` only, which leaves them out.
    groups, training_ids
        id → group of near-duplicates, and the pairs of the training part: "duplicates".
    text_head, image_head
        Predictions of a head that reads the text alone, and of one that reads the image alone, for these ids at least:
        "predicted". It stands in for "annotated" in datasets that have no unimodal labels (RNN-CA's table of pairs with
        opposite sentiment); it depends on the two heads, so two tables compare only where the heads are the same.

    Raises
    ------
    DataError
        A pair without a group, or without a prediction of one of the heads; or one head alone is given.
    """
    found: dict[str, tuple[str, ...]] = {}
    if labels is not None and labels.by_id("text_label") and labels.by_id("image_label"):
        found |= _by_labels(ids, labels)
    if groups is not None:
        found |= _by_duplicates(ids, groups, training_ids)
    if (text_head is None) != (image_head is None):
        raise DataError(
            "predicted disagreement: expected predictions of a text-only and of an image-only head, found one"
        )
    if text_head is not None and image_head is not None:
        found |= _by_heads(ids, text_head, image_head)
    return found


def score_subsets(
    predictions: Predictions,
    named: Mapping[str, Sequence[str]],
    *,
    groups: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Numbers of each subset.

    Parameters
    ----------
    named
        Name → ids; ids without a prediction (excluded pairs) are passed over, and `n` counts the others.
    groups
        id → group: intervals over groups; None: over pairs.

    Returns
    -------
    dict
        name → title, n, and unless n is 0: accuracy, f1_weighted, f1_macro, class_counts (of the labels), and intervals
        (measure → `Interval` as dict).
    """
    row_of = {id_: row for row, id_ in enumerate(predictions.ids)}
    result: dict[str, dict[str, Any]] = {}
    for name, ids in named.items():
        known = [id_ for id_ in ids if id_ in row_of]
        result[name] = {"title": TITLES.get(name, name), "n": len(known)}
        if not known:
            continue
        rows = np.array([row_of[id_] for id_ in known], dtype=np.int64)
        labels, predicted = predictions.labels[rows], predictions.predicted[rows]
        metrics = score(labels, predicted, predictions.classes)
        intervals = bootstrap(
            labels,
            predicted,
            len(predictions.classes),
            groups=None if groups is None else [groups[id_] for id_ in known],
            measures=MEASURES,
            resamples=resamples,
            seed=seed,
        )
        result[name] |= {measure: metrics[measure] for measure in MEASURES}
        result[name]["class_counts"] = {each: figures["support"] for each, figures in metrics["per_class"].items()}
        result[name]["intervals"] = {measure: interval.to_json() for measure, interval in intervals.items()}
    return result


def accuracy_gap(
    is_right: Any,
    is_inside: Any,
    groups: Sequence[str] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Accuracy inside a subset less accuracy outside it, with a percentile bootstrap interval.

    Parameters
    ----------
    is_right, is_inside
        (n,) bool, of each answer; some inside and some outside.
    groups
        (n,) what is drawn whole; None: every answer is a unit of its own. A resample that has no answer on one side
        is left out.

    Returns
    -------
    Interval
        Without ends, and with a reason, where a side is a single unit or all resamples give the same gap: how far
        that side would move with other pairs cannot be told, and the bootstrap would say "not at all".

    Raises
    ------
    ValueError
        All answers, or none, are inside.
    """
    right, inside = np.asarray(is_right, dtype=bool), np.asarray(is_inside, dtype=bool)
    if inside.all() or not inside.any():
        raise ValueError(f"expected answers inside and outside, found {inside.sum()} of {len(inside)} inside")

    def difference(cells: FloatArray) -> FloatArray:  # (r, 4): outside wrong, right, inside wrong, right
        with np.errstate(invalid="ignore"):
            found: FloatArray = cells[:, 3] / (cells[:, 2] + cells[:, 3]) - cells[:, 1] / (cells[:, 0] + cells[:, 1])
        return found

    units = sort_units(2 * inside.astype(np.int64) + right, 4, groups)
    drawn = measure_resamples(units, resamples, seed, difference)
    drawn = np.sort(drawn[np.isfinite(drawn)].round(12))  # 0.7 − 0.1 may be 1e-17 beside 0.6
    unit = "pair" if groups is None else "group"
    common: dict[str, Any] = {
        "estimate": float(difference(units.total[None])[0]),
        "level": level,
        "n": len(right),
        "units": units.n,
        "unit": f"{unit}s",
        "resamples": len(drawn),
        "seed": seed,
    }
    reason = ""
    for side, columns in (("outside", slice(0, 2)), ("inside", slice(2, 4))):
        if int(units.counts @ (units.cells[:, columns].sum(1) > 0)) < 2:
            reason = f"all answers {side} are of one {unit}"
    if not reason and drawn[0] == drawn[-1]:
        reason = f"every resample of {units.n:,} {unit}s gives the same difference"
    if reason:
        return Interval(low=None, high=None, method="none", reason=reason, **common)
    low, high = (order_statistic(drawn, share) for share in ((1 - level) / 2, (1 + level) / 2))
    return Interval(low=low, high=high, method="percentile", **common)


def relation(text: str | None, image: str | None) -> str:
    """What two unimodal labels are to each other.

    >>> [relation("positive", other) for other in ("positive", "neutral", "negative", None)]
    ['agree', 'soften', 'conflict', 'unlabelled']
    """
    if text is None or image is None:
        return "unlabelled"
    if text == image:
        return "agree"
    return "soften" if NEUTRAL in (text, image) else "conflict"


def _by_labels(ids: Sequence[str], labels: Labels) -> dict[str, tuple[str, ...]]:
    text, image = labels.by_id("text_label"), labels.by_id("image_label")
    return _sort(ids, [relation(text.get(id_), image.get(id_)) for id_ in ids], tuple(FAMILIES["annotated"]))


def _by_duplicates(
    ids: Sequence[str], groups: Mapping[str, str], training_ids: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    training = list(training_ids)
    if absent := [id_ for id_ in (*ids, *training) if id_ not in groups]:
        raise DataError(
            f"groups of near-duplicates: expected one for every pair, found none for {len(absent)}, as {absent[0]}. "
            "Prepare the dataset anew"
        )
    trained = {groups[id_] for id_ in training}
    names = ["leaked" if groups[id_] in trained else "not_leaked" for id_ in ids]
    return _sort(ids, names, tuple(FAMILIES["duplicates"]))


def _by_heads(ids: Sequence[str], text_head: Predictions, image_head: Predictions) -> dict[str, tuple[str, ...]]:
    said = []
    for name, head in (("text-only", text_head), ("image-only", image_head)):
        words = dict(zip(head.ids, (head.classes[i] for i in head.predicted), strict=True))
        if absent := [id_ for id_ in ids if id_ not in words]:
            raise DataError(
                f"predicted disagreement: expected a prediction of the {name} head for every pair, found none for "
                f"{len(absent)}, as {absent[0]}. Use heads of the same split"
            )
        said.append(words)
    names = {"agree": "heads_agree", "soften": "heads_soften", "conflict": "heads_opposite"}
    found = [names[relation(said[0][id_], said[1][id_])] for id_ in ids]
    return _sort(ids, found, tuple(FAMILIES["predicted"]))


def _sort(ids: Sequence[str], found: Sequence[str], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(id_ for id_, each in zip(ids, found, strict=True) if each == name) for name in names}
