"""The report of a filter for people: tables for terminal and Markdown, a reliability diagram. Computes nothing.

The kept set is written last: where it lies, its report lies too, and names it by its digest.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentifuse.crowd.labels.choose import Chosen, FilterRequest
from sentifuse.crowd.labels.kept import DIGEST, digest_kept, kept_path, write_kept
from sentifuse.crowd.labels.pseudo_labels import crowd_file, refuse_overwriting
from sentifuse.data import files
from sentifuse.data.source import SENTIMENT
from sentifuse.fuse.tables import Grid, percent, plain_lines, to_markdown

__all__ = ["grids_of", "heading_of", "report_lines", "write_filtered"]

WORDS = {"image_label": "the image", "text_label": "the text"}
SEEN = (
    "“seen”: the teacher knew people's labels of these pairs, or of pairs with the same words, which flatters it.",
    "“unseen”: all others, those of a test part among them: choose no thresholds by these figures.",
)
COLUMNS_OF_GOLD = (
    "majority: what always saying the commonest label gives; ECE: calibration error, and what a calibrated one shows.",
)


def heading_of(report: Mapping[str, Any]) -> str:
    """One line: what was filtered, and by what."""
    counts = report["counts"]
    limits = ", ".join(f"{name} {value:g}" for name, value in report["thresholds"].items())
    return (
        f"{report['dataset']}: {counts['kept']:,} of {counts['labelled']:,} pseudo-labels kept (surer than: {limits})"
    )


def grids_of(report: Mapping[str, Any]) -> list[Grid]:
    """Classes, tweets, reasons, and the comparison with what people said."""
    grids = [_classes(report), *_tweets(report), _reasons(report)]
    return grids + (_gold(report) if report["gold"] else [])


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """For a terminal."""
    lines = [heading_of(report), f"teacher: {report['teacher']}", "", *plain_lines(grids_of(report))]
    return lines if report["gold"] else [*lines, "", f"not compared with people's labels: {report['gold_reason']}"]


def write_filtered(
    request: FilterRequest, name: str, chosen: Chosen, report: Mapping[str, Any], *, overwrite: bool = False
) -> dict[str, Path]:
    """Write report, picture, what was left out by name, and last the kept set; what → path.

    Raises
    ------
    ConfigError
        Another kept set has this name, and `overwrite` is not set; nothing is written.
    DataError
        The folder cannot be written.
    """
    paths = {
        "kept": kept_path(request.artifacts, request.dataset, name),
        "left_out": crowd_file(request.artifacts, request.dataset, "left-out", name),
        "report": kept_path(request.artifacts, request.dataset, name, ".md"),
        "numbers": kept_path(request.artifacts, request.dataset, name, ".json"),
        "reliability": kept_path(request.artifacts, request.dataset, name, "-reliability.png"),
    }
    metadata = {**chosen.kept.metadata, "report": {key: report[key] for key in ("counts", "per_class", "left_out")}}
    kept = replace(chosen.kept, metadata=metadata)
    if not overwrite and files.is_file(paths["kept"]):
        refuse_other(paths["kept"], metadata)
    drawn = _most_telling(report, "usable")  # over all confidences: thresholds cut a piece off
    if drawn is None:
        files.remove(paths.pop("reliability"))
    else:
        _draw(paths["reliability"], drawn)
    pictures = [] if drawn is None else [paths["reliability"].name]
    digest = digest_kept(kept)
    heading = f"{heading_of(report)}; teacher: {report['teacher']}"
    page = to_markdown(heading, grids_of(report), pictures) + f"\n`{paths['kept'].name}`: SHA-256 {digest}\n"
    files.write_bytes(paths["report"], page.encode())
    files.write_json(paths["numbers"], {**report, DIGEST: digest})
    columns = {"id": ("string", list(chosen.left_out)), "reason": ("string", list(chosen.left_out.values()))}
    files.write_table(paths["left_out"], columns, {"version": 1, "labels": kept.metadata["labels"]})
    write_kept(request.artifacts, request.dataset, name, kept, overwrite=overwrite)
    return paths


def refuse_other(path: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse to replace a kept set that was made in another way."""
    found = files.read_metadata(path, hint="Delete it, or choose another --name").get("kept", {})
    # Images that came or went since change the counts; that is another set as well.
    if json.dumps(found, sort_keys=True) != json.dumps(dict(metadata), sort_keys=True):
        refuse_overwriting(path, "kept images")


def _classes(report: Mapping[str, Any]) -> Grid:
    rows: list[tuple[str, ...]] = [
        (
            name,
            f"{report['thresholds'][name]:g}",
            f"{row['labelled']:,}",
            f"{row['usable']:,}",
            f"{row['kept']:,}",
            percent(row["kept_share"]),
            percent(row["balance_before"]),
            percent(row["balance_after"]),
            f"{row['train']:,}",
            f"{row['val']:,}",
        )
        for name, row in report["per_class"].items()
    ]
    counts, split = report["counts"], report["split"]
    share = percent(counts["kept"] / counts["usable"])
    total = [f"{counts[name]:,}" for name in ("labelled", "usable", "kept")]
    rows.append(("all", "", *total, share, "", "", f"{split['train']:,}", f"{split['val']:,}"))
    notes = [
        "usable: with an image that can be decoded; kept %: of the usable ones; before, after: share of the class."
    ]
    if split["absent"]:
        notes.append(
            f"The validation part has no image of {', '.join(split['absent'])}: a larger --val-share may help."
        )
    headings = ("class", "threshold", "labelled", "usable", "kept", "kept %", "before %", "after %", "train", "val")
    return Grid(title="Classes", headings=headings, rows=tuple(rows), notes=tuple(notes))


def _tweets(report: Mapping[str, Any]) -> list[Grid]:
    """Nothing where every tweet has one image, as every pair of other datasets has."""
    found = report["tweets"]
    if found["usable"]["tweets"] == found["usable"]["images"]:
        return []
    numbers = list(found["kept"]["images_per_tweet"])
    rows = [
        (
            name,
            f"{row['tweets']:,}",
            f"{row['images']:,}",
            f"{row['mean']:.2f}",
            *(f"{row['images_per_tweet'][n]:,}" for n in numbers),
        )
        for name, row in found.items()
    ]
    headings = ("part", "tweets", "images", "images a tweet", *(f"with {n}" for n in numbers))
    return [Grid(title="Images of a tweet", headings=headings, rows=tuple(rows))]


def _reasons(report: Mapping[str, Any]) -> Grid:
    rows = [(reason, f"{n:,}") for reason, n in report["left_out"].items()]
    rows += [(f"no pseudo-label: {reason}", f"{n:,}") for reason, n in report["without_label"].items()]
    dedup = report["dedup"]
    if dedup["method"] == "none":
        note = "near-duplicates were not looked for (--dedup none)"
    else:
        bound = "at most {:g} bits" if dedup["method"] == "hash" else "cosine at least {:g}"
        note = (
            f"near-duplicates by {dedup['method']} ({bound.format(dedup['threshold'])}): {dedup['compared']:,} images "
            f"compared, {dedup['groups']:,} groups of several, {dedup['dropped']:,} dropped"
        )
    return Grid(title="Not kept", headings=("reason", "pairs"), rows=tuple(rows), notes=(note,))


def _gold(report: Mapping[str, Any]) -> list[Grid]:
    rows = []
    for target, by_seen in report["gold"].items():
        for seen, by_subset in by_seen.items():
            for subset, row in by_subset.items():
                if row is not None:
                    rows.append((f"of {WORDS[target]}", seen, subset, *_figures(row)))
    headings = (
        "people's label",
        "pairs",
        "of them",
        "n",
        "accuracy [95 %]",
        "majority",
        "macro F1",
        "ECE (calibrated)",
    )
    title = "Pseudo-labels beside what people said"
    notes = (*COLUMNS_OF_GOLD, *SEEN, *_agreement(report))
    grids = [Grid(title=title, headings=headings, rows=tuple(rows), notes=notes)]
    shown = _most_telling(report, "kept")
    return grids if shown is None else [*grids, _confusion(shown)]


def _agreement(report: Mapping[str, Any]) -> tuple[str, ...]:
    """How far a teacher that is right about every text could come with the images."""
    told = [
        f"{percent(row['share'])} % of {row['n']:,} {seen} pairs"
        for seen, row in report["gold_agreement"].items()
        if row["n"]
    ]
    return (f"People gave text and image the same label in {', '.join(told)}.",) if told else ()


def _figures(row: Mapping[str, Any]) -> tuple[str, ...]:
    ends = row["intervals"]["accuracy"]
    interval = "unknown" if ends["low"] is None else f"{percent(ends['low'])}, {percent(ends['high'])}"
    ece = f"{row['ece']:.3f} ({row['ece_if_calibrated']['mean']:.3f})"
    accuracy = f"{percent(row['accuracy'])} [{interval}]"
    return f"{row['n']:,}", accuracy, percent(row["majority"]), percent(row["f1_macro"]), ece


def _confusion(shown: tuple[str, Mapping[str, Any]]) -> Grid:
    title, row = shown
    rows = tuple(
        (
            name,
            *(f"{n:,}" for n in row["confusion"][k]),
            percent(row["per_class"][name]["precision"]),
            percent(row["per_class"][name]["recall"]),
        )
        for k, name in enumerate(SENTIMENT)
    )
    headings = ("people say", *(f"pseudo {name}" for name in SENTIMENT), "precision %", "recall %")
    return Grid(title=title, headings=headings, rows=rows)


def _most_telling(report: Mapping[str, Any], subset: str) -> tuple[str, Mapping[str, Any]] | None:
    """The comparison that matters most of those there are, with its title: by the image's label, unseen before seen."""
    for target, by_seen in (report["gold"] or {}).items():
        for seen in ("unseen", "seen"):
            row = by_seen[seen][subset]
            if row is not None:
                what = "Kept pseudo-labels" if subset == "kept" else "Pseudo-labels"
                return f"{what} beside people's label of {WORDS[target]} ({seen}, n = {row['n']:,})", row
    return None


def _draw(path: Path, drawn: tuple[str, Mapping[str, Any]]) -> None:
    from sentifuse.fuse.embed import to_png
    from sentifuse.fuse.report.diagrams import draw_reliability

    title, row = drawn
    figure = draw_reliability(row)
    figure.suptitle(title, fontsize=13, x=0.105, ha="left")
    files.write_bytes(path, to_png(figure))
