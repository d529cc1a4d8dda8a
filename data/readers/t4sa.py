"""B-T4SA of T4SA (Vadicamo et al., ICCV workshops 2017): tweets with up to four images, each a pair with the text.

A pair is an image of the split lists; its label is what a machine said of its tweet's text. Judges no image: nobody
looked at these. Where a tweet's images stand in two parts of the lists, only the part that tests most keeps them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from sentifuse import DataError
from sentifuse.data import files
from sentifuse.data.readers.folder import find_list
from sentifuse.data.readers.t4sa_tables import (
    SCORES,
    SENTIMENT_FILE,
    TEXT_FILE,
    Shares,
    TweetTexts,
    read_text_sentiment,
    read_texts,
)
from sentifuse.data.source import MAX_ID_BYTES, SENTIMENT, SPLITS, Annotation, Problem, RawPair, ReadRequest, Source
from sentifuse.data.text import encoding_name
from sentifuse.data.tweets import tweet_of

__all__ = ["LIST_SUFFIXES", "ListRow", "T4sa", "list_name", "parse_row", "read_list", "read_text_sentiment"]

LIST_SUFFIXES = (".txt", ".tsv")  # as published, and labelled anew by a later teacher
IMAGES_FOLDER = "b-t4sa_imgs"  # what unpacking b-t4sa_imgs.tar may give: lists and `data` lie in it
LAYOUT = "b-t4sa_{train,val,test}.txt (or .tsv) beside a folder data with <first 5 digits>/<tweet id>-<k>.jpg"
CODES = {str(code): name for code, name in enumerate(SENTIMENT)}
# Whoever tests most keeps a tweet: published test numbers stay comparable, and training loses a few images at most.
KEEPERS = ("test", "val", "train")
SHOWN = 5

_PATH = re.compile(r"(?:[^\s,/\\]+/)*(?P<id>[0-9]+-[0-9]+)\.[0-9A-Za-z]+")

PUBLISHED: dict[str, Any] = {
    "raw": 470586,
    "b-t4sa": {"pairs": 470586, "negative": 156862, "neutral": 156862, "positive": 156862},
    "parts": {"train": 368586, "val": 51000, "test": 51000},
    "remark": "sizes of training and test part as quoted in publications, not counted from the files by us",
}


@dataclass(frozen=True, slots=True)
class ListRow:
    """One row of a list: image, its id and class, or the word that is no class, or what was `malformed`."""

    line: int
    id: str
    path: str = ""
    label: str = ""
    malformed: str = ""


class T4sa:
    """The images of the three split lists, with the texts of their tweets."""

    name = "t4sa"

    def read(self, request: ReadRequest) -> Source:
        """All images of the lists; texts and shares of other tweets are let go."""
        lists = _find_lists(self.name, request.root)
        encoding = encoding_name(request.encoding or "utf-8")
        read = {part: read_list(path) for part, path in lists.items()}
        rows = {part: rows for part, (rows, _) in read.items()}
        _refuse_twice(lists, rows)
        listed = [row for part in SPLITS for row in rows[part]]
        tweets = _by_tweet(listed)
        root = _find_images(lists["train"].parent, listed)
        table = _beside(lists["train"].parent, TEXT_FILE)
        texts = read_texts(table, tweets) if table else None
        splits, straddling = _whole_tweets(rows)
        return Source(
            root=root,
            path=lists["train"],
            encoding=encoding,
            classes=SENTIMENT,
            rule="given",
            protocol="given",
            pairs=tuple(_pairs(listed, splits, texts)),
            annotations=tuple(_annotations(listed)),
            problems=(
                *(problem for _, problems in read.values() for problem in problems),
                Problem("labels", "a machine gave them, from the texts alone; no person looked at the images"),
                *straddling,
                *_label_problems(tweets),
                *_text_problems(texts, tweets),
                *_sentiment_problems(lists["train"], tweets),
                *_image_problems(root, tweets),
            ),
            published=PUBLISHED,
        )


def list_name(part: str, suffix: str = ".txt") -> str:
    """
    >>> list_name("val")
    'b-t4sa_val.txt'
    """
    return f"b-t4sa_{part}{suffix}"


def read_list(path: Path) -> tuple[list[ListRow], list[Problem]]:
    """The rows that name an image, in order, and what was odd; blanks, tabs or a comma, with or without a header.

    Raises
    ------
    DataError
        No such file, or most lines of it are no rows.
    """
    raw = files.read_bytes(path, hint=f"Expected {LAYOUT}. Get the missing list").removeprefix(b"\xef\xbb\xbf")
    lines = raw.decode("utf-8", errors="backslashreplace").replace("\r", "\n").split("\n")
    filled = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if filled and _cells(filled[0][1])[0].lower() == "path":
        filled = filled[1:]
    rows = [parse_row(number, line) for number, line in filled]
    malformed = [row for row in rows if row.malformed]
    if not rows or 2 * len(malformed) > len(rows):
        found = f"{len(malformed)} of {len(rows)} lines are none: {malformed[0].malformed}" if rows else "no rows"
        raise DataError(f"{path}: expected rows 'data/75801/758014713804587008-1.jpg 2', {found}. Is it that file?")
    problems = []
    for row in rows:
        where = f"{path.name} line {row.line}"
        if row.malformed:
            problems.append(Problem(where, f"malformed row: {row.malformed}", row.id, is_failure=True))
        elif row.label not in SENTIMENT:
            what = f"unknown label {row.label!r}; expected 0, 1, 2 (negative, neutral, positive)"
            problems.append(Problem(where, what, row.id, is_failure=True))
    return [row for row in rows if row.id], problems


def parse_row(number: int, line: str) -> ListRow:
    """One line `path label`; a code becomes its class, another word stays.

    >>> row = parse_row(1, "data/75801/758014713804587008-1.jpg 2")
    >>> row.id, row.label, parse_row(2, "data/1/1-1.jpg 3").label
    ('758014713804587008-1', 'positive', '3')
    """
    cells = _cells(line)
    path = cells[0].removeprefix("./")
    match = _PATH.fullmatch(path)
    if match is None or ".." in path.split("/") or len(match["id"]) > MAX_ID_BYTES:
        return ListRow(number, "", malformed=f"expected a path that ends in <tweet id>-<k>.jpg, found {_short(line)}")
    if len(cells) != 2:
        return ListRow(number, match["id"], path, malformed=f"expected a path and a label, found {_short(line)}")
    return ListRow(number, match["id"], path, CODES.get(cells[1], cells[1].lower()))


def _cells(line: str) -> list[str]:
    return re.split(r"\s*[,\s]\s*", line)


def _find_lists(name: str, root: Path | None) -> dict[str, Path]:
    """Part -> list, in `root` or its only sub-folder that has them; those of one labelling."""
    found = []
    if root is not None and root.expanduser().is_dir():
        root = root.expanduser().resolve()
        try:
            folders = [root, *sorted(child for child in root.iterdir() if child.is_dir())]
        except OSError as error:
            raise DataError(f"{root}: cannot be read: {error.strerror or error}. Mend the permissions") from error
        candidates = [folder / list_name("train", suffix) for folder in folders for suffix in LIST_SUFFIXES]
        found = [path for path in candidates if files.is_file(path)]
        found = [path for path in found if path.parent == root] or found
    if not found:
        found = [find_list(name, root, list_name("train"), LAYOUT)]
    if len(found) > 1:
        raise DataError(
            f"{root}: found several sets of lists: {', '.join(map(str, found))}. "
            "Name the folder of one with --root (texts and images may lie beside it), or move one elsewhere"
        )
    return {part: found[0].with_name(list_name(part, found[0].suffix)) for part in SPLITS}


def _places(folder: Path) -> tuple[Path, ...]:
    """Where the other files may lie: lists come with the images, the tables beside them or one folder above."""
    return folder, folder / IMAGES_FOLDER, folder.parent, folder.parent / IMAGES_FOLDER


def _beside(folder: Path, name: str) -> Path | None:
    return next((place / name for place in _places(folder) if files.is_file(place / name)), None)


def _find_images(folder: Path, rows: Iterable[ListRow]) -> Path:
    """The folder that the paths of the lists start from."""
    wanted = sorted({row.path.rpartition("/")[0] for row in rows if row.path})
    for place in _places(folder):
        if any((place / name).is_dir() for name in wanted):
            return place
    raise DataError(
        f"{folder}: expected {LAYOUT}, found none of {len(wanted)} folders of images, {wanted[0]} the first. "
        "Unpack the archive of the images beside the lists"
    )


def _refuse_twice(lists: Mapping[str, Path], rows: Mapping[str, Sequence[ListRow]]) -> None:
    seen: dict[str, str] = {}
    for part, path in lists.items():
        for row in rows[part]:
            here = f"{path.name} line {row.line}"
            if seen.setdefault(row.id, here) != here:
                raise DataError(
                    f"{path.parent}: expected every image once, found {row.id} at {seen[row.id]} and {here}. "
                    "Keep the right row and run again"
                )


def _by_tweet(rows: Iterable[ListRow]) -> dict[str, list[ListRow]]:
    tweets: dict[str, list[ListRow]] = defaultdict(list)
    for row in rows:
        tweets[tweet_of(row.id)].append(row)
    return dict(tweets)


def _whole_tweets(rows: Mapping[str, Sequence[ListRow]]) -> tuple[dict[str, str], list[Problem]]:
    """Image -> part, no tweet in two: an image whose tweet is tested elsewhere has no part."""
    keeper: dict[str, str] = {}
    parts: dict[str, str] = {}
    outside: dict[str, str] = {}
    for part in KEEPERS:
        for row in rows[part]:
            tweet = tweet_of(row.id)
            if keeper.setdefault(tweet, part) == part:
                parts[row.id] = part
            else:
                outside[row.id] = tweet
    if not outside:
        return parts, []
    what = (
        f"{_counted(dict.fromkeys(outside.values()), 'tweets have')} images in more than one part; "
        f"{len(outside)} of these images take no part, so that no tweet is learned from and tested"
    )
    return parts, [Problem("lists", what)]


def _pairs(rows: Iterable[ListRow], splits: Mapping[str, str], texts: TweetTexts | None) -> Iterator[RawPair]:
    for row in rows:
        tweet = tweet_of(row.id)
        yield RawPair(
            id=row.id,
            image_path=row.path,
            text=texts.texts.get(tweet) if texts else None,
            text_problem=texts.spoilt.get(tweet, "") if texts else "",
            split=splits.get(row.id),
        )


def _annotations(rows: Iterable[ListRow]) -> Iterator[Annotation]:
    # "pair", not "text": labels of texts and images alone count as people's words elsewhere, and these are not.
    for row in rows:
        if row.malformed:
            yield Annotation(row.id, "row", 0, row.malformed)
        else:
            yield Annotation(row.id, "pair", 0, row.label)


def _label_problems(tweets: Mapping[str, Sequence[ListRow]]) -> Iterator[Problem]:
    unequal = [tweet for tweet, rows in tweets.items() if len({row.label for row in rows if not row.malformed}) > 1]
    if unequal:
        yield Problem("lists", f"{_counted(unequal, 'tweets have')} images of different labels, though one text")


def _text_problems(texts: TweetTexts | None, tweets: Mapping[str, Sequence[ListRow]]) -> Iterator[Problem]:
    if texts is None:
        yield Problem(TEXT_FILE, "not found beside the lists or one folder above: no pair has a text")
        return
    yield from texts.problems
    known = {*texts.texts, *texts.spoilt}
    missing = [tweet for tweet in tweets if tweet not in known]
    if missing:
        yield Problem(TEXT_FILE, f"{_counted(missing, 'listed tweets have')} no row there: their texts are missing")
    without = texts.n_tweets - len(known)
    if without > 0:
        yield Problem(TEXT_FILE, f"{without} rows are of tweets without a listed image, which are not registered")


def _sentiment_problems(train: Path, tweets: Mapping[str, Sequence[ListRow]]) -> Iterator[Problem]:
    """What the authors' shares say beside the labels of the lists."""
    path = _beside(train.parent, SENTIMENT_FILE)
    if path is None:
        return
    shares = read_text_sentiment(path, tweets)
    labels = {tweet: row.label for tweet, rows in tweets.items() for row in rows if row.label in SENTIMENT}
    compared = [tweet for tweet in labels if tweet in shares]
    differing = [tweet for tweet in compared if likeliest(shares[tweet]) != labels[tweet]]
    are_most = 2 * len(differing) > len(compared)
    # The published lists follow the shares, so most cannot differ. Those of a later teacher may, in principle; but
    # however strict it is, tweets that were negative do not become positive by the thousand. Where most differ and
    # most agree as soon as columns change places, the columns are swapped; where no order agrees, nobody can tell.
    order = _agreeing_order(shares, labels, compared) if are_most else ""
    if are_most and (order or train.suffix == ".txt"):
        raise DataError(
            f"{path}: expected the largest share in the class of the lists, found another for "
            f"{len(differing)} of {len(compared)} tweets, {differing[0]} the first. Are columns swapped? "
            f"{f'Most agree if the order is {order}. ' if order else ''}The order is "
            "TWID NEG NEU POS, and the codes of the lists are 0 negative, 1 neutral, 2 positive"
        )
    if differing:
        what = f"{_counted(differing, f'of {len(compared)} listed tweets have')} their largest share in another class"
        asked = ". That is most of them: are columns swapped? The order is TWID NEG NEU POS" if are_most else ""
        yield Problem(SENTIMENT_FILE, what + asked)
    absent = [tweet for tweet in tweets if tweet not in shares]
    if absent:
        yield Problem(SENTIMENT_FILE, f"{_counted(absent, 'listed tweets have')} no row there")


def _agreeing_order(shares: Mapping[str, Shares], labels: Mapping[str, str], tweets: Sequence[str]) -> str:
    """The order of the columns by which the largest share of most tweets is their label's; "" if there is none."""
    for order in permutations(range(len(SENTIMENT))):
        right = sum(labels[tweet] == SENTIMENT[order[SENTIMENT.index(likeliest(shares[tweet]))]] for tweet in tweets)
        if 2 * right > len(tweets):
            return " ".join(("TWID", *(SCORES[place].upper() for place in order)))
    return ""


def likeliest(shares: Shares) -> str:
    """The class of the largest share, the first of equal ones.

    >>> likeliest((0.4, 0.4, 0.2))
    'negative'
    """
    return SENTIMENT[shares.index(max(shares))]


def _image_problems(root: Path, tweets: Mapping[str, Sequence[ListRow]]) -> Iterator[Problem]:
    """Tweets that lack images, and images of no row; the manifest has a status for each listed one."""
    listed: dict[str, set[str]] = defaultdict(set)
    for rows in tweets.values():
        for row in rows:
            folder, _, name = row.path.rpartition("/")
            listed[folder].add(name)
    there = {folder: _names(root / folder) for folder in listed}

    def is_there(row: ListRow) -> bool:
        folder, _, name = row.path.rpartition("/")
        return name in there[folder]

    n_there = {tweet: sum(map(is_there, rows)) for tweet, rows in tweets.items()}
    none = [tweet for tweet, n in n_there.items() if not n]
    some = [tweet for tweet, n in n_there.items() if 0 < n < len(tweets[tweet])]
    if none:
        yield Problem("images", f"{_counted(none, 'tweets have')} none of their images here")
    if some:
        yield Problem("images", f"{_counted(some, 'tweets lack')} some of their images and keep the others")
    n_unlisted = sum(len(names - listed[folder]) for folder, names in there.items())
    if n_unlisted:
        yield Problem("images", f"{n_unlisted} files beside the listed images stand in no list and are not registered")


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}. Mend the permissions") from error


def _counted(ids: Iterable[str], what: str) -> str:
    named = list(ids)
    return f"{len(named)} {what} ({', '.join(named[:SHOWN])}{', …' if len(named) > SHOWN else ''})"


def _short(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
