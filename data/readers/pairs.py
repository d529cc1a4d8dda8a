"""A person's own pairs: one CSV, TSV, JSONL or Parquet table with a row per pair, and a folder of images.

Class names, their number and the split are the table's. Opens no image and cleans no text.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.data.source import (
    MAX_ID_BYTES,
    SENTIMENT,
    Annotation,
    Problem,
    RawPair,
    ReadRequest,
    Source,
    TableOptions,
)
from sentifuse.data.text import encoding_name

SPLIT_NAMES = {"train": "train", "val": "val", "test": "test", "dev": "val", "valid": "val", "validation": "val"}
LABEL_COLUMNS = {"pair": "label_column", "text": "text_label_column", "image": "image_label_column"}
COLUMN_FIELDS = ("id_column", "image_column", "text_column", *LABEL_COLUMNS.values(), "split_column")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table as read: `rows` are (place in the file, column -> cell); cells are str, undecodable bytes, or None."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, dict[str, str | bytes | None]], ...]
    problems: tuple[Problem, ...]


class Pairs:
    """The reader of own tables."""

    def read(self, request: ReadRequest) -> Source:
        options = request.table
        if options is None:
            raise ConfigError("data prepare pairs: expected a table of pairs. Name it: --table pairs.csv")
        encoding = encoding_name(request.encoding or "utf-8")
        path = options.path.expanduser().resolve()
        table = read_table(path, encoding)
        names = _resolve_columns(path, table.columns, options)
        rows, problems = _rows_with_ids(path, table, names["id_column"])
        annotations = tuple(_annotations(rows, names))
        classes = options.classes or class_order({one.label for one in annotations})
        return Source(
            root=(options.root or request.root or path.parent).expanduser().resolve(),
            path=path,
            encoding=encoding,
            classes=classes,
            rule=_default_rule(names),
            protocol="given" if "split_column" in names else "random",
            pairs=tuple(_raw_pairs(path, rows, names)),
            annotations=annotations,
            problems=(*table.problems, *problems, *_unknown_words(rows, names, classes)),
        )


def class_order(words: set[str]) -> tuple[str, ...]:
    """Classes from the labels: negative, neutral, positive in that order if there are no others, else by name.

    >>> class_order({"positive", "negative"}), class_order({"sad", "angry", "calm"})
    (('negative', 'positive'), ('angry', 'calm', 'sad'))
    """
    if words <= set(SENTIMENT):
        return tuple(name for name in SENTIMENT if name in words)
    return tuple(sorted(words))


def read_table(path: Path, encoding: str) -> Table:
    """Read a table by its suffix. Rows that cannot be read become problems, a file that is no table a `DataError`."""
    formats: dict[str, Callable[[Path, bytes, str], Table]] = {
        ".csv": lambda path, raw, encoding: _read_csv(path, raw, encoding, ","),
        ".tsv": lambda path, raw, encoding: _read_csv(path, raw, encoding, "\t"),
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
    }
    suffix = path.suffix.lower()
    if suffix not in formats:
        raise DataError(
            f"{path}: expected a table named {', '.join(formats)}, found {suffix or 'no suffix'!r}. "
            "Convert or rename it"
        )
    if path.is_dir() or not path.exists():
        found = "a folder" if path.is_dir() else "nothing there"
        raise DataError(f"{path}: expected a table of pairs, found {found}. Check --table")
    return formats[suffix](path, files.read_bytes(path, hint="Check --table"), encoding)


def _read_csv(path: Path, raw: bytes, encoding: str, delimiter: str) -> Table:
    if encoding.startswith(("utf-16", "utf-32")):  # commas and quotes are not single bytes there
        raw, encoding = _decode_whole(path, raw, encoding).encode(), "utf-8"
    # Each byte as one character, cells decoded afterwards: one that is not in the encoding spoils its own pair only.
    text = raw.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    columns = _csv_header(path, text, encoding, delimiter)
    skipped: dict[int, Problem] = {}

    def skip(row: Any) -> str:
        found = f"{row.actual_columns} in {row.text[:60]!r}"
        what = f"malformed row: expected {row.expected_columns} cells, found {found}"
        skipped[row.number] = Problem(f"{path.name} row {row.number}", what, is_failure=True)
        return "skip"

    content = text.encode()
    block_size = max(len(content) + 1, 1 << 16)  # one block: a row of any length fits, and rows are numbered
    names = [str(place) for place in range(len(columns))]
    memory = pa.BufferOutputStream()  # Arrow's own: its read-ahead thread must not let go of a Python object at exit
    memory.write(content)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(memory.getvalue()),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=block_size, column_names=names, skip_rows=1),
            pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
            pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                strings_can_be_null=True,
                null_values=[""],
                quoted_strings_can_be_null=False,  # "" is an empty text, nothing is none
            ),
        )
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a readable table: {error}. Expected a header row and one row per pair") from error
    cells = [[_bytes(value) for value in column.to_pylist()] for column in table.columns]
    numbers = (number for number in count(2) if number not in skipped)  # as a spreadsheet counts: the header is row 1
    return _table(path, columns, cells, encoding, numbers, tuple(skipped.values()))


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1")


def _csv_header(path: Path, text: str, encoding: str, delimiter: str) -> tuple[str, ...]:
    try:
        header = next(csv.reader(StringIO(text), delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(f"{path}: expected a header row, found a line that is none: {error}") from error
    columns = tuple(str(_cell(name.encode("latin-1"), encoding)).strip() for name in header)
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if not columns or twice:
        found = f"the column {twice[0]!r} twice" if twice else "an empty file"
        raise DataError(f"{path}: expected a header row with every column once, found {found}")
    return columns


def _read_jsonl(path: Path, raw: bytes, encoding: str) -> Table:
    text = _decode_whole(path, raw, encoding)
    values: list[tuple[int, dict[str, Any]]] = []
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            value = error
        if isinstance(value, dict):
            values.append((number, value))
        else:
            what = f"malformed row {line[:60]!r}: expected one JSON object, found {value}"
            problems.append(Problem(f"{path.name} line {number}", what, is_failure=True))
    if not values:
        raise DataError(f"{path}: expected one JSON object per line, found none in {len(problems)} lines")
    columns = tuple(dict.fromkeys(name for _, value in values for name in value))
    rows = [
        (f"{path.name} line {number}", {name: _cell(value.get(name), encoding) for name in columns})
        for number, value in values
    ]
    return Table(columns=columns, rows=tuple(rows), problems=tuple(problems))


def _read_parquet(path: Path, raw: bytes, encoding: str) -> Table:
    try:
        table = files.read_parquet(raw)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from error
    columns = tuple(table.column_names)
    return _table(path, columns, [column.to_pylist() for column in table.columns], encoding, count(1))


def _table(
    path: Path,
    columns: tuple[str, ...],
    cells: Sequence[Sequence[Any]],
    encoding: str,
    numbers: Iterator[int],
    problems: tuple[Problem, ...] = (),
) -> Table:
    rows = tuple(
        (f"{path.name} row {number}", {name: _cell(value, encoding) for name, value in zip(columns, row, strict=True)})
        for number, row in zip(numbers, zip(*cells, strict=True), strict=False)
    )
    return Table(columns=columns, rows=rows, problems=problems)


def _cell(value: Any, encoding: str) -> str | bytes | None:
    """A cell as text; numbers become their digits, 7.0 too becomes "7": gaps turn a column of integers to floats."""
    if isinstance(value, bytes):
        try:
            return value.decode(encoding)
        except UnicodeError:
            return value
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _decode_whole(path: Path, raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        raise DataError(
            f"{path}: expected {encoding} text, found: {error}. Convert it or name its --encoding"
        ) from error


def _resolve_columns(path: Path, found: tuple[str, ...], options: TableOptions) -> dict[str, str]:
    """Option -> column for the columns there are; `DataError` for a missing one that is needed or was asked for."""
    names: dict[str, str] = {}
    for option in COLUMN_FIELDS:
        wanted: str = getattr(options, option)
        was_asked_for = wanted != TableOptions.__dataclass_fields__[option].default
        if wanted in found:
            names[option] = wanted
        elif was_asked_for or option == "id_column":
            if len(found) == 1 and any(mark in found[0] for mark in ";\t|,"):
                raise DataError(
                    f"{path}: expected a column {wanted!r}, found a single column {found[0]!r}. "
                    "Cells are separated by commas in a .csv and by tabs in a .tsv: save the table anew or rename it"
                )
            raise DataError(
                f"{path}: expected a column {wanted!r}, found {', '.join(map(repr, found)) or 'none'}. "
                f"Name the right one with --{option.replace('_', '-')}"
            )
    if "image_column" not in names and "text_column" not in names:
        raise DataError(
            f"{path}: expected a column 'image' or 'text', found {', '.join(map(repr, found))}. "
            "Name them with --image-column and --text-column"
        )
    return names


Rows = list[tuple[str, dict[str, str | bytes | None]]]


def _rows_with_ids(path: Path, table: Table, id_column: str) -> tuple[Rows, list[Problem]]:
    rows: Rows = []
    problems: list[Problem] = []
    places: dict[str, list[str]] = defaultdict(list)
    for place, row in table.rows:
        id_ = _word(row[id_column])
        if not id_ or not id_.isprintable() or len(id_.encode()) > MAX_ID_BYTES:
            found = repr(row[id_column])
            what = (
                f"expected an id in column {id_column!r}, found {found[:60]} (one line, at most {MAX_ID_BYTES} bytes)"
            )
            problems.append(Problem(place, what, is_failure=True))
            continue
        places[id_].append(place)
        rows.append((place, row | {id_column: id_}))
    twice = [f"{id_!r} at {', '.join(at)}" for id_, at in places.items() if len(at) > 1]
    if twice:
        more = f" and {len(twice) - 10} more" if len(twice) > 10 else ""
        raise DataError(
            f"{path}: expected every id once, found {len(twice)} id(s) more often: {'; '.join(twice[:10])}{more}. "
            "Keep the right row of each and run again"
        )
    if not rows:
        first = next(iter((*table.problems, *problems)), None)
        why = f"; the first problem: {first.where}: {first.what}" if first else ""
        raise DataError(
            f"{path}: expected at least one row with an id, found none in {len(table.rows)} rows{why}. "
            "Is a quotation mark left open, or the table empty?"
        )
    return rows, problems


def _word(value: str | bytes | None) -> str:
    """An id, a path, a class or a part; half a surrogate pair, which no file of ours can hold, is spelt out."""
    return value.strip().encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def _default_rule(names: dict[str, str]) -> str:
    has_both = "text_label_column" in names and "image_label_column" in names
    return "multisentinet" if has_both and "label_column" not in names else "given"


def _annotations(rows: Rows, names: dict[str, str]) -> Iterator[Annotation]:
    for _, row in rows:
        for modality, option in LABEL_COLUMNS.items():
            word = _word(row[names[option]]) if option in names else ""
            if word:
                yield Annotation(str(row[names["id_column"]]), modality, 0, word)


def _unknown_words(rows: Rows, names: dict[str, str], classes: tuple[str, ...]) -> list[Problem]:
    labels = [
        (place, row, names[option]) for place, row in rows for option in LABEL_COLUMNS.values() if option in names
    ]
    return [
        Problem(
            f"{place}, column {column!r}",
            f"unknown label word {word!r}; expected {', '.join(classes)}",
            str(row[names["id_column"]]),
            is_failure=True,
        )
        for place, row, column in labels
        if (word := _word(row[column])) and word not in classes
    ]


def _raw_pairs(path: Path, rows: Rows, names: dict[str, str]) -> Iterator[RawPair]:
    for place, row in rows:
        image = _word(row[names["image_column"]]) if "image_column" in names else ""
        yield RawPair(
            id=str(row[names["id_column"]]),
            image_path=image,
            text=row[names["text_column"]] if "text_column" in names else None,
            split=_split(path, place, _word(row[names["split_column"]])) if "split_column" in names else None,
        )


def _split(path: Path, place: str, word: str) -> str | None:
    if not word:
        return None
    if word.lower() not in SPLIT_NAMES:
        raise DataError(
            f"{path}: {place}: expected a split of {', '.join(SPLIT_NAMES)}, found {word!r}. Rename it in the table"
        )
    return SPLIT_NAMES[word.lower()]
