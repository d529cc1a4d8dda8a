"""Our numbers beside the published ones, every row marked measured or published. Draws; measures nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentifuse.crowd.benchmarks.published import Published, read_published
from sentifuse.fuse.tables import Grid, percent

__all__ = ["MEASURED", "PUBLISHED", "entries_of", "grids_of", "published_grid"]

PUBLISHED, MEASURED = "published", "measured"


def published_grid(published: Published | None = None) -> Grid:
    """The paper's eight models on the three lists of Twitter Testing Dataset I."""
    found = published or read_published()
    rows = tuple(
        (
            model.id,
            model.data,
            model.filter,
            model.vit,
            *(percent(model.accuracy[name]) for name in found.benchmarks),
            model.file,
        )
        for model in found.models
    )
    headings = ("model", "data", "thresholds pos/neu/neg", "ViT", *found.benchmarks, "file")
    notes = (f"All published, none measured here; accuracy in %. {found.note}", f"Source: {found.source}")
    return Grid(title=found.title, headings=headings, rows=rows, notes=notes)


def grids_of(document: Mapping[str, Any]) -> list[Grid]:
    """The tables of a benchmark's document, as `run` gives it."""
    grids = []
    if document["benchmarks"]:
        grids += [_side_by_side(document), _closer(document["benchmarks"])]
    if document["five_fold"]:
        grids.append(_five_fold(document["five_fold"]))
    if document["fi_splits"]:
        grids.append(_fi_splits(document["fi_splits"]))
    return grids


def entries_of(document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Every list of images that was answered, with its name for a person: of each protocol, not of one alone."""
    splits = (document["fi_splits"] or {}).get("splits", ())
    return [
        *((entry["name"], entry) for entry in document["benchmarks"]),
        *((f"{entry['name']}, five folds", entry) for entry in document["five_fold"]),
        *((f"FI, split {entry['split']}, test part", entry) for entry in splits),
    ]


def _side_by_side(document: Mapping[str, Any]) -> Grid:
    found = read_published()
    results: Mapping[str, Mapping[str, Any]] = {entry["name"]: entry for entry in document["benchmarks"]}
    rows = []
    if any(name in found.benchmarks for name in results):
        for model in found.models:
            accuracies = (percent(model.accuracy.get(name)) for name in results)
            rows.append((f"model {model.id}, {model.vit}, {model.data}, {model.filter}", PUBLISHED, *accuracies))
    majority = (percent(entry["scores"]["majority"]["share"]) for entry in results.values())
    rows.append(("always the larger class", MEASURED, *majority))
    accuracies = (percent(entry["scores"]["accuracy"]) for entry in results.values())
    rows.append((document["model"]["name"], MEASURED, *accuracies))
    notes = ["Accuracy in %, by the binary rule: neutral is dropped, ties go to negative."]
    if len(rows) > 2:
        notes += [f"{found.note} An en dash: not published, or not read anywhere.", f"Published: {found.source}"]
    return Grid(
        title="Without fine-tuning",
        headings=("system", "numbers", *results),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _closer(entries: Sequence[Mapping[str, Any]]) -> Grid:
    rows, notes = [], []
    for entry in entries:
        scores = entry["scores"]
        rows.append((entry["name"], f"{scores['n']:,} of {entry['n_listed']:,}", *_cells(scores)))
        notes += _remarks(entry["name"], entry)
    notes.insert(
        0,
        "In % but AUROC and ECE. ECE: of p_pos / (p_pos + p_neg), in brackets what a calibrated model would show (95 % "
        "quantile). Neutral: images whose largest of three probabilities is neutral.",
    )
    headings = ("benchmark", "images", *_HEADINGS, "ECE", "neutral")
    return Grid(title="More closely (measured)", headings=headings, rows=tuple(rows), notes=tuple(notes))


_HEADINGS = ("larger class", "accuracy", "macro-F1", "recall neg.", "recall pos.", "AUROC")


def _cells(scores: Mapping[str, Any]) -> tuple[str, ...]:
    auroc = scores["auroc"]
    return (
        percent(scores["majority"]["share"]),
        percent(scores["accuracy"]),
        percent(scores["f1_macro"]),
        percent(scores["recall"]["negative"]),
        percent(scores["recall"]["positive"]),
        "–" if auroc is None else f"{auroc:.3f}",
        f"{scores['ece']:.3f} ({scores['ece_if_calibrated']['q95']:.3f})",
        percent(scores["neutral_share"]),
    )


def _remarks(name: str, entry: Mapping[str, Any]) -> list[str]:
    """What a reader must know about the answers to one list."""
    found = []
    lost = {status: n for status, n in entry["statuses"].items() if status != "ok"}
    if lost:
        named = [f"{problem['path']} ({problem['status']})" for problem in entry["problems"][:5]]
        more = ", …" if len(entry["problems"]) > 5 else ""
        counts = ", ".join(f"{status} {n}" for status, n in sorted(lost.items()))
        found.append(f"{name}: without an answer: {counts}: {', '.join(named)}{more}.")
    if entry["published_count"] and entry["published_count"] != entry["n_listed"]:
        found.append(
            f"{name}: the list has {entry['n_listed']:,} images, published are {entry['published_count']:,}: "
            "not the published benchmark."
        )
    if entry["n_seen"]:
        found.append(f"{name}: the model was trained on {entry['n_seen']:,} of these images: read it as leaked.")
    return found


def _five_fold(entries: Sequence[Mapping[str, Any]]) -> Grid:
    rows = tuple(
        (entry["name"], *(percent(fold["accuracy"]) for fold in entry["folds"]), _spread(entry, "accuracy"),
         _spread(entry, "f1_macro"), percent(entry["majority"]))
        for entry in entries
    )  # fmt: skip
    headings = ("benchmark", *(f"fold {k}" for k in range(1, 6)), "accuracy", "macro-F1", "larger class")
    notes = (
        "In %, mean ± population sd over the folds. StratifiedKFold(5, shuffle, seed 42) on the class; each fold "
        "fine-tuned from the model anew with neutral masked, last epoch.",
        *(note for entry in entries for note in _remarks(entry["name"], entry)),
        *(part for entry in entries for part in _left_out(entry["name"], entry["folds"])),
    )
    return Grid(title="Five-fold, fine-tuned (measured)", headings=headings, rows=rows, notes=notes)


def _fi_splits(entry: Mapping[str, Any]) -> Grid:
    rows = tuple(
        (f"split {one['split']}", percent(one["accuracy"]), percent(one["f1_macro"]),
         percent(one["majority"]["share"]), f"{one['best'].get('step', one['best'].get('epoch', '–'))}")
        for one in entry["splits"]
    )  # fmt: skip
    rows += (("mean ± sd", _spread(entry, "accuracy"), _spread(entry, "f1_macro"), "", ""),)
    notes = (
        "In %, population sd. Fine-tuned on each split's training part; the weights are those of the best validation "
        "accuracy by the binary rule, and the test part was looked at once.",
        *(note for one in entry["splits"] for note in _remarks(f"split {one['split']}, test part", one)),
        *_left_out("FI", entry["splits"]),
    )
    headings = ("FI", "accuracy", "macro-F1", "larger class", "kept at step")
    return Grid(
        title="Flickr & Instagram, published splits, fine-tuned (measured)", headings=headings, rows=rows, notes=notes
    )


def _spread(entry: Mapping[str, Any], key: str) -> str:
    return f"{percent(entry[key]['mean'])} ± {percent(entry[key]['sd'])}"


def _left_out(name: str, parts: Sequence[Mapping[str, Any]]) -> list[str]:
    gone = sorted({Path(path).name for part in parts for path in part["left_out"]})
    return [f"{name}: {len(gone)} images could not be learned from: {', '.join(gone[:5])}."] if gone else []
