"""TumEmo (Yang et al. 2020), posts of Tumblr with seven emotions: a list of ids beside <id>.jpg and <id>.txt.

A post has the emotion whose tag it was found by. That tag is the answer, so it is taken out of the text; what that
means is said at `remove_tag`, and in the dataset's card.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sentifuse import DataError
from sentifuse.data import files
from sentifuse.data.readers.folder import find_list, find_pairs
from sentifuse.data.source import MAX_ID_BYTES, Annotation, Problem, RawPair, ReadRequest, Source
from sentifuse.data.text import UndecodableText, decode, encoding_name

LIST_FILE = "all_data_id_and_label.txt"
FOLDERS = ("all_data", "data")  # what unpacking all_data.zip gives; or the files lie beside the list
LAYOUT = f"{LIST_FILE} beside a folder {FOLDERS[0]} with <id>.jpg and <id>.txt"
EMOTIONS = ("angry", "bored", "calm", "fear", "happy", "love", "sad")  # in the order of their codes 0 … 6
ID_PATTERN = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]*")  # becomes a file name, so no slashes
SHOWN = 5

# As quoted in publications; not counted from the files by us.
PUBLISHED: dict[str, Any] = {
    "raw": 195265,
    "quoted": {
        "pairs": 195265,
        "angry": 14554,
        "bored": 32283,
        "calm": 18109,
        "fear": 20264,
        "happy": 50267,
        "love": 34511,
        "sad": 25277,
    },
}


@dataclass(frozen=True, slots=True)
class ListRow:
    """One row of the list: id and class, or the word that is no class, or what was `malformed`."""

    line: int
    id: str
    label: str = ""
    malformed: str = ""


class TumEmo:
    """More than 190,000 pairs; one emotion each, none for text or image alone."""

    name = "tumemo"

    def read(self, request: ReadRequest) -> Source:
        """All pairs of the list, with the tag searched for taken out of their texts."""
        path = find_list(self.name, request.root, LIST_FILE, LAYOUT)
        root = path.parent
        rows, problems = read_list(path)
        encoding = "utf-8" if request.encoding is None else encoding_name(request.encoding)
        folder = _find_folder(root, rows)
        pairs, file_problems = find_pairs(root, folder, [row.id for row in rows], others=() if folder else (LIST_FILE,))
        texts, tag_problems = _without_tags(pairs, {row.id: row.label for row in rows}, encoding)
        return Source(
            root=root,
            path=path,
            encoding=encoding,
            classes=EMOTIONS,
            rule="given",
            protocol="random",
            pairs=texts,
            annotations=tuple(
                Annotation(row.id, "row", 0, row.malformed)
                if row.malformed
                else Annotation(row.id, "pair", 0, row.label)
                for row in rows
            ),
            problems=(*problems, *file_problems, *tag_problems),
            published=PUBLISHED,
        )


def read_list(path: Path) -> tuple[list[ListRow], list[Problem]]:
    """The rows that name a pair, in order, and what was odd; CRLF or LF, blanks, tabs or a comma, a byte order mark.

    Raises
    ------
    DataError
        The first line is neither a header nor a row, most lines are no rows, or an id stands on two of them.
    """
    raw = files.read_bytes(path, hint=f"Expected {LAYOUT}").removeprefix(b"\xef\xbb\xbf")
    content = raw.decode("utf-8", errors="backslashreplace").replace("\r\n", "\n").replace("\r", "\n")
    lines = [(number, line.strip()) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    lines, problems = _after_header(path, lines)
    rows = [parse_row(number, line) for number, line in lines]
    n_malformed = sum(1 for row in rows if row.malformed)
    if not rows or 2 * n_malformed > len(rows):
        found = (
            f"{n_malformed} of {len(rows)} lines are none, the first is {_short(lines[0][1])}" if rows else "no rows"
        )
        raise DataError(f"{path}: not TumEmo's list: expected rows 'id label', found: {found}. Is this the right file?")
    for row in rows:
        where = f"{LIST_FILE} line {row.line}"
        if row.malformed:
            problems.append(Problem(where, f"malformed row: {row.malformed}", row.id, is_failure=True))
        elif row.label not in EMOTIONS:
            what = f"unknown label {row.label!r}; expected {', '.join(EMOTIONS)} or 0 to {len(EMOTIONS) - 1}"
            problems.append(Problem(where, what, row.id, is_failure=True))
    named = [row for row in rows if row.id]
    _refuse_duplicates(path, named)
    return named, problems


def parse_row(number: int, line: str) -> ListRow:
    """One line `id label`; a code from 0 to 6 becomes its class, a word its class in lower case, another word stays.

    >>> parse_row(2, "17 Happy").label, parse_row(3, "18,6").label, parse_row(4, "19 glad").label
    ('happy', 'sad', 'glad')
    """
    fields = [field for field in re.split(r"[\s,]+", line) if field]
    if not fields or not ID_PATTERN.fullmatch(fields[0]) or len(fields[0]) > MAX_ID_BYTES:
        return ListRow(number, "", malformed=f"expected an id and a label, found {_short(line)}")
    if len(fields) != 2:
        return ListRow(number, fields[0], malformed=f"expected an id and a label, found {_short(line)}")
    id_, word = fields
    if word.lower() in EMOTIONS:
        return ListRow(number, id_, word.lower())
    is_code = word.isdecimal() and word.isascii() and int(word) < len(EMOTIONS)
    return ListRow(number, id_, EMOTIONS[int(word)] if is_code else word)


def remove_tag(text: str, emotion: str) -> tuple[str, int]:
    """The text without the tag of its emotion, and how often it was there.

    The tag is "#" and the class's word in any case, as a whole: "#sad" and "#Sad", not "#sadness", "#sad-girl" or the
    plain word "sad". The blank before it goes too. Nothing else of the text changes: other emotions' tags are words
    like any other.

    >>> remove_tag("so #Happy today #happy#happiness", "happy")
    ('so today#happiness', 2)
    """
    return re.subn(rf"[ \t]?[#＃]{re.escape(emotion)}(?!\w|-\w)", "", text, flags=re.IGNORECASE)


def _after_header(path: Path, lines: list[tuple[int, str]]) -> tuple[list[tuple[int, str]], list[Problem]]:
    if not lines:
        return [], []
    number, first = lines[0]
    if re.split(r"[\s,]+", first)[0].lower() == "id":
        return lines[1:], []
    row = parse_row(number, first)
    if row.malformed or row.label not in EMOTIONS:
        raise DataError(
            f"{path}: line {number}: expected the header 'id label' (or a first row), found {_short(first)}. "
            "Is this the right file?"
        )
    return lines, [Problem(f"{LIST_FILE} line {number}", "no header: the first line is a pair like the others")]


def _refuse_duplicates(path: Path, rows: Iterable[ListRow]) -> None:
    lines_by_id: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        lines_by_id[row.id].append(row.line)
    twice = [f"{id_} on lines {', '.join(map(str, lines))}" for id_, lines in lines_by_id.items() if len(lines) > 1]
    if twice:
        more = f" and {len(twice) - SHOWN} more" if len(twice) > SHOWN else ""
        raise DataError(
            f"{path}: expected every id once, found {len(twice)} id(s) more often: {'; '.join(twice[:SHOWN])}{more}. "
            "Keep the right line of each and run again"
        )


def _find_folder(root: Path, rows: Sequence[ListRow]) -> str:
    """Which folder beside the list holds the pairs' files; "" for the list's own."""
    try:
        there = [name for name in FOLDERS if (root / name).is_dir()]
        beside = not there and any((root / f"{row.id}.{end}").exists() for row in rows for end in ("txt", "jpg"))
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error.strerror or error}. Mend the permissions") from error
    if not there and not beside:
        raise DataError(f"{root}: expected {LAYOUT}, found no such folder and no such files. Unpack all_data.zip there")
    return there[0] if there else ""


def _without_tags(
    pairs: Sequence[RawPair], labels: Mapping[str, str], encoding: str
) -> tuple[tuple[RawPair, ...], list[Problem]]:
    """The pairs with decoded texts that lack their tags, and what the card says about it."""
    counts: Counter[str] = Counter()
    kept = []
    for pair in pairs:
        emotion = labels[pair.id]
        try:
            text = decode(pair.text, encoding) if isinstance(pair.text, bytes) else None
        except UndecodableText as error:
            kept.append(replace(pair, text=None, text_problem=error.reason))
            continue
        if text is not None and emotion in EMOTIONS:
            text, removed = remove_tag(text, emotion)
            counts["tags"] += removed
            counts["texts"] += removed > 0
            counts["words"] += re.search(rf"\b{emotion}\b", text, re.IGNORECASE) is not None
        kept.append(replace(pair, text=text))
    what = (
        "the tag searched for ('#' and the pair's class, any case, the whole tag) is taken out "
        f"{counts['tags']} times from {counts['texts']} texts; "
        f"{counts['words']} texts have the class's word elsewhere, where it stays"
    )
    return tuple(kept), [Problem("texts", what)]


def _short(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
