"""Published splits: id lists that others gave out, found in a folder, checked, and kept with the dataset.

Two layouts are known, those of CLMLF (one split) and of the "fair comparison" (ten folds). Decides no label of its own.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentifuse import DataError
from sentifuse.data import files
from sentifuse.data.labels import Labels
from sentifuse.data.manifest import WITHDRAWN, Manifest, prepare_hint
from sentifuse.data.protocols import FOLDED, PUBLISHED, missing_class
from sentifuse.data.source import SPLITS, Problem

FOLDER = "lists"
VERSION = 1
SHOWN_IDS = 5
LAYOUTS = "clmlf/{train,dev,test}.txt or fair/{train,val,test}_{1,2,…}.txt in it or being it, one id a line"
_CLMLF_FILES = {"train": "train.txt", "val": "dev.txt", "test": "test.txt"}
_FAIR_FILE = re.compile(r"(train|val|test)_([1-9][0-9]*)\.txt")
_KNOWN_SIZES = {"clmlf": (4511, 17024), "fair": (4511, 17025)}  # ids of a fold, for MVSA-Single and MVSA-Multiple
# Which integer means which class differs from source to source.
_LABEL_FILES = {
    "clmlf": ("labels.tsv", "\t", ("positive", "neutral", "negative")),
    "fair": ("valid_pairlist.txt", ",", ("neutral", "positive", "negative")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLists:
    """The ids of a published protocol: fold -> part -> ids; a protocol without folds has the fold 0 alone.

    `labels` are those that came along, id -> class; none where no label file lay beside the lists.
    """

    protocol: str
    source: str
    folds: Mapping[int, Mapping[str, tuple[str, ...]]]
    labels: Mapping[str, str] = field(default_factory=dict)
    allows_missing: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        """Every listed id once."""
        return tuple(dict.fromkeys(id_ for parts in self.folds.values() for ids in parts.values() for id_ in ids))


def find_lists(folder: Path) -> list[PublishedLists]:
    """The published protocols in a folder, checked in themselves.

    Raises
    ------
    DataError
        Nothing known lies there, or lists of other sizes in a folder of another name; a file is missing or empty; an
        id comes twice, in two parts of a fold, or in the test part of two folds; a label file cannot be understood.
    """
    candidates = {name: [folder / name, folder] for name in PUBLISHED}
    found = []
    for protocol, places in candidates.items():
        for place in places:
            folds = _find_fair(place) if protocol == "fair" else _find_clmlf(place)
            if folds:
                lists = {fold: _read_parts(paths) for fold, paths in folds.items()}
                _refuse_tested_twice(place, lists)
                if place == folder:
                    _refuse_another_name(folder, protocol, lists)
                labels = _read_labels(place, protocol)
                found.append(PublishedLists(protocol=protocol, source=str(place), folds=lists, labels=labels))
                break
    if not found:
        raise DataError(f"--lists {folder}: expected published lists, {LAYOUTS}; found none. Name another folder")
    return found


def write_lists(dataset_dir: Path, lists: PublishedLists) -> bool:
    """Keep the lists with the dataset, as they are; False when they are there already."""
    rows = [(id_, fold, part) for fold, parts in sorted(lists.folds.items()) for part in SPLITS for id_ in parts[part]]
    columns: dict[str, tuple[str, Sequence[Any]]] = {
        "id": ("string", [row[0] for row in rows]),
        "fold": ("int32", [row[1] for row in rows]),
        "split": ("string", [row[2] for row in rows]),
        "label": ("string", [lists.labels.get(row[0]) for row in rows]),
    }
    metadata = {"version": VERSION, "source": lists.source, "allows_missing": lists.allows_missing}
    return files.write_table(_path(dataset_dir, lists.protocol), columns, metadata)


def has_lists(dataset_dir: Path, protocol: str) -> bool:
    """Whether this published protocol was given to this dataset."""
    return files.is_file(_path(dataset_dir, protocol))


def read_lists(dataset_dir: Path, protocol: str) -> PublishedLists:
    """The lists that `write_lists` kept; `DataError` with the line to type when there are none."""
    name = dataset_dir.name
    path = _path(dataset_dir, protocol)
    if not has_lists(dataset_dir, protocol):
        raise DataError(
            f"protocol {protocol}: its published lists were never given to {name}. "
            f"Type: sentifuse data prepare {name} --lists DIR (DIR holds {LAYOUTS})"
        )
    columns, metadata = files.read_table(path, ("id", "fold", "split", "label"), hint=prepare_hint(dataset_dir))
    if metadata.get("version") != VERSION:
        raise DataError(f"{path}: expected version {VERSION}, found {metadata}. Delete it and give --lists again")
    folds: dict[int, dict[str, list[str]]] = defaultdict(lambda: {part: [] for part in SPLITS})
    for id_, fold, part in zip(columns["id"], columns["fold"], columns["split"], strict=True):
        folds[fold][part].append(id_)
    return PublishedLists(
        protocol=protocol,
        source=str(metadata["source"]),
        folds={fold: {part: tuple(ids) for part, ids in parts.items()} for fold, parts in sorted(folds.items())},
        labels={id_: label for id_, label in zip(columns["id"], columns["label"], strict=True) if label is not None},
        allows_missing=bool(metadata["allows_missing"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCheck:
    """Published lists beside a manifest and its labels.

    `missing` ids the manifest lacks (or has withdrawn), `unlabelled` ones have no label under the rule; neither takes
    part. `unlisted` pairs have a label but stand in no list. `differing` pairs were published with another label than
    our rule gives, of `n_compared`.
    """

    missing: tuple[str, ...]
    unlabelled: tuple[str, ...]
    unlisted: tuple[str, ...]
    differing: tuple[str, ...]
    n_compared: int

    def to_json(self) -> dict[str, int]:
        """The counts."""
        names = ("missing", "unlabelled", "unlisted", "differing")
        return {name: len(getattr(self, name)) for name in names} | {"compared": self.n_compared}


def check_lists(lists: PublishedLists, manifest: Manifest, labels: Labels) -> ListCheck:
    """Count what does not fit; see `ListCheck`."""
    there = {pair.id for pair in manifest.pairs if not pair.image_status == pair.text_status == WITHDRAWN}
    labels_by_id = labels.by_id()
    listed = set(lists.ids)
    compared = [id_ for id_ in lists.ids if id_ in lists.labels and id_ in labels_by_id]
    return ListCheck(
        missing=tuple(id_ for id_ in lists.ids if id_ not in there),
        unlabelled=tuple(id_ for id_ in lists.ids if id_ in there and id_ not in labels_by_id),
        unlisted=tuple(id_ for id_ in labels_by_id if id_ not in listed),
        differing=tuple(id_ for id_ in compared if lists.labels[id_] != labels_by_id[id_]),
        n_compared=len(compared),
    )


def published_splits(lists: PublishedLists, labels_by_id: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """fold -> id -> part, of the labelled pairs alone and in their order.

    Raises
    ------
    DataError
        A part has no pair left of a class that the other parts have.
    """
    splits = {}
    for fold, parts in lists.folds.items():
        listed = {id_: part for part, ids in parts.items() for id_ in ids}
        splits[fold] = {id_: listed[id_] for id_ in labels_by_id if id_ in listed}
        lacking = missing_class(splits[fold], labels_by_id)
        if lacking is not None or not splits[fold]:
            part, label = lacking or ("train", "any class")
            where = f"fold {fold}, " if lists.protocol in FOLDED else ""
            raise DataError(
                f"{lists.source}: protocol {lists.protocol}, {where}{part}: expected pairs of every class, found none "
                f"of {label} among the pairs that have a label. Choose another --rule, or mend the lists"
            )
    return splits


def list_problems(lists: PublishedLists, check: ListCheck) -> list[Problem]:
    """What of a published protocol is worth a note in the card."""
    where = f"lists of {lists.protocol}"
    said = {
        "listed ids are not in the manifest and take no part": check.missing,
        "listed pairs have no label under this rule and take no part": check.unlabelled,
        "labelled pairs stand in no list and take no part": check.unlisted,
        f"of {check.n_compared} published labels are not those of this rule": check.differing,
    }
    problems = [Problem(where, f"{len(ids)} {what}: {named(ids)}") for what, ids in said.items() if ids]
    sizes = {sum(map(len, parts.values())) for parts in lists.folds.values()}
    odd = sorted(sizes - set(_KNOWN_SIZES[lists.protocol]))
    if odd:
        known = _known_sizes(lists.protocol)
        problems.append(Problem(where, f"{odd[0]:,} ids in a fold, published were {known}: are they those lists?"))
    return problems


def refusal(lists: PublishedLists, check: ListCheck) -> str:
    """Why these lists cannot be used without being told so; "" when they can."""
    if not check.missing or lists.allows_missing:
        return ""
    left = len(lists.ids) - len(check.missing)
    return (
        f"{lists.source}: expected lists of this dataset's ids, found {len(check.missing)} of {len(lists.ids)} that "
        f"the manifest lacks: {named(check.missing)}. Results on the other {left} are not those of the published "
        "split; if that is understood, add --allow-missing"
    )


def named(ids: Sequence[str]) -> str:
    """The first few ids."""
    return ", ".join(ids[:SHOWN_IDS]) + (", …" if len(ids) > SHOWN_IDS else "")


def _path(dataset_dir: Path, protocol: str) -> Path:
    return dataset_dir / FOLDER / f"{protocol}.parquet"


def _find_clmlf(place: Path) -> dict[int, dict[str, Path]]:
    paths = {part: place / name for part, name in _CLMLF_FILES.items()}
    return {0: paths} if files.is_file(paths["train"]) and files.is_file(paths["val"]) else {}


def _find_fair(place: Path) -> dict[int, dict[str, Path]]:
    names = [match for path in sorted(place.glob("*.txt")) if (match := _FAIR_FILE.fullmatch(path.name))]
    numbers = sorted({int(match[2]) for match in names})
    if numbers != list(range(1, len(numbers) + 1)):
        raise DataError(
            f"{place}: expected folds 1 to {numbers[-1]}, found {', '.join(map(str, numbers))}. Get the missing lists"
        )
    return {number: {part: place / f"{part}_{number}.txt" for part in SPLITS} for number in numbers}


def _read_parts(paths: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    parts = {part: _read_ids(path) for part, path in paths.items()}
    seen: dict[str, str] = {}
    for part, ids in parts.items():
        shared = [id_ for id_ in ids if id_ in seen]
        if shared:
            raise DataError(
                f"{paths[part]}: expected ids that are in no other part, found {len(shared)} that "
                f"{paths[seen[shared[0]]].name} has too: {named(shared)}. Mend the lists, or get them anew"
            )
        seen |= dict.fromkeys(ids, part)
    return parts


def _read_ids(path: Path) -> tuple[str, ...]:
    hint = "A published split has a list for train, validation and test. Get the missing one"
    content = files.read_bytes(path, hint=hint)
    try:
        ids = [line.strip() for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected ids in UTF-8, one a line, found {error}. Get the list anew") from error
    if not ids:
        raise DataError(f"{path}: expected ids, one a line, found none. {hint}")
    twice = [id_ for id_, n in Counter(ids).items() if n > 1]
    if twice:
        raise DataError(f"{path}: expected every id once, found {len(twice)} more than once: {named(twice)}. Mend it")
    return tuple(ids)


def _refuse_tested_twice(place: Path, folds: Mapping[int, Mapping[str, tuple[str, ...]]]) -> None:
    tested: dict[str, int] = {}
    for fold, parts in folds.items():
        twice = [id_ for id_ in parts["test"] if id_ in tested]
        if twice:
            raise DataError(
                f"{place}: expected every id in the test part of one fold, found {len(twice)} of fold {fold} that fold "
                f"{tested[twice[0]]} tests too: {named(twice)}. Mend the lists, or get them anew"
            )
        tested |= dict.fromkeys(parts["test"], fold)


def _refuse_another_name(folder: Path, protocol: str, folds: Mapping[int, Mapping[str, tuple[str, ...]]]) -> None:
    """Many lists look alike; nobody's results should come to bear the name of CLMLF's."""
    size = sum(map(len, next(iter(folds.values())).values()))
    if folder.name != protocol and size not in _KNOWN_SIZES[protocol]:
        raise DataError(
            f"--lists {folder}: the files are named like those of {protocol}, which has {_known_sizes(protocol)} ids; "
            f"found {size:,}. If these are its lists nevertheless, put them into a folder named {protocol}"
        )


def _known_sizes(protocol: str) -> str:
    return " or ".join(f"{size:,}" for size in _KNOWN_SIZES[protocol])


def _read_labels(place: Path, protocol: str) -> dict[str, str]:
    """The labels that lie beside the lists, by id; none when there is no such file."""
    name, separator, classes = _LABEL_FILES[protocol]
    path = place / name
    if not files.is_file(path):
        return {}
    codes = {str(number): label for number, label in enumerate(classes)} | {label: label for label in classes}
    labels = {}
    lines = files.read_bytes(path, hint="").decode("utf-8-sig", "replace").splitlines()
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line.split(separator)]
        if len(cells) >= 2 and cells[1] in codes:
            labels[cells[0]] = codes[cells[1]]
        elif line.strip() and not (number == 1 and cells[0].lower() == "id"):
            raise DataError(
                f"{path} line {number}: expected an id and one of {', '.join(codes)}, found {line[:60]!r}. "
                "Mend it, or take the file away: labels are compared, never used"
            )
    return labels
