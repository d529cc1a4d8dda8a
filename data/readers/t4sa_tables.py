"""The two large tables of T4SA: texts of 3.4 million tweets, and what the authors' machine said of 1.2 million.

Both are read row by row, and what nobody asks for is let go at once. Decodes no text and decides no label.
"""

import csv
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from sentifuse import DataError
from sentifuse.data.source import Problem

TEXT_FILE = "raw_tweets_text.csv"
SENTIMENT_FILE = "t4sa_text_sentiment.tsv"
SCORES = ("neg", "neu", "pos")  # columns after the tweet's id, in this order
SUM_TOLERANCE = 1e-2
BYTE_ORDER_MARK = "\xef\xbb\xbf"  # as latin-1 shows it

# What a text looks like that swallowed its neighbours: a line in it begins like a row of the table.
_NEXT_ROW = re.compile(rb'[\r\n]"?[0-9]{15,}"?,')

Shares = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TweetTexts:
    """What the table of texts holds.

    `texts` are the bytes of the tweets asked for; `spoilt` says of others why theirs cannot be trusted. `n_tweets` rows
    name a tweet, asked for or not.
    """

    texts: dict[str, bytes]
    spoilt: dict[str, str]
    n_tweets: int
    problems: tuple[Problem, ...]


def read_texts(path: Path, wanted: Collection[str]) -> TweetTexts:
    """Texts of the `wanted` tweets from a table `id,text`, as they stand there; what follows the first comma is text.

    Raises
    ------
    DataError
        The file cannot be read, most rows name no tweet, or a quotation mark stays open to the end.
    """
    texts: dict[str, bytes] = {}
    spoilt: dict[str, str] = {}
    n_tweets = 0
    nameless: list[int] = []
    for line, cells in _text_rows(path):
        id_ = cells[0].strip()
        if not _is_id(id_) or len(cells) < 2:
            nameless.append(line)
            continue
        n_tweets += 1
        if id_ not in wanted:
            continue
        text = ",".join(cells[1:]).encode("latin-1")  # unquoted texts have commas of their own
        if _NEXT_ROW.search(text):
            spoilt[id_] = f"a quotation mark stays open before line {line}, so that the text holds rows after its own"
        elif texts.setdefault(id_, text) != text:
            spoilt[id_] = f"another text stands at line {line}"
    if n_tweets <= len(nameless):
        found = f"{len(nameless)} rows that are none" if nameless else "no rows"
        raise DataError(f"{path}: expected rows 'id,text' with the number of a tweet, found {found}. Is it that file?")
    problems = [Problem(TEXT_FILE, f"text of tweet {id_}: {why}", is_failure=True) for id_, why in spoilt.items()]
    if nameless:
        what = f"{len(nameless)} rows name no tweet and are not read, the first ends at line {nameless[0]}"
        problems.append(Problem(TEXT_FILE, what))
    for id_ in spoilt:
        texts.pop(id_, None)
    return TweetTexts(texts=texts, spoilt=spoilt, n_tweets=n_tweets, problems=tuple(problems))


def read_text_sentiment(path: Path, wanted: Collection[str] | None = None) -> dict[str, Shares]:
    """Tweet id -> (negative, neutral, positive), each 0 to 1 and 1 together; what a machine said, no person.

    Parameters
    ----------
    wanted
        Tweets to keep, None: all of them, which takes some 300 bytes each.

    Raises
    ------
    DataError
        A row that is none, or whose shares do not add up to 1 within 0.01: columns in another order, most likely. Every
        row is checked, wanted or not. A tweet with two different rows, and a file without rows.
    """
    found: dict[str, Shares] = {}
    n_rows = 0
    for line, cells in _score_rows(path):
        id_, shares = _parse_scores(path, line, cells)
        n_rows += 1
        if wanted is not None and id_ not in wanted:
            continue
        if found.setdefault(id_, shares) != shares:
            raise DataError(f"{path} line {line}: expected every tweet once, found {id_} again with other shares")
    if not n_rows:
        raise DataError(f"{path}: expected rows 'TWID NEG NEU POS', found none. Get the file anew")
    return found


def _text_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(last line, cells) of every filled row after the header; each byte a character, so that none is refused here."""
    line = 0
    try:
        with path.open("rb") as raw:
            reader = csv.reader(TextIOWrapper(raw, encoding="latin-1", newline=""))
            for cells in reader:
                is_first, line = line == 0, reader.line_num
                if is_first and cells:
                    cells[0] = cells[0].removeprefix(BYTE_ORDER_MARK)
                    if cells[0].strip(' "').lower() == "id":
                        continue
                if cells:
                    yield line, cells
    except csv.Error as error:
        raise DataError(
            f"{path}: the row after line {line}: expected 'id,text', found: {error}. "
            "Is a quotation mark left open, or the file torn? Mend that row, or get the file anew"
        ) from error
    except OSError as error:
        raise _cannot_read(path, error) from error


def _score_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every filled line after the header."""
    try:
        with path.open(encoding="utf-8-sig", errors="backslashreplace") as lines:
            for number, line in enumerate(lines, 1):
                cells = line.replace(",", " ").split()
                if number == 1 and cells and not _is_id(cells[0]):
                    _check_header(path, cells)
                elif cells:
                    yield number, cells
    except OSError as error:
        raise _cannot_read(path, error) from error


def _check_header(path: Path, cells: list[str]) -> None:
    if tuple(cell.lower() for cell in cells[1:]) != SCORES:
        raise DataError(
            f"{path} line 1: expected the header 'TWID NEG NEU POS', found {' '.join(cells)[:60]!r}. "
            "Put the columns in that order, or get the file anew"
        )


def _parse_scores(path: Path, line: int, cells: list[str]) -> tuple[str, Shares]:
    try:
        id_, *words = cells
        negative, neutral, positive = map(float, words)
    except ValueError:
        raise DataError(
            f"{path} line {line}: expected a tweet's number and three shares, found {' '.join(cells)[:60]!r}. "
            "Mend it, or get the file anew"
        ) from None
    total = negative + neutral + positive
    is_sound = all(-SUM_TOLERANCE <= share <= 1 + SUM_TOLERANCE for share in (negative, neutral, positive))
    if not _is_id(id_) or not is_sound or not math.isclose(total, 1, rel_tol=0, abs_tol=SUM_TOLERANCE):
        raise DataError(
            f"{path} line {line}: expected a tweet's number and shares of negative, neutral, positive that add up to "
            f"1, found {' '.join(cells)[:80]!r} (sum {total:g}). Are columns swapped? The order is TWID NEG NEU POS"
        )
    return id_, (negative, neutral, positive)


def _is_id(word: str) -> bool:
    return word.isascii() and word.isdecimal()


def _cannot_read(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read: {error.strerror or error}. Mend the permissions, or get the file anew")
