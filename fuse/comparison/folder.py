"""A comparison on disk: JSON with everything, tables for reading, spreadsheets and papers, pictures.

The folder appears whole or not at all.
"""

import secrets
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.fuse.comparison.grids import grids_of, heading_of
from sentifuse.fuse.comparison.pictures import draw_forest, draw_missing, draw_sweep
from sentifuse.fuse.comparison.table_csv import to_csv
from sentifuse.fuse.tables import to_latex, to_markdown

JSON_FILE = "comparison.json"


def check_out(artifacts: Path, out: Path | None) -> None:
    """Refuse, before any work, a folder that holds something (`ConfigError`) or cannot be written (`DataError`)."""
    if out is None:
        files.check_writable(artifacts / "comparisons", hint="Mend the permissions, or name another folder with --out")
        return
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: expected a new or an empty folder, found a file. Name another")
    files.check_writable(out, hint="Mend the permissions, or name another folder with --out")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"--out {out}: expected a new or an empty folder, found one with files. Name another")


def write_comparison(artifacts: Path, document: Mapping[str, Any], out: Path | None = None) -> dict[str, Path]:
    """Write all files; what → path.

    Parameters
    ----------
    out
        The folder; None: `artifacts/comparisons/<utc>-<dataset>-<protocol>-<4 hex digits>`.

    Raises
    ------
    DataError
        The folder cannot be written.
    """
    check_out(artifacts, out)
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{document['dataset']}-{document['protocol']}-{secrets.token_hex(2)}"
    folder = artifacts / "comparisons" / name if out is None else out
    temporary = folder.with_name(f".tmp-{folder.name}")
    try:
        temporary.mkdir(parents=True)
        found = _write(temporary, document)
        if folder.exists():
            folder.rmdir()  # empty: checked above
        temporary.replace(folder)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror or error}. Every run is kept; mend the permissions or free "
            "some space and type the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {what: folder / path.name for what, path in found.items()}


def _write(folder: Path, document: Mapping[str, Any]) -> dict[str, Path]:
    heading, grids = heading_of(document), grids_of(document)
    found = {"json": folder / JSON_FILE}
    files.write_json(found["json"], dict(document))
    title = heading.replace(", rule", "\nrule", 1)
    found["picture"] = draw_forest(folder / "table.png", document, title)
    if document["sweep"]:
        found["sweep"] = _draw_sweep(folder / "sweep.png", document, title)
    if document["missing"]:
        found["missing"] = draw_missing(folder / "missing.png", document["missing"], title)
    pictures = [path.name for what, path in found.items() if what != "json"]
    for what, file, text in (
        ("markdown", "table.md", to_markdown(heading, grids, pictures)),
        ("csv", "table.csv", to_csv(document)),
        ("latex", "table.tex", to_latex(heading, grids)),
    ):
        found[what] = folder / file
        files.write_bytes(found[what], text.encode())
    return found


def _draw_sweep(path: Path, document: Mapping[str, Any], title: str) -> Path:
    sweep = document["sweep"]
    published = sweep["published"]
    if published is not None:
        title += f"\n† {published['title']}; other features, split and pairs:\n{published['said']}"
    return draw_sweep(path, sweep["curves"], sweep["key"], published, title)
