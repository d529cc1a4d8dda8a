"""Datasets kept as one list of ids beside a folder of <id>.jpg and <id>.txt: where the list is, which file is whose.

Reads texts as bytes and looks for images by name; parses no list and decodes nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from sentifuse import DataError
from sentifuse.data.source import Problem, RawPair

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
SHOWN = 5


def find_list(name: str, root: Path | None, list_name: str, layout: str) -> Path:
    """The list in `root`, or in its only sub-folder that has one: archives have top folders of varying name.

    Parameters
    ----------
    name, layout
        The dataset and what its folder should hold, for the messages.

    Raises
    ------
    DataError
        No folder was named, or it holds no such list, or several sub-folders do.
    """
    how = f"Unpack the archive of the dataset and run: sentifuse data prepare {name} --root DIR"
    if root is None:
        raise DataError(f"{name}: expected a folder with {layout}; no folder was named. {how}")
    root = root.expanduser().resolve()
    try:
        if not root.is_dir():
            found = "a file" if root.exists() else "nothing there"
            raise DataError(f"{root}: expected a folder with {layout}, found {found}. {how}")
        folders = [root, *sorted(child for child in root.iterdir() if child.is_dir())]
        candidates = [folder / list_name for folder in folders if (folder / list_name).is_file()]
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error.strerror or error}. {how}") from error
    if not candidates:
        raise DataError(f"{root}: expected {layout}, found no {list_name} here or one folder below. {how}")
    if candidates[0].parent != root and len(candidates) > 1:
        raise DataError(
            f"{root}: found several datasets: {', '.join(map(str, candidates))}. Name one of them with --root"
        )
    return candidates[0]


def find_pairs(
    root: Path, folder_name: str, ids: Sequence[str], *, others: Sequence[str] = ()
) -> tuple[list[RawPair], list[Problem]]:
    """Image and text of every id, in this order, from `root/folder_name`; a name differing in case only is accepted.

    An image that is not there gets the name it should have, a text that is not there is None. Files that belong to no
    id are a problem, said once.

    Parameters
    ----------
    folder_name
        "" for `root` itself.
    others
        Names that are no file of a pair and are expected there.
    """
    folder = root / folder_name
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}. Mend the permissions") from error
    exact = set(names)
    any_case = {name.lower(): name for name in reversed(names)}
    prefix = f"{folder_name}/" if folder_name else ""
    pairs, used = [], set(others)
    for id_ in ids:
        found = (any_case.get(f"{id_}{suffix}".lower(), "") for suffix in IMAGE_SUFFIXES)
        image = f"{id_}.jpg" if f"{id_}.jpg" in exact else next(filter(None, found), f"{id_}.jpg")
        text = f"{id_}.txt" if f"{id_}.txt" in exact else any_case.get(f"{id_}.txt".lower(), "")
        used |= {image, text}
        content, text_problem = _read_text(folder / text) if text else (None, "")
        pairs.append(RawPair(id=id_, image_path=f"{prefix}{image}", text=content, text_problem=text_problem))
    left = [name for name in names if name not in used and not name.startswith(".")]
    if not left:
        return pairs, []
    more = ", …" if len(left) > SHOWN else ""
    what = f"{len(left)} files belong to no label row and are not registered: {', '.join(left[:SHOWN])}{more}"
    return pairs, [Problem(folder_name or ".", what)]


def _read_text(path: Path) -> tuple[bytes | None, str]:
    try:
        return path.read_bytes(), ""
    except OSError as error:
        return None, f"cannot be read: {error.strerror or error}"
