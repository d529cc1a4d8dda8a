"""A comparison as one document: every number of its tables and pictures, and where each comes from.

Puts together what the other files compute; draws and trains nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sentifuse
from sentifuse.data.groups import read_groups
from sentifuse.data.labels import Labels
from sentifuse.data.protocols import GROUPED
from sentifuse.data.splits import read_split
from sentifuse.fuse.comparison.blocks import missing_blocks, subset_blocks
from sentifuse.fuse.comparison.choices import Choice
from sentifuse.fuse.comparison.existing import version_notes, version_of
from sentifuse.fuse.comparison.measured import Measured
from sentifuse.fuse.comparison.published import ablation_patterns, published_points, published_rows
from sentifuse.fuse.comparison.rows import (
    MEASURES,
    Groups,
    by_row,
    differences,
    has_pooled_rows,
    notes_on_rows,
    summarise,
)

FORMAT_VERSION = 1


def build_document(
    measured: Sequence[Measured],
    *,
    dataset_dir: Path,
    labels: Labels,
    order: Sequence[str],
    choices: Mapping[str, Choice],
    baseline: str | None,
    claim: str | None,
    missing: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    failed: Mapping[str, str],
    missing_failed: Mapping[str, str],
    left_out: Mapping[str, str],
    unreadable: Mapping[str, str],
    stored_regions: int | None,
    command: Sequence[str],
) -> dict[str, Any]:
    """All of a comparison.

    Returns
    -------
    dict
        format, created, version, command; dataset, protocol, rule, target, classes, profile, features, seeds, folds,
        baseline, claim; rows (`rows.summarise`), differences (`rows.differences`), subsets, missing (`blocks`),
        published, ablations (`published`), sweep (None, or key, curves and what was published); runs (row, name, seed,
        fold, accuracy, version, device, evaluations); notes, failed, missing_failed (run → why it is not in `missing`),
        left_out.
    """
    found = by_row(measured)
    rows = {name: found[name] for name in order if name in found}
    document = measured[0].run.document
    protocol = str(document["protocol"])
    groups = read_groups(dataset_dir)
    drawn = groups if protocol in GROUPED else None

    def read_parts(place: tuple[int, int]) -> Mapping[str, tuple[str, ...]]:
        seed, fold = place
        parts = ("train", "test")
        return read_split(dataset_dir, protocol=protocol, seed=seed, rule=labels.rule, fold=fold, parts=parts)

    has_baseline = baseline is not None and baseline in rows and len(rows) > 1
    claimed = claim if claim in rows else None
    runs = [one.run for one in measured]
    n_pairs = sum(document["split"][part]["n"] for part in document["split"]) + document_test_n(document, measured)
    here = {"profile": document["profile"], "protocol": protocol, "rule": labels.rule, "n_pairs": n_pairs}
    notes = [
        *notes_on_rows(rows),
        *leak_notes(measured),
        *version_notes(runs),
        *(f"{name} is not in the table: {error.splitlines()[-1]}" for name, error in failed.items()),
        *(f"{name} is not in the table: {reason}" for name, reason in left_out.items()),
        *(
            f"{name} was not measured with texts or images missing: {error.splitlines()[-1]}. It stands in all other "
            "tables; mend that and type the same command again: nothing is trained a second time"
            for name, error in missing_failed.items()
        ),
        *(f"run {name} cannot be read and was passed over: {reason}" for name, reason in unreadable.items()),
    ]
    if baseline is not None and not has_baseline:
        notes.append(f"nothing was compared with {baseline}: " + ("no run of it" if baseline not in rows else "alone"))
    if claim is not None and claimed is None:
        notes.append(f"nothing was claimed: no run of {claim}")
    sweep = _sweep(rows, choices, document["dataset"], summaries := summaries_of(rows, drawn))
    if sweep and sweep["key"] == "region_count" and stored_regions is not None:
        more = [value for value in sweep["values"] if value > stored_regions]
        if more:
            notes.append(f"{stored_regions} regions are stored per image: from there on more make no difference")
    return {
        "format": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": sentifuse.__version__,
        "command": list(command),
        "dataset": document["dataset"],
        "protocol": protocol,
        "rule": labels.rule,
        "target": document["target"],
        "classes": list(document["classes"]),
        "profile": document["profile"],
        "features": {
            encoder: recorded["fingerprint"]
            for run in runs
            for encoder, recorded in run.document["feature_sets"].items()
        },
        "n_pairs": n_pairs,
        "seeds": sorted({one.seed for one in measured}),
        "folds": sorted({one.fold for one in measured}),
        "baseline": baseline if has_baseline else None,
        "claim": claimed,
        "rows": {
            name: {"head": choices[name].head, "preset": choices[name].preset, "set": dict(choices[name].overrides)}
            | summary
            for name, summary in summaries.items()
        },
        "differences": differences(rows, baseline=str(baseline), claim=claimed, groups=drawn) if has_baseline else {},
        "subsets": subset_blocks(rows, labels=labels, groups=groups, read_parts=read_parts, drawn=drawn),
        "missing": missing_blocks({name: missing[name] for name in rows if name in missing}),
        "published": [] if sweep else published_rows(document["dataset"], here),
        "ablations": ablation_patterns(rows, drawn),
        "sweep": sweep,
        "runs": [_of_run(one) for runs in rows.values() for one in runs],
        "notes": notes,
        "failed": dict(failed),
        "missing_failed": dict(missing_failed),
        "left_out": dict(left_out),
    }


def summaries_of(rows: Mapping[str, Sequence[Measured]], drawn: Groups) -> dict[str, dict[str, Any]]:
    """Every row by the one kind of interval that the table has."""
    is_pooled = has_pooled_rows(rows.values())
    return {name: summarise(runs, drawn, is_pooled=is_pooled) for name, runs in rows.items()}


def document_test_n(document: Mapping[str, Any], measured: Sequence[Measured]) -> int:
    """Pairs of the test part of that run, usable or not."""
    first = next(one for one in measured if one.run.document is document)
    return len(first.predictions.ids) + len(first.metrics.get("excluded", {}))


def leak_notes(measured: Sequence[Measured]) -> list[str]:
    """How much of the test parts has a near-duplicate in training, and what published lists lack here."""
    by_place = {one.place: one.run.document for one in measured}
    tests = [document["leak"]["test"] for document in by_place.values() if document.get("leak")]
    n, leaked = sum(test["n"] for test in tests), sum(test["group"] for test in tests)
    notes = []
    if leaked:
        notes.append(
            f"{leaked:,} of {n:,} test pairs ({leaked / n:.1%}) have a near-duplicate in training under this protocol: "
            "heads that learn by heart profit; --protocol grouped keeps them apart"
        )
    lacking = max((document.get("missing_listed", 0) for document in by_place.values()), default=0)
    if lacking:
        notes.append(f"{lacking:,} listed ids are not here: no number of this table is one of the published protocol")
    return notes


def _of_run(one: Measured) -> dict[str, Any]:
    document = one.run.document
    return {
        "row": one.row,
        "run": one.run.name,
        "seed": one.seed,
        "fold": one.fold,
        "n": len(one.predictions.ids),
        **{measure: one.metrics[measure] for measure in MEASURES},
        "seconds": document["timings"]["fit_s"],
        "version": version_of(one.run),
        "device": document["device"],
        "evaluations": document.get("evaluations", {}),
    }


def _sweep(
    rows: Mapping[str, Sequence[Measured]],
    choices: Mapping[str, Choice],
    dataset: str,
    summaries: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any] | None:
    """key, values, curves: head → points (value, mean, sd), and the paper's known points, if this is a sweep."""
    curves: dict[str, list[dict[str, Any]]] = {}
    key = ""
    for name in rows:
        choice = choices[name]
        if choice.swept is None:
            return None
        key, value = choice.swept
        head = Choice(head=choice.head, preset=choice.preset).name
        found = summaries[name]["accuracy"]
        curves.setdefault(head, []).append({"value": value, "mean": found["value"], "sd": found["sd"], "row": name})
    values = sorted({point["value"] for points in curves.values() for point in points})
    heads = {choices[name].head for name in rows}
    published = published_points(next(iter(heads)), key, dataset) if len(heads) == 1 else None
    return {"key": key, "values": values, "curves": curves, "published": published}
