"""Benchmarks of visual sentiment with human labels: CSV files `path,class` beside a folder `images`, two classes.

Reads lists and looks whether the files are there and begin like images. Scores nothing.
"""

import csv
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.data.images import UnreadableImage, looks_like_image, read_image
from sentifuse.data.source import SPLITS, Problem

HEADER = ("path", "class")
IMAGES = "images"
ABOVE = (
    "",
    "benchmark",
    "dataset/benchmark",
)  # a clone of the original, its folder `dataset`, or that of the benchmarks
HEAD_BYTES = 16
FI_SPLITS = (1, 2, 3, 4, 5)

ZERO_ONE = {"0": False, "1": True}
ZERO_TWO = {"0": False, "2": True}

_TWITTER_1, _TWITTER_2, _FI, _ROI = "Twitter Testing Dataset I", "Twitter Testing Dataset II", "FI", "EmotionROI"

# Shapes: N images of a benchmark.


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkFile:
    """Where a benchmark lies below the folder of all, what its codes mean, and how many images publications count.

    `codes`: word of the column class -> is positive. `published` is (negative, positive), None where nobody says.
    """

    folder: str
    list_name: str
    codes: Mapping[str, bool]
    published: tuple[int, int] | None = None


def fi_part(split: int, part: str) -> str:
    """Name of a part ("train", "val", "test") of one of FI's five published splits.

    >>> fi_part(3, "test")
    'FI_split_3_test'
    """
    return f"FI_split_{split}_{part}"


# Counts of Twitter and FI are quoted from publications, those of EmotionROI follow from its folders (330 an emotion).
BENCHMARKS: dict[str, BenchmarkFile] = {
    "3agree": BenchmarkFile(folder=_TWITTER_1, list_name="3agree.csv", codes=ZERO_ONE, published=(500, 769)),
    "4agree": BenchmarkFile(folder=_TWITTER_1, list_name="4agree.csv", codes=ZERO_ONE, published=(427, 689)),
    "5agree": BenchmarkFile(folder=_TWITTER_1, list_name="5agree.csv", codes=ZERO_ONE, published=(301, 581)),
    "twitter_testing_2": BenchmarkFile(
        folder=_TWITTER_2, list_name="twitter_testing_2.csv", codes=ZERO_ONE, published=(133, 470)
    ),
    "FI_complete": BenchmarkFile(folder=_FI, list_name="FI_complete.csv", codes=ZERO_TWO, published=(6878, 16430)),
    "emotion_ROI_test": BenchmarkFile(
        folder=_ROI, list_name="emotion_ROI_test.csv", codes=ZERO_ONE, published=(396, 198)
    ),
    "emotion_ROI_train": BenchmarkFile(
        folder=_ROI, list_name="emotion_ROI_train.csv", codes=ZERO_ONE, published=(924, 462)
    ),
    "emotion_ROI_complete": BenchmarkFile(
        folder=_ROI, list_name="emotion_ROI_complete.csv", codes=ZERO_ONE, published=(1320, 660)
    ),
} | {
    fi_part(split, part): BenchmarkFile(folder=_FI, list_name=f"split_{split}/FI_{part}.csv", codes=ZERO_TWO)
    for split in FI_SPLITS
    for part in SPLITS
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Benchmark:
    """One benchmark as it lies here, in the order of its list.

    Attributes
    ----------
    source
        The list.
    images
        N files; one that `statuses` names cannot be used.
    paths
        The same, as the list has them.
    is_positive
        bool (N,): what people said.
    statuses
        Position -> (status, detail) of files that are not there, cannot be read or are no images; a status is one of
        `images.REASONS`. A file that begins like an image and is damaged later shows when it is decoded.
    published_count
        Images that publications count; None where nobody says.
    """

    name: str
    source: Path
    images: tuple[Path, ...]
    paths: tuple[str, ...]
    is_positive: npt.NDArray[np.bool_]
    statuses: Mapping[int, tuple[str, str]]
    published_count: int | None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """`statuses` with the path of each file as its id."""
        return tuple(
            Problem(self.source.name, f"{status} ({detail})" if detail else status, self.paths[row], is_failure=True)
            for row, (status, detail) in self.statuses.items()
        )


def read_benchmark(root: Path, name: str) -> Benchmark:
    """A benchmark of this name below `root`: the folder of all benchmarks, or what holds it in the original's layout.

    Raises
    ------
    ConfigError
        No such benchmark.
    DataError
        Its list or its folder of images is not there; the list has another header or no row; a row has a class that is
        none of this benchmark's codes, a path that leaves the folder, or a path that stands there already.
    """
    if name not in BENCHMARKS:
        raise ConfigError.unknown("benchmark", name, BENCHMARKS, where="--on")
    about = BENCHMARKS[name]
    source = _find_list(root.expanduser().resolve(), name, about)
    folder = source.parents[about.list_name.count("/")]
    labels = _read_list(source, about.codes)
    images_folder = folder / IMAGES
    if not images_folder.is_dir():
        raise DataError(f"{folder}: expected a folder {IMAGES} beside {about.list_name}, found none. Put it there")
    images = tuple(images_folder / path for path in labels)
    with ThreadPoolExecutor(max_workers=4) as pool:  # waiting for the disk leaves the interpreter lock
        looks = list(pool.map(_look, images))
    return Benchmark(
        name=name,
        source=source,
        images=images,
        paths=tuple(labels),
        is_positive=np.array(list(labels.values()), dtype=np.bool_),
        statuses={row: look for row, look in enumerate(looks) if look is not None},
        published_count=sum(about.published) if about.published else None,
    )


def _find_list(root: Path, name: str, about: BenchmarkFile) -> Path:
    places = [root / above / about.folder for above in ABOVE]
    if root.name == about.folder:
        places.append(root)
    found = next((path for place in places if files.is_file(path := place / about.list_name)), None)
    if found is None:
        raise DataError(
            f"{root}: benchmark {name}: expected '{about.folder}/{about.list_name}' and "
            f"'{about.folder}/{IMAGES}' there, found no such list. Name the folder of the benchmarks with --root"
        )
    return found


def _read_list(path: Path, codes: Mapping[str, bool]) -> dict[str, bool]:
    """Path -> is positive, in the order of the list."""
    raw = files.read_bytes(path, hint="Get the list anew")
    try:
        reader = csv.reader(StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a CSV file in UTF-8, found: {error}. Get the list anew") from error
    header = tuple(rows[0][1]) if rows else ()
    if header != HEADER or len(rows) == 1:
        found = f"the first row {','.join(header)[:60]!r}" if header != HEADER else "the header alone"
        raise DataError(f"{path}: expected the header 'path,class' and a row an image, found {found}. Get it anew")
    labels: dict[str, bool] = {}
    lines: dict[str, int] = {}
    for line, cells in rows[1:]:
        where = f"{path} line {line}"
        if len(cells) != len(HEADER) or not _stays_inside(cells[0]):
            raise DataError(
                f"{where}: expected a path below {IMAGES} and a class, found {','.join(cells)[:60]!r}. Mend it"
            )
        name, word = cells
        if word not in codes:
            meanings = ", ".join(f"{code} {'positive' if codes[code] else 'negative'}" for code in codes)
            raise DataError(f"{where}: expected a class of this list's codes ({meanings}), found {word!r}. Mend it")
        if name in labels:
            raise DataError(f"{where}: expected every path once, found {name} at line {lines[name]} too. Keep one")
        labels[name], lines[name] = codes[word], line
    return labels


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and "\0" not in path


def _look(path: Path) -> tuple[str, str] | None:
    """What is wrong with a file, by its first bytes; a web page saved under an image's name is found here."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        return "missing", ""
    except OSError as error:
        return "cannot be read", error.strerror or str(error)
    if not head:
        return "empty file", ""
    if looks_like_image(head):
        return None
    try:
        read_image(path)  # a format whose first bytes are less well known
    except UnreadableImage as error:
        is_page = head.lstrip()[:1] == b"<"
        return error.reason, "a web page or another marked-up text" if is_page else error.detail
    return None
