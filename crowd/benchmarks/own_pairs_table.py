"""An evaluation on a dataset's own pairs as a table, with what may be said below it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sentifuse.extract.encoders.sentiment_classes import CLASSES
from sentifuse.fuse.tables import Grid, percent

__all__ = ["describe_reasons", "grids_of"]


def grids_of(document: Mapping[str, Any]) -> list[Grid]:
    """The evaluation as a table, with what may be said below it."""
    rows = tuple(
        (
            row["name"],
            row["kind"],
            f"{row['n']:,}",
            percent(row["accuracy"]),
            _ends(row["intervals"]["accuracy"]),
            percent(row["f1_macro"]),
            *(percent(row["per_class"][name]["recall"]) for name in CLASSES),
        )
        for row in document["rows"]
    )
    drawn = document["rows"][0]["intervals"]["accuracy"]
    of = f"{document['split']} part, {document['protocol']}, seed {document['seed']}, rule {document['rule']}"
    notes = [f"in brackets: {drawn['level']:.0%} intervals, bootstrap over {drawn['units']:,} {drawn['unit']}"]
    notes += [
        f"{row['name']}: {len(row['excluded']):,} images left out by name ({describe_reasons(row['excluded'])})"
        for row in document["rows"]
        if row["excluded"]
    ]
    notes += [found["verdict"] for found in document["comparisons"]]
    headings = ("answers of", "kind", "n", "accuracy", "", "macro F1", *(f"recall {name}" for name in CLASSES))
    title = f"{document['dataset']}: what people said of the images, {of}"
    return [Grid(title=title, headings=headings, rows=rows, notes=tuple(notes))]


def describe_reasons(excluded: Mapping[str, str]) -> str:
    """Why images have no answer, the most frequent reason first.

    >>> describe_reasons({"a": "image: missing", "b": "image: missing"})
    '2 image: missing'
    """
    return ", ".join(f"{n:,} {reason}" for reason, n in Counter(excluded.values()).most_common())


def _ends(interval: Mapping[str, Any]) -> str:
    return "–" if interval["low"] is None else f"[{percent(interval['low'])}, {percent(interval['high'])}]"
