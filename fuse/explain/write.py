"""Explanations on disk: a figure per pair, one page, one JSON file with the very numbers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentifuse import ConfigError
from sentifuse.data import files
from sentifuse.fuse.embed import to_png
from sentifuse.fuse.explain.draw import draw
from sentifuse.fuse.explain.explanation import PairExplanation
from sentifuse.fuse.explain.page import render_page

PAGE, NUMBERS = "explain.html", "explain.json"
NAME_LENGTH = 60
FIGURE = re.compile(r"\d{2,}-[\w-]*\.png", flags=re.ASCII)  # what `figure_name` gives

ABOUT = (
    "Every number is of one forward pass of the trained head. Shades are in proportion to the weights. Beside them "
    "stand the largest and the even weight, which each would have if all were equal; the darkest shade is for the "
    "largest, or for twice the even one where that is more. Grey signs were not read.",
    "A weight says what a head looked at. It does not say what made it answer so.",
)


def check_out(folder: Path) -> None:
    """Refuse, before any work, a folder with other things in it: they may be dear to somebody.

    Raises
    ------
    ConfigError
        A file, or a folder that holds something and no explanations.
    DataError
        Nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder}: expected a folder, found a file. Name another")
    files.check_writable(folder, hint="Mend the permissions, or name another folder with --out")
    if folder.exists() and any(folder.iterdir()) and not (folder / NUMBERS).is_file():
        raise ConfigError(
            f"--out {folder}: expected a new or an empty folder, or one with explanations, which are replaced; found "
            "one with other files. Name another"
        )


def write_explanations(
    folder: Path, explanations: Sequence[PairExplanation], *, title: str, about: Sequence[str] = ()
) -> dict[str, Any]:
    """Write figures, page and JSON into a folder; the same explanations give the same bytes.

    Figures of explanations that stood there before are removed.

    Returns
    -------
    dict
        html, json: paths; png: id → path.
    """
    pictures: dict[str, str] = {}
    for place, explanation in enumerate(explanations, start=1):
        path = folder / figure_name(place, explanation.id)
        files.write_bytes(path, to_png(draw(explanation)))
        pictures[explanation.id] = str(path)
    for old in folder.glob("*.png"):
        if FIGURE.fullmatch(old.name) and str(old) not in pictures.values():
            old.unlink()
    page = render_page(explanations, title, [*about, *ABOUT])
    files.write_bytes(folder / PAGE, page.encode("utf-8", "backslashreplace"))  # half a surrogate pair: escaped
    files.write_json(folder / NUMBERS, document(explanations, title))
    return {"html": str(folder / PAGE), "json": str(folder / NUMBERS), "png": pictures}


def document(explanations: Sequence[PairExplanation], title: str) -> Mapping[str, Any]:
    """What the JSON file holds: title, and every pair's `to_json`."""
    return {"title": title, "pairs": [explanation.to_json() for explanation in explanations]}


def figure_name(place: int, id_: str) -> str:
    """A file's name for a pair, safe whatever the id: the place in the list keeps names apart.

    >>> figure_name(3, "a/b: c")
    '03-a_b_c.png'
    """
    safe = re.sub(r"[^\w-]+", "_", id_, flags=re.ASCII)[:NAME_LENGTH]
    return f"{place:02d}-{safe}.png"
