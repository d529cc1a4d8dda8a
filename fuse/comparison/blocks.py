"""Blocks of rows under the table: subsets of the test pairs, and what is left when texts or images are missing.

Numbers alone: which pairs are in a subset is decided in `fuse.measure.subsets`, what a head says with gaps in
`fuse.missing`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sentifuse.data.labels import Labels
from sentifuse.fuse.comparison.measured import Measured, take
from sentifuse.fuse.comparison.rows import Groups
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.measure.paired import groups_of, pool
from sentifuse.fuse.measure.statistics import bootstrap, spread
from sentifuse.fuse.measure.subsets import FAMILIES, TITLES, accuracy_gap, subsets

TEXT_HEAD, IMAGE_HEAD = "text_only", "image_only"
LEAKED, NOT_LEAKED = "leaked", "not_leaked"
Place = tuple[int, int]  # seed, fold
ReadParts = Callable[[Place], Mapping[str, tuple[str, ...]]]  # "train" and "test" -> ids


def subset_blocks(
    rows: Mapping[str, Sequence[Measured]],
    *,
    labels: Labels,
    groups: Mapping[str, str],
    read_parts: ReadParts,
    drawn: Groups,
) -> list[dict[str, Any]]:
    """One block per family of subsets that something is known about.

    All runs of a row are pooled; a pair is in a subset run by run, since whether it leaked depends on the split.

    Parameters
    ----------
    groups
        id → near-duplicates, for "leaked".
    drawn
        The same under protocols whose intervals are over groups, else None.

    Returns
    -------
    list
        family, subsets (name → title), rows: row → subset → n, n_different, accuracy, low, high, f1_weighted (n alone
        where it is 0). Of near-duplicates also gap: row → difference, low, high (None where they cannot be told, with
        a reason), groups, reason; or None where nothing leaks.
    """
    texts, images = ({one.place: one.predictions for one in rows.get(name, ())} for name in (TEXT_HEAD, IMAGE_HEAD))
    named: dict[Place, dict[str, tuple[str, ...]]] = {}
    for place in sorted({one.place for runs in rows.values() for one in runs}):
        parts = read_parts(place)
        found = subsets(parts["test"], labels=labels, groups=groups, training_ids=parts["train"])
        if place in texts and place in images:
            both = {*texts[place].ids} & {*images[place].ids}
            answered = [id_ for id_ in parts["test"] if id_ in both]
            found |= subsets(answered, text_head=texts[place], image_head=images[place])
        named[place] = found
    blocks = []
    for family, members in FAMILIES.items():
        known = [name for name in members if any(name in found for found in named.values())]
        if known:
            numbers = {row: {name: _pooled(runs, named, name, drawn) for name in known} for row, runs in rows.items()}
            block = {"family": family, "subsets": {name: TITLES[name] for name in known}, "rows": numbers}
            if family == "duplicates":
                block["gap"] = {row: _leak_gap(runs, named, groups) for row, runs in rows.items()}
            blocks.append(block)
    return blocks


def _leak_gap(
    runs: Sequence[Measured], named: Mapping[Place, Mapping[str, Sequence[str]]], groups: Mapping[str, str]
) -> dict[str, Any] | None:
    """Accuracy on leaked pairs less that on the others; near-duplicates and answers to one pair are drawn together."""
    found = [take(one.predictions, named[one.place].get(name, ())) for one in runs for name in (LEAKED, NOT_LEAKED)]
    is_inside = np.repeat([i % 2 == 0 for i in range(len(found))], [len(part.ids) for part in found])
    if is_inside.all() or not is_inside.any():
        return None
    is_right = np.concatenate([part.predicted == part.labels for part in found])
    ids = [id_ for part in found for id_ in part.ids]
    gap = accuracy_gap(is_right, is_inside, groups_of(ids, groups))
    return {"difference": gap.estimate, "low": gap.low, "high": gap.high, "groups": gap.units, "reason": gap.reason}


def _pooled(
    runs: Sequence[Measured], named: Mapping[Place, Mapping[str, Sequence[str]]], subset: str, drawn: Groups
) -> dict[str, Any]:
    parts = [take(one.predictions, named[one.place].get(subset, ())) for one in runs]
    parts = [part for part in parts if part.ids]
    if not parts:
        return {"n": 0}
    found = pool(parts)
    metrics = score(found.labels, found.predicted, found.classes)
    units = groups_of(found.ids, drawn)
    ends = bootstrap(found.labels, found.predicted, len(found.classes), groups=units, measures=("accuracy",))[
        "accuracy"
    ]
    return {
        "n": len(found.ids),
        "n_different": len({*found.ids}),
        "accuracy": metrics["accuracy"],
        "low": ends.low,
        "high": ends.high,
        "f1_weighted": metrics["f1_weighted"],
    }


def missing_blocks(by_row: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """One block per kind of missing modality.

    Parameters
    ----------
    by_row
        Row → per run the rows of `fuse.missing.evaluate_missing`.

    Returns
    -------
    list
        missing (kind), rates, rows: row → per rate: rate, n_runs, accuracy, sd, f1_weighted (means over the runs).
    """
    kinds = dict.fromkeys(one["missing"] for runs in by_row.values() for run in runs for one in run)
    blocks = []
    for kind in kinds:
        rows = {}
        for row, runs in by_row.items():
            cells: dict[float, list[Mapping[str, Any]]] = {}
            for one in (one for run in runs for one in run if one["missing"] == kind):
                cells.setdefault(one["rate"], []).append(one)
            rows[row] = [_mean(rate, found) for rate, found in sorted(cells.items())]
        rates = sorted({cell["rate"] for found in rows.values() for cell in found})
        blocks.append({"missing": kind, "rates": rates, "rows": rows})
    return blocks


def _mean(rate: float, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    accuracy = spread([float(one["accuracy"]) for one in found])
    weighted = spread([float(one["f1_weighted"]) for one in found])
    return {
        "rate": rate,
        "n_runs": len(found),
        "accuracy": accuracy.mean,
        "sd": accuracy.sd,
        "f1_weighted": weighted.mean,
    }
