"""What others published beside what was measured here, never without saying what differs.

Reads the one data file `fuse/published.toml`; every table in it names its source. Measures nothing.
"""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files as resources
from typing import Any

from sentifuse.fuse.comparison.measured import Measured
from sentifuse.fuse.comparison.rows import Groups, compare_rows

FILE = "published.toml"


@cache
def read_published() -> Mapping[str, Any]:
    """ "table" and "figure": lists of everything in the file."""
    return tomllib.loads((resources("sentifuse.fuse") / FILE).read_text(encoding="utf-8"))


def published_rows(dataset: str, here: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The published numbers of this dataset.

    Parameters
    ----------
    here
        profile, protocol, rule, n_pairs (labelled pairs that take part here).

    Returns
    -------
    list
        table, title, source, system, ours (head or None), accuracy, f1 (None where not said), differs: sentences.
    """
    found = []
    for table in read_published()["table"]:
        for row in table["rows"]:
            if row["dataset"] == dataset:
                found.append(
                    {
                        "table": table["id"],
                        "title": table["title"],
                        "source": table["source"],
                        "system": row["system"],
                        "ours": row.get("ours"),
                        "accuracy": row.get("accuracy"),
                        "f1": row.get("f1"),
                        "differs": what_differs(table, dataset, here),
                    }
                )
    return found


def what_differs(table: Mapping[str, Any], dataset: str, here: Mapping[str, Any]) -> list[str]:
    """Encoders, protocol, pairs, rule and F1: in each of them there and here, where they are not known to be the same.

    >>> table = {"encoders": "e", "protocol": "p", "rule": "r", "pairs": {"d": 5}, "f1": "weighted"}
    >>> what_differs(table, "d", {"profile": "offline", "protocol": "random", "rule": "r", "n_pairs": 5})
    ['encoders: e; here profile offline', 'protocol: p; here random']
    """
    pairs = table["pairs"].get(dataset)
    found = [
        f"encoders: {table['encoders']}; here profile {here['profile']}",
        f"protocol: {table['protocol']}; here {here['protocol']}",
    ]
    if pairs != here["n_pairs"]:
        found.append(f"pairs: {f'{pairs:,}' if pairs else 'not said'}; here {here['n_pairs']:,}")
    if table["rule"] != here["rule"]:
        found.append(f"label rule: {table['rule']}; here {here['rule']}")
    if table["f1"] and table["f1"] != "weighted":
        found.append(f"F1: {table['f1']}; here weighted")
    return found


def ablation_patterns(rows: Mapping[str, Sequence[Measured]], groups: Groups) -> list[dict[str, Any]]:
    """What each published ablation costs there and here: variant less full system, in accuracy.

    The pattern may be set side by side where the numbers may not; the datasets may differ too, and are named. Ours has
    a paired interval, and no verdict: these are as many comparisons more.

    Returns
    -------
    list
        table, title, source, variant, ours, published: dataset → difference, difference, low, high.
    """
    found = []
    for table in read_published()["table"]:
        if "full" not in table:
            continue
        ours_of = {row["system"]: row["ours"] for row in table["rows"] if "ours" in row}
        datasets = dict.fromkeys(row["dataset"] for row in table["rows"])
        accuracy = {(row["system"], row["dataset"]): row["accuracy"] for row in table["rows"] if "accuracy" in row}
        full = table["full"]
        for system in table["variants"]:
            ours = ours_of[system]
            if ours not in rows or ours_of[full] not in rows:
                continue
            comparison = compare_rows(rows[ours], rows[ours_of[full]], groups)
            if comparison is not None:
                found.append(
                    {
                        "table": table["id"],
                        "title": table["title"],
                        "source": table["source"],
                        "variant": system,
                        "ours": ours,
                        "full": ours_of[full],
                        "published": {d: round(accuracy[system, d] - accuracy[full, d], 6) for d in datasets},
                        "difference": comparison.difference,
                        "low": comparison.low,
                        "high": comparison.high,
                    }
                )
    return found


def published_points(head: str, key: str, dataset: str) -> dict[str, Any] | None:
    """What a paper's figure over this setting is known to show: title, source, said, points [(value, accuracy)]."""
    for figure in read_published()["figure"]:
        if (figure["head"], figure["key"]) == (head, key):
            points = [(p["value"], p["accuracy"]) for p in figure["points"] if p["dataset"] == dataset]
            return {name: figure[name] for name in ("title", "source", "said")} | {"points": points}
    return None
