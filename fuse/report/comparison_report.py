"""The report of a comparison: what `comparison.json` holds, as tables and pictures on one page. Computes nothing."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

import sentifuse
from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.fuse.comparison.document import FORMAT_VERSION
from sentifuse.fuse.comparison.folder import JSON_FILE
from sentifuse.fuse.comparison.grids import estimate, grids_of, heading_of
from sentifuse.fuse.comparison.pictures import draw_forest, draw_missing, draw_sweep
from sentifuse.fuse.report.page import check_out, render, write_page
from sentifuse.fuse.report.picture import Picture, from_drawn
from sentifuse.fuse.report.provenance import SHORT, command_line
from sentifuse.fuse.report.recorded import require
from sentifuse.fuse.tables import Grid, percent

KEYS = (
    "created", "version", "command", "dataset", "protocol", "rule", "target", "profile", "features", "n_pairs",
    "seeds", "folds", "baseline", "claim", "rows", "differences", "subsets", "missing", "published", "ablations",
    "sweep", "runs", "notes", "failed", "left_out",
)  # fmt: skip
HINT = "Compare again: sentifuse compare"
# What reading a value that is absent or of another kind ends in: the keys on top are checked, those inside are used.
DAMAGED = (LookupError, TypeError, ValueError, AttributeError, StopIteration, UndefinedError)


def report_comparison(folder: Path, *, out: Path | None = None) -> dict[str, Any]:
    """Write the report of a comparison.

    Parameters
    ----------
    out
        The file; None: `report.html` in the folder.

    Returns
    -------
    dict
        html (path), size_bytes, comparison.

    Raises
    ------
    ConfigError
        No comparison there, or `out` is a file that is no report.
    DataError
        comparison.json is torn, damaged inside, or of another version of the format.
    """
    path = folder / "report.html" if out is None else out
    check_out(path)
    document = read_comparison(folder)
    try:
        html = render("comparison.html", view_of(document))
    except DAMAGED as error:
        raise DataError(
            f"{folder / JSON_FILE}: expected a whole comparison, found one that is damaged inside "
            f"({type(error).__name__}: {error}). {HINT}"
        ) from error
    size_bytes = write_page(path, html)
    return {"html": str(path), "size_bytes": size_bytes, "comparison": str(folder)}


def read_comparison(folder: Path) -> dict[str, Any]:
    """comparison.json, with every key that is needed."""
    path = folder / JSON_FILE
    if not files.is_file(path):
        raise ConfigError(f"{folder}: expected a comparison with {JSON_FILE}, found none. {HINT}")
    document = files.read_json(path, hint=HINT)
    if document.get("format") != FORMAT_VERSION:
        raise DataError(
            f"{path}: expected a comparison of format {FORMAT_VERSION}, found {document.get('format')!r}. {HINT}"
        )
    require(path, document, KEYS, hint=HINT)
    if not document["rows"]:
        raise DataError(f"{path}: expected rows, found none. {HINT}")
    return document


def view_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    grids = iter(grids_of(document))

    def take(n: int) -> list[Grid]:
        return [next(grids) for _ in range(n)]

    (main,) = take(1)
    return {
        "title": f"Heads compared on {document['dataset']}, protocol {document['protocol']}",
        "heading": heading_of(document),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": sentifuse.__version__,
        "main": main,
        "differences": take(bool(document["differences"])),
        "subsets": take(len(document["subsets"])),
        "missing": take(len(document["missing"])),
        "published": take(bool(document["published"])) + take(bool(document["ablations"])),
        "forest": _forest(document),
        "curves": [*_sweep(document), *_missing(document)],
        "verdicts": [
            found["verdict"] + (" (claimed beforehand)" if found["is_claim"] else "")
            for found in document["differences"].values()
        ],
        "failed": dict(document["failed"]),
        "left_out": dict(document["left_out"]),
        "cost": _cost(document),
        "runs": _runs(document),
        "conditions": _conditions(document),
        "command": command_line(list(document["command"])),
    }


def _conditions(document: Mapping[str, Any]) -> Grid:
    rows = [
        ("dataset", f"{document['dataset']}, {document['n_pairs']:,} labelled pairs"),
        ("label rule", f"{document['rule']}, target {document['target']}"),
        ("protocol", document["protocol"]),
        ("seeds", _list(document["seeds"])),
        ("folds", _list(document["folds"]) if document["folds"] != [0] else "none"),
        ("features", f"profile {document['profile']}"),
        *((f"features of {name}", str(digest)[:SHORT]) for name, digest in document["features"].items()),
        ("compared with", document["baseline"] or "nothing"),
        ("claimed beforehand", document["claim"] or "nothing"),
        ("compared", f"{document['created']}, version {document['version']}"),
    ]
    return Grid(title="Conditions", headings=("what", "here"), rows=tuple(rows))


def _cost(document: Mapping[str, Any]) -> Grid:
    """Seconds of training and learned numbers per head."""
    devices: dict[str, list[str]] = {}
    for run in document["runs"]:
        devices.setdefault(run["row"], []).append(str(run["device"]))
    rows = []
    for name, row in document["rows"].items():
        seconds = row["seconds"]
        spread = "" if seconds["sd"] is None else f" ± {seconds['sd']:.1f}"
        threads = ", ".join(map(str, row["threads"])) or "–"
        rows.append(
            (
                name,
                f"{seconds['mean']:.1f}{spread}",
                f"{row['parameters']:,}",
                threads,
                ", ".join(dict.fromkeys(devices.get(name, ["–"]))),
            )
        )
    return Grid(
        title="Seconds per training",
        headings=("head", "seconds, mean ± sd", "learned numbers", "threads", "device"),
        rows=tuple(rows),
        notes=("Training alone, without reading features for the first time and without evaluation.",),
    )


def _runs(document: Mapping[str, Any]) -> Grid:
    rows = [
        (
            run["run"],
            run["row"],
            str(run["seed"]),
            str(run["fold"] or "–"),
            f"{run['n']:,}",
            percent(run["accuracy"]),
            percent(run["f1_weighted"]),
            str(run["evaluations"].get("test", 0)),
        )
        for run in document["runs"]
    ]
    return Grid(
        title="Every run",
        headings=("run", "head", "seed", "fold", "pairs", "accuracy, %", "weighted F1, %", "test opened"),
        rows=tuple(rows),
        notes=("Test opened: how often the test part was opened for the run when the table was made.",),
    )


def _forest(document: Mapping[str, Any]) -> Picture:
    rows = "; ".join(f"{name}: {estimate(row['accuracy'])}" for name, row in document["rows"].items())
    dashed = f"; dashed: {document['baseline']}" if document["baseline"] else ""
    return from_drawn(
        lambda path: draw_forest(path, document, ""),
        alt=f"Accuracy on test in percent, mean ± sd and 95 % interval: {rows}.",
        caption=f"Diamonds: means; bars: 95 % intervals; dots: single runs{dashed}.",
    )


def _sweep(document: Mapping[str, Any]) -> list[Picture]:
    sweep = document["sweep"]
    if not sweep:
        return []
    points = "; ".join(
        f"{head}: " + ", ".join(f"{point['value']:g} → {percent(point['mean'])}" for point in curve)
        for head, curve in sweep["curves"].items()
    )
    published = sweep["published"]
    source = (
        "" if published is None else f" {published['title']} (other features, split and pairs): {published['said']}"
    )
    return [
        from_drawn(
            lambda path: draw_sweep(path, sweep["curves"], sweep["key"], published, ""),
            alt=f"Accuracy in percent by {sweep['key']}: {points}.",
            caption=f"Accuracy by {sweep['key']}, mean ± sd over runs.{source}",
        )
    ]


def _missing(document: Mapping[str, Any]) -> list[Picture]:
    return [
        from_drawn(
            partial(draw_missing, blocks=[block], title=""),  # a picture each: readable at half size
            alt=f"Accuracy by the share of pairs without {_lacking(block)}; the tables below have every number.",
            caption=f"Accuracy by the share of pairs without {_lacking(block)}, mean over runs.",
        )
        for block in document["missing"]
    ]


def _lacking(block: Mapping[str, Any]) -> str:
    return "text or image, by lot" if block["missing"] == "random" else str(block["missing"])


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
