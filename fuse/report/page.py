"""A page from a template: one HTML file without script or network. Escapes whatever comes from texts and names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.fuse.tables import Grid

TEMPLATES = Path(__file__).parent / "templates"
MARK = '<meta name="generator" content="sentifuse'  # how a report is known again
HEAD_BYTES = 2000

# A browser would drop or replace control characters: their pictures are shown instead.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {127: 0x2421}
_NUMBER = re.compile(r"[<+−-]? ?\d[ ±\[\](),\d.+−%†-]*|–†?|\[unknown\]|\[[\d.,\s]+\]")


def render(template: str, view: Mapping[str, Any]) -> str:
    """The HTML of a template in `templates/`; a name that the view lacks is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["numbers_in"] = _numbers_in
    environment.tests["number"] = is_number
    return environment.get_template(template).render(view)


def write_page(path: Path, html: str) -> int:
    """Write a page; its size in bytes."""
    content = html.encode("utf-8", "backslashreplace")  # half a surrogate pair, as names of files may hold: escaped
    files.write_bytes(path, content)
    return len(content)


def check_out(path: Path) -> None:
    """Refuse, before any work, a file that is no report of ours: it may be dear to somebody.

    Raises
    ------
    ConfigError
        A folder, or a file of another kind.
    DataError
        The file cannot be looked at, or nothing can be written where it is to be.
    """
    if path.is_dir():
        raise ConfigError(f"--out {path}: expected a file, found a folder. Name a file, as {path / 'report.html'}")
    files.check_writable(path.parent, hint="Mend the permissions, or name another file with --out")
    if not files.is_file(path):
        return
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}. Name another file with --out") from error
    if MARK.encode() not in head:
        raise ConfigError(f"--out {path}: expected a new file or an earlier report, found another file. Name another")


def visible(text: str) -> str:
    r"""A text whose control characters can be seen.

    >>> visible("a\x00b\tc")
    'a␀b\tc'
    """
    return text.translate(_CONTROLS)


def is_number(cell: str) -> bool:
    """Whether a cell of a table holds numbers alone, and is set to the right.

    >>> is_number("0.7110"), is_number("44 (11.1%)"), is_number("72.3 ± 1.2 [70.1, 74.5]"), is_number("2 thirds")
    (True, True, True, False)
    """
    return _NUMBER.fullmatch(cell) is not None


def _numbers_in(table: Grid, column: int) -> bool:
    """Whether a column holds numbers alone."""
    return all(is_number(row[column]) or not row[column] for row in table.rows)
