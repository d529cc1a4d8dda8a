"""MVSA-Single and MVSA-Multiple in their own layout: labelResultAll.txt beside data/<id>.jpg and data/<id>.txt.

One label row per pair, one "text,image" pair of words per annotator. Decides no label: that is `labels.py`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import DataError
from sentifuse.data import files
from sentifuse.data.readers.folder import find_list, find_pairs
from sentifuse.data.source import MAX_ID_BYTES, SENTIMENT, Annotation, Problem, ReadRequest, Source
from sentifuse.data.text import encoding_name

LABEL_FILE = "labelResultAll.txt"
DATA_FOLDER = "data"
ID_PATTERN = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]*")  # becomes a file name, so no slashes
LAYOUT = f"{LABEL_FILE} beside a folder {DATA_FOLDER} with <id>.jpg and <id>.txt"

# Kept pairs in the literature; the label files themselves hold 4,869 and 19,600 rows.
_SINGLE: dict[str, Any] = {
    "raw": 4869,
    "multisentinet": {"pairs": 4511, "negative": 1358, "neutral": 470, "positive": 2683},
    "consistent": {"pairs": 2592, "negative": 724, "neutral": 470, "positive": 1398},
}
_MULTIPLE: dict[str, Any] = {
    "raw": 19600,
    "multisentinet": {"pairs": 17024, "negative": 1298, "neutral": 4408, "positive": 11318},
    "remark": "17,027 pairs pass the rule; three of them have unreadable images: 3910, 5995, 15324",
}


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One row of the label file: the words of each annotator, or what was `malformed`."""

    line: int
    id: str
    words: tuple[tuple[str, str], ...] = ()
    malformed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFile:
    """All rows of a label file that name a pair, in its order, and what was odd about the others."""

    rows: tuple[LabelRow, ...]
    problems: tuple[Problem, ...]


class _Mvsa:
    name: str
    annotator_count: int
    published: Mapping[str, Any]

    def read(self, request: ReadRequest) -> Source:
        label_path = find_label_file(self.name, request.root)
        labels = read_label_file(label_path, self.annotator_count)
        root = label_path.parent
        pairs, problems = find_pairs(root, DATA_FOLDER, [row.id for row in labels.rows])
        if request.encoding is None:
            encoding, remarks = text_encoding([pair.text for pair in pairs if isinstance(pair.text, bytes)])
        else:
            encoding, remarks = encoding_name(request.encoding), []
        return Source(
            root=root,
            path=label_path,
            encoding=encoding,
            classes=SENTIMENT,
            rule="multisentinet",
            protocol="random",
            pairs=tuple(pairs),
            annotations=tuple(_annotations(labels.rows)),
            problems=(*labels.problems, *problems, *remarks),
            published=self.published,
        )


class MvsaSingle(_Mvsa):
    """4,869 tweets, each labelled by one annotator."""

    name = "mvsa_single"
    annotator_count = 1
    published = _SINGLE


class MvsaMultiple(_Mvsa):
    """19,600 tweets, each labelled by three annotators."""

    name = "mvsa_multiple"
    annotator_count = 3
    published = _MULTIPLE


def find_label_file(name: str, root: Path | None) -> Path:
    """The label file in `root` or in its only sub-folder that has one, with the folder of files beside it."""
    path = find_list(name, root, LABEL_FILE, LAYOUT)
    if not (path.parent / DATA_FOLDER).is_dir():
        raise DataError(
            f"{path.parent}: expected {LAYOUT}, found no folder {DATA_FOLDER}. "
            f"Unpack the archive of the dataset and run: sentifuse data prepare {name} --root DIR"
        )
    return path


def read_label_file(path: Path, annotator_count: int) -> LabelFile:
    """Parse a label file; CRLF or LF, a byte order mark, blank lines and a missing header are all tolerated.

    Raises
    ------
    DataError
        An id on two lines, or a file most of whose lines are no label rows.
    """
    raw = files.read_bytes(path, hint=f"Expected {LAYOUT}").removeprefix(b"\xef\xbb\xbf")
    content = raw.decode("utf-8", errors="backslashreplace").replace("\r\n", "\n").replace("\r", "\n")
    lines = [(number, line.strip(" \n")) for number, line in enumerate(content.removesuffix("\n").split("\n"), 1)]
    rows: list[LabelRow] = []
    problems: list[Problem] = []
    blank = [number for number, line in lines if not line.strip()]
    if blank and content.strip():
        problems.append(Problem(LABEL_FILE, f"{len(blank)} blank lines, the first is line {blank[0]}"))
    filled = [(number, line) for number, line in lines if line.strip()]
    if filled and filled[0][1].split("\t")[0].strip().lower() == "id":
        filled = filled[1:]
    nameless = 0
    for number, line in filled:
        row = parse_row(number, line, annotator_count)
        if row.malformed:
            what = f"malformed row {_short(line)!r}: {row.malformed}"
            problems.append(Problem(f"{LABEL_FILE} line {number}", what, row.id, is_failure=True))
        unknown = sorted({word for words in row.words for word in words} - set(SENTIMENT))
        if unknown:
            what = f"unknown label word {', '.join(map(repr, unknown))}; expected {', '.join(SENTIMENT)}"
            problems.append(Problem(f"{LABEL_FILE} line {number}", what, row.id, is_failure=True))
        if row.id:
            rows.append(row)
        else:
            nameless += 1
    n_malformed = nameless + sum(1 for row in rows if row.malformed)
    if 2 * n_malformed > len(filled) or not rows:
        _refuse(path, annotator_count, [line for _, line in filled], n_malformed)
    _refuse_duplicates(path, rows)
    return LabelFile(rows=tuple(rows), problems=tuple(problems))


def parse_row(number: int, line: str, annotator_count: int) -> LabelRow:
    r"""One line `id<TAB>text,image[<TAB>text,image…]`; a row that is none says why and keeps its id if it has one.

    >>> parse_row(2, "1\tneutral,positive", 1).words
    (('neutral', 'positive'),)
    >>> parse_row(3, "2\tneutral", 1).malformed
    "expected two words 'text,image', found 'neutral'"
    """
    id_, *groups = (field.strip() for field in line.rstrip("\t").split("\t"))
    if "\t" not in line or not ID_PATTERN.fullmatch(id_) or len(id_) > MAX_ID_BYTES:
        return LabelRow(number, "", (), "expected an id and a tab in front")
    words = []
    for group in groups:
        pair = tuple(word.strip() for word in group.split(","))
        if len(pair) != 2 or not all(pair):
            return LabelRow(number, id_, (), f"expected two words 'text,image', found {_short(group)!r}")
        words.append((pair[0], pair[1]))
    if len(words) != annotator_count:
        return LabelRow(number, id_, (), f"expected the labels of {annotator_count} annotator(s), found {len(words)}")
    return LabelRow(number, id_, tuple(words))


def _refuse(path: Path, annotator_count: int, lines: Sequence[str], n_malformed: int) -> None:
    expected = "id<TAB>text,image" + "<TAB>text,image" * (annotator_count - 1)
    found = f"{n_malformed} of {len(lines)} lines are none, the first lines are {[_short(line) for line in lines[:2]]}"
    hint = "Is this the right file?"
    for other, count in (("mvsa_single", 1), ("mvsa_multiple", 3)):
        if count != annotator_count and any(parse_row(0, line, count).words for line in lines[:2]):
            hint = f"This looks like the other dataset: sentifuse data prepare {other} --root {path.parent}"
    raise DataError(
        f"{path}: not an MVSA label file: expected rows {expected!r}, found: {found if lines else 'no rows'}. {hint}"
    )


def _refuse_duplicates(path: Path, rows: Sequence[LabelRow]) -> None:
    lines_by_id: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        lines_by_id[row.id].append(row.line)
    twice = {id_: lines for id_, lines in lines_by_id.items() if len(lines) > 1}
    if twice:
        named = "; ".join(f"{id_} on lines {', '.join(map(str, at))}" for id_, at in list(twice.items())[:10])
        more = f" and {len(twice) - 10} more" if len(twice) > 10 else ""
        raise DataError(
            f"{path}: expected every id once, found {len(twice)} id(s) more often: {named}{more}. "
            "Keep the right line of each and run again"
        )


def _annotations(rows: Sequence[LabelRow]) -> Iterator[Annotation]:
    for row in rows:
        if row.malformed:
            yield Annotation(row.id, "row", 0, row.malformed)
        for annotator, (text, image) in enumerate(row.words):
            yield Annotation(row.id, "text", annotator, text)
            yield Annotation(row.id, "image", annotator, image)


def text_encoding(texts: Sequence[bytes]) -> tuple[str, list[Problem]]:
    """Strict GB18030, which decodes all texts as published; UTF-8 for a copy that was converted as a whole.

    A converted copy is one where GB18030 fails somewhere and UTF-8 nowhere. Texts are never judged one by one: some
    published ones are valid in both encodings and right in GB18030 only.
    """
    foreign = [text for text in texts if not text.isascii()]
    if all(_is_valid(text, "gb18030") for text in foreign) or not all(_is_valid(text, "utf-8") for text in foreign):
        return "gb18030", []
    what = f"all {len(foreign)} texts that are not plain ASCII are UTF-8, not GB18030: a converted copy, read as UTF-8"
    return "utf-8", [Problem(DATA_FOLDER, what)]


def _is_valid(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
