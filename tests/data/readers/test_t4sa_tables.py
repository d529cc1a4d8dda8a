"""T4SA's two tables: only what was asked for is kept, and no row's damage reaches another tweet unseen."""

from pathlib import Path

import pytest

from sentifuse import DataError
from sentifuse.data.readers.t4sa_tables import read_text_sentiment, read_texts

A, B, C = "768096868485969920", "768096868485969921", "768096868485969922"


def texts_file(folder: Path, content: bytes) -> Path:
    path = folder / "raw_tweets_text.csv"
    path.write_bytes(content)
    return path


def scores_file(folder: Path, *lines: str, end: str = "\n") -> Path:
    path = folder / "t4sa_text_sentiment.tsv"
    path.write_bytes(end.join(lines).encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        f'id,text\n{A},"so, it ""is""\nso"\n{B},plain\n'.encode(),
        f'"id","text"\r\n"{A}","so, it ""is""\nso"\r\n"{B}","plain"\r\n\r\n'.encode(),
        f'\ufeffid,text\n{B},plain\n{A},"so, it ""is""\nso"'.encode(),
        f'{A},"so, it ""is""\nso"\n{B},plain\n'.encode(),
    ],
    ids=["as published", "all quoted, CRLF", "BOM, no end", "no header"],
)
def test_texts_are_the_same_whatever_is_quoted(tmp_path: Path, content: bytes) -> None:
    found = read_texts(texts_file(tmp_path, content), {A, B})
    assert found.texts == {A: b'so, it "is"\nso', B: b"plain"}
    assert (found.n_tweets, found.spoilt, found.problems) == (2, {}, ())


def test_commas_of_an_unquoted_text_belong_to_it_and_bytes_stay_as_they_are(tmp_path: Path) -> None:
    found = read_texts(
        texts_file(tmp_path, f"id,text\n{A},one, two ,three\n".encode() + B.encode() + b",\xff\xfe\n"), {A, B}
    )
    assert found.texts == {A: b"one, two ,three", B: b"\xff\xfe"}


def test_line_ends_within_a_text_stay_as_they_are(tmp_path: Path) -> None:
    found = read_texts(texts_file(tmp_path, f'id,text\r\n{A},"one\r\ntwo\rthree\nfour"\r\n'.encode()), {A})
    assert found.texts == {A: b"one\r\ntwo\rthree\nfour"}


def test_only_wanted_texts_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    found = read_texts(texts_file(tmp_path, f"id,text\n{A},a\n{B},b\n{C},c\n".encode()), {B})
    assert found.texts == {B: b"b"}
    assert found.n_tweets == 3


def test_text_that_swallowed_its_neighbours_is_not_taken_for_one(tmp_path: Path) -> None:
    content = f'id,text\n{A},"open\n{B},swallowed\n{C},"closed"\n'
    found = read_texts(texts_file(tmp_path, content.encode()), {A, B, C})
    assert found.texts == {}
    assert list(found.spoilt) == [A]
    assert "a quotation mark stays open before line 4" in found.spoilt[A]
    assert found.problems[0].is_failure


def test_two_texts_of_one_tweet_are_neither_taken(tmp_path: Path) -> None:
    found = read_texts(texts_file(tmp_path, f"id,text\n{A},one\n{B},b\n{B},b\n{A},two\n".encode()), {A, B})
    assert found.texts == {B: b"b"}
    assert found.spoilt == {A: "another text stands at line 5"}


def test_rows_without_a_tweet_are_counted(tmp_path: Path) -> None:
    found = read_texts(texts_file(tmp_path, f"id,text\n{A},a\nx,b\n{B},b\n{C},c\n".encode()), {A})
    (problem,) = found.problems
    assert problem.what == "1 rows name no tweet and are not read, the first ends at line 3"


@pytest.mark.parametrize("content", [b"", b"id,text\n", b"<html>\n<p>Please log in, first\n", b"text,id\nso,7\nas,8\n"])
def test_table_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"raw_tweets_text\.csv: expected rows 'id,text'.*Is it that file\?"):
        read_texts(texts_file(tmp_path, content), {A})


def test_quotation_mark_open_to_the_end_is_refused_with_its_place(tmp_path: Path) -> None:
    content = f'id,text\n{A},a\n{B},"' + "so it goes on\n" * 20000
    with pytest.raises(DataError, match=r"the row after line 2: .*Is a quotation mark left open"):
        read_texts(texts_file(tmp_path, content.encode()), {A})


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", ["\t", " ", ","])
def test_shares_are_negative_neutral_positive(tmp_path: Path, separator: str, end: str) -> None:
    rows = (("TWID", "NEG", "NEU", "POS"), (A, "0.125", "0.25", "0.625"), (B, "1.0", "0", "4e-3"))
    path = scores_file(tmp_path, *(separator.join(row) for row in rows), "", end=end)
    assert read_text_sentiment(path) == {A: (0.125, 0.25, 0.625), B: (1.0, 0.0, 0.004)}
    assert read_text_sentiment(path, {B}) == {B: (1.0, 0.0, 0.004)}


def test_header_is_not_needed(tmp_path: Path) -> None:
    assert read_text_sentiment(scores_file(tmp_path, f"{A}\t0.5\t0.25\t0.25")) == {A: (0.5, 0.25, 0.25)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"0.5\t{A}\t0.25\t0.25", "Are columns swapped"),
        (f"{A}\t0.5\t0.25\t0.2", r"sum 0\.95"),
        (f"{A}\t0.5\t0.25\t0.2601", r"sum 1\.0101"),
        (f"{A}\t2\t-0.5\t-0.5", "add up to 1"),
        (f"{A}\tnan\t0.5\t0.5", "sum nan"),
        ("7.68E+17\t0.5\t0.25\t0.25", "expected a tweet's number"),
        (f"{A}\t0.5\t0.5", "three shares"),
        (f"{A}\tx\t0.5\t0.5", "three shares"),
        (f"{B}\t0.25\t0.5\t0.25", "expected every tweet once"),
    ],
)
def test_any_row_that_is_none_stops_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    path = scores_file(tmp_path, "TWID\tNEG\tNEU\tPOS", f"{B}\t0.5\t0.25\t0.25", row)
    with pytest.raises(DataError, match=rf"t4sa_text_sentiment\.tsv line 3: .*{message}"):
        read_text_sentiment(path)


def test_rows_nobody_asked_for_are_checked_too(tmp_path: Path) -> None:
    path = scores_file(tmp_path, f"{A}\t0.5\t0.25\t0.25", f"{B}\t0.9\t0.9\t0.9")
    with pytest.raises(DataError, match=r"line 2: .*sum 2\.7"):
        read_text_sentiment(path, {A})


def test_header_in_another_order_is_refused(tmp_path: Path) -> None:
    path = scores_file(tmp_path, "TWID\tPOS\tNEU\tNEG", f"{A}\t0.5\t0.25\t0.25")
    with pytest.raises(DataError, match=r"line 1: expected the header 'TWID NEG NEU POS', found 'TWID POS NEU NEG'"):
        read_text_sentiment(path)


@pytest.mark.parametrize("lines", [(), ("TWID\tNEG\tNEU\tPOS",)])
def test_empty_table_of_shares_is_refused(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="found none"):
        read_text_sentiment(scores_file(tmp_path, *lines))
