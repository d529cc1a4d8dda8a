"""Which images a student saw while it was trained, so that none of them is answered as if it were new.

`seen.parquet` of a student folder. An image is known by the SHA-256 of its bytes, whatever dataset it is in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sentifuse import DataError
from sentifuse.data.files import is_file, read_table, write_table

__all__ = ["SEEN_FILE", "SeenImage", "read_seen", "refuse_seen", "write_seen"]

SEEN_FILE = "seen.parquet"
FORMAT = 1
COLUMNS = ("image_digest", "id", "dataset", "fold")
BASE = "base"
HINT = "Copy the student folder again, whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenImage:
    """One image of a training.

    Attributes
    ----------
    image_digest
        SHA-256 of the file's bytes, 64 hexadecimal digits.
    id, dataset
        Of the pair it belongs to.
    fold
        0: every student of the folder saw it; k ≥ 1: the student in fold-k/ did not, all others did.
    """

    image_digest: str
    id: str
    dataset: str
    fold: int = 0


def write_seen(folder: Path, images: Sequence[SeenImage]) -> None:
    """Write `seen.parquet`, in the order given."""
    columns = {
        name: ("int32" if name == "fold" else "string", [getattr(image, name) for image in images]) for name in COLUMNS
    }
    write_table(folder / SEEN_FILE, columns, {"format": FORMAT})


def read_seen(folder: Path) -> tuple[SeenImage, ...]:
    """The images that the students of a folder saw, none where none are listed; what a base saw counts as fold 0.

    Raises
    ------
    DataError
        A file that is damaged or of another format.
    """
    return _read(folder / SEEN_FILE) + tuple(replace(image, fold=0) for image in _read(folder / BASE / SEEN_FILE))


def refuse_seen(folder: Path, digests: Mapping[str, str], dataset: str) -> None:
    """Refuse a dataset with images that a student saw: its answers for them would be too good.

    Parameters
    ----------
    digests
        id -> SHA-256 of the pair's image, "" where there is none.

    Raises
    ------
    DataError
        Says how many, and what to type.
    """
    seen = {image.image_digest for image in read_seen(folder)}
    known = [id_ for id_, digest in digests.items() if digest and digest in seen]
    if known:
        raise DataError(
            f"{folder}: this student was trained on the images of {len(known):,} of the {len(digests):,} pairs of "
            f"{dataset} ({', '.join(known[:3])}{', …' if len(known) > 3 else ''}); its features for them would leak "
            "labels into a fusion. Features from students that did not see them: "
            f"sentifuse distil features --student {folder} --dataset {dataset}"
        )


def _read(path: Path) -> tuple[SeenImage, ...]:
    if not is_file(path):
        return ()
    columns, metadata = read_table(path, COLUMNS, hint=HINT)
    if metadata.get("format") != FORMAT:
        raise DataError(f"{path}: expected format {FORMAT}, found {metadata.get('format')!r}. {HINT}")
    rows = zip(*(columns[name] for name in COLUMNS), strict=True)
    return tuple(SeenImage(**dict(zip(COLUMNS, row, strict=True))) for row in rows)
