"""Which images a student saw while it was trained, so that none of them is answered as if it were new.

`seen.parquet` of a student folder. An image is known again by the SHA-256 of its bytes, by dataset and id, and by a
perceptual hash: a file that was saved anew is still the image that was learned from.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sentifuse import DataError
from sentifuse.data.files import is_file, read_json, read_table, write_table

__all__ = ["SEEN_FILE", "SeenImage", "find_home", "match_seen", "read_seen", "refuse_seen", "write_seen"]

SEEN_FILE = "seen.parquet"
FORMAT = 2
COLUMNS = ("image_digest", "id", "dataset", "fold")
HASH = "image_hash"  # format 1 has no such column
KINDS = {"fold": "int32", HASH: "uint64"}  # the others are texts
BASE = "base"
STUDENT = "student.json"
FOLD = re.compile(r"fold-([1-9][0-9]*)")
HELD_OUT = "held_out_fold"
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
    image_hash
        64-bit perceptual hash, None where it is not known.
    """

    image_digest: str
    id: str
    dataset: str
    fold: int = 0
    image_hash: int | None = None


def write_seen(folder: Path, images: Sequence[SeenImage]) -> None:
    """Write `seen.parquet`, in the order given."""
    columns = {
        name: (KINDS.get(name, "string"), [getattr(image, name) for image in images]) for name in (*COLUMNS, HASH)
    }
    write_table(folder / SEEN_FILE, columns, {"format": FORMAT})


def read_seen(folder: Path) -> tuple[SeenImage, ...]:
    """The images that the students of a folder saw, none where none are listed; what a base saw counts as fold 0.

    Of a fold-k/ inside a student folder: all that lie in its parent's list, but for those of fold k.

    Raises
    ------
    DataError
        A file that is damaged or of another format; a student of a fold that lies elsewhere than in its folder.
    """
    home, fold = find_home(folder)
    images = _read(home / SEEN_FILE) + tuple(replace(image, fold=0) for image in _read(home / BASE / SEEN_FILE))
    return tuple(replace(image, fold=0) for image in images if image.fold != fold) if fold else images


def find_home(folder: Path) -> tuple[Path, int]:
    """The folder that tells what a student saw, and its fold: of a fold-k/ the parent and k, else itself and 0.

    Raises
    ------
    DataError
        A student of a fold, taken out of the folder that tells what it saw.
    """
    folder = folder.resolve()
    found = FOLD.fullmatch(folder.name)
    fold = int(found[1]) if found and any(is_file(folder.parent / name) for name in (STUDENT, SEEN_FILE)) else 0
    document = read_json(folder / STUDENT, hint=HINT) if is_file(folder / STUDENT) else {}
    if document.get(HELD_OUT, fold) not in (0, fold):
        raise DataError(
            f"{folder}: the student without fold {document[HELD_OUT]}, expected in the student folder that it was "
            f"trained in, as fold-{document[HELD_OUT]}: what it saw is told there alone. {HINT}"
        )
    return (folder.parent, fold) if fold else (folder, 0)


def match_seen(
    images: Sequence[SeenImage], digests: Mapping[str, str], dataset: str, hashes: Mapping[str, int | None]
) -> dict[str, set[int]]:
    """id -> the folds of the seen images that the pair's image is: the same bytes, the same pair, or the same picture.

    The same picture has a perceptual hash that differs in few bits, by the project's rule of near-duplicates.

    Parameters
    ----------
    digests
        id -> SHA-256 of the pair's image, "" where there is none.
    hashes
        SHA-256 -> perceptual hash, as far as they are known.
    """
    by_digest: dict[str, set[int]] = defaultdict(set)
    by_id: dict[str, set[int]] = defaultdict(set)
    by_hash: dict[int, set[int]] = defaultdict(set)
    for image in images:
        by_digest[image.image_digest].add(image.fold)
        if image.dataset == dataset:
            by_id[image.id].add(image.fold)
        if image.image_hash is not None:
            by_hash[image.image_hash].add(image.fold)
    by_digest.pop("", None)
    own = {digest: value for digest in digests.values() if (value := hashes.get(digest)) is not None}
    near = _near_folds(by_hash, set(own.values()))
    found = {}
    for id_, digest in digests.items():
        folds = by_digest.get(digest, set()) | by_id.get(id_, set())
        if digest in own:
            folds = folds | near.get(own[digest], set())
        if folds:
            found[id_] = folds
    return found


def refuse_seen(
    folder: Path, digests: Mapping[str, str], dataset: str, hashes: Mapping[str, int | None] | None = None
) -> None:
    """Refuse a dataset with images that a student saw: its answers for them would be too good.

    Parameters
    ----------
    digests, hashes
        As for `match_seen`.

    Raises
    ------
    DataError
        Says how many, and what to type.
    """
    there = {id_: digest for id_, digest in digests.items() if digest}  # no image, no features: nothing can leak
    known = list(match_seen(read_seen(folder), there, dataset, hashes or {}))
    if known:
        raise DataError(
            f"{folder}: this student was trained on the images of {len(known):,} of the {len(digests):,} pairs of "
            f"{dataset} or near-duplicates of them ({', '.join(known[:3])}{', …' if len(known) > 3 else ''}); its "
            "features for them would leak "
            "labels into a fusion. Features from students that did not see them: "
            f"sentifuse distil features --student {folder} --dataset {dataset}"
        )


def _near_folds(seen: Mapping[int, set[int]], own: set[int]) -> dict[int, set[int]]:
    """Own hash -> folds of the seen hashes that are near it or equal."""
    from sentifuse.data.groups import MAX_BITS, near_values  # imports scipy; most students saw nothing of a dataset

    if not seen or not own:
        return {}
    values = sorted({*seen, *own})
    found = {value: set(seen.get(value, ())) for value in own}
    for pairs in near_values(np.array(values, dtype=np.uint64), MAX_BITS):
        for one, other in pairs.tolist():
            for value, neighbour in ((values[one], values[other]), (values[other], values[one])):
                if value in found:
                    found[value] |= seen.get(neighbour, set())
    return found


def _read(path: Path) -> tuple[SeenImage, ...]:
    if not is_file(path):
        return ()
    columns, metadata = read_table(path, COLUMNS, hint=HINT)
    found = metadata.get("format")
    if found not in (1, FORMAT):
        raise DataError(f"{path}: expected format {FORMAT}, found {found!r}. {HINT}")
    names: tuple[str, ...] = COLUMNS
    if found == FORMAT:
        names = (*COLUMNS, HASH)
        columns, _ = read_table(path, names, hint=HINT)
    rows = zip(*(columns[name] for name in names), strict=True)
    return tuple(SeenImage(**dict(zip(names, row, strict=True))) for row in rows)
