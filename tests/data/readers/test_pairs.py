"""Own tables: CSV, TSV, JSONL and Parquet say the same; what is wrong is named with its place."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse import ConfigError, DataError
from sentifuse.data.readers.pairs import Pairs
from sentifuse.data.source import ReadRequest, Source, TableOptions

Cells = dict[str, str | None]
ROWS: list[Cells] = [
    {"id": "007", "image": "a.jpg", "text": 'so "good", really\nyes', "label": "positive", "split": "train"},
    {"id": "8", "image": "../b.png", "text": "", "label": "negative", "split": "dev"},
    {"id": "9", "image": None, "text": None, "label": None, "split": "test"},
]


def write_csv(path: Path, rows: list[Cells], delimiter: str = ",") -> None:
    def cell(value: str | None) -> str:
        return "" if value is None else '"' + value.replace('"', '""') + '"'

    lines = [delimiter.join(rows[0]), *(delimiter.join(map(cell, row.values())) for row in rows)]
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")


def write_jsonl(path: Path, rows: list[Cells]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[Cells]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[Cells]], None]] = {
    ".csv": write_csv,
    ".tsv": lambda path, rows: write_csv(path, rows, "\t"),
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}


def read(path: Path, encoding: str | None = None, **options: object) -> Source:
    table = TableOptions(path=path, **options)  # type: ignore[arg-type]
    return Pairs().read(ReadRequest(dataset_dir=Path("unused"), encoding=encoding, table=table))


def csv_source(folder: Path, content: str | bytes, **options: object) -> Source:
    path = folder / "pairs.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, **options)


@pytest.mark.parametrize("suffix", WRITERS)
def test_all_formats_say_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pairs{suffix}"
    WRITERS[suffix](path, ROWS)
    source = read(path)
    assert [(pair.id, pair.image_path, pair.text, pair.split) for pair in source.pairs] == [
        ("007", "a.jpg", 'so "good", really\nyes', "train"),
        ("8", "../b.png", "", "val"),
        ("9", "", None, "test"),
    ]
    assert [(one.id, one.modality, one.label) for one in source.annotations] == [
        ("007", "pair", "positive"),
        ("8", "pair", "negative"),
    ]
    assert (source.classes, source.rule, source.protocol) == (("negative", "positive"), "given", "given")
    assert (source.root, source.encoding, source.problems) == (tmp_path, "utf-8", ())


def test_numbers_become_their_digits(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": 7, "text": "x", "label": 1}\n{"id": "08", "text": "y", "label": 0.0}\n')
    source = read(tmp_path / "p.jsonl")
    assert [pair.id for pair in source.pairs] == ["7", "08"]
    assert source.classes == ("0", "1")
    assert [pair.id for pair in csv_source(tmp_path, "id,text\n007,x\n1e3,y\n").pairs] == ["007", "1e3"]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    content = "key,photo,caption,mood,part\n1,a.jpg,hi,sad,train\n2,b.jpg,ho,calm,test\n"
    source = csv_source(
        tmp_path,
        content,
        id_column="key",
        image_column="photo",
        text_column="caption",
        label_column="mood",
        split_column="part",
    )
    assert source.classes == ("calm", "sad")
    assert source.pairs[1].image_path == "b.jpg"
    assert source.pairs[1].split == "test"


def test_missing_id_column_names_the_columns_there_are_and_the_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.csv: expected a column 'id', found 'key', 'text'\. .*--id-column"):
        csv_source(tmp_path, "key,text\n1,x\n")


def test_named_column_must_be_there_and_a_default_one_need_not(tmp_path: Path) -> None:
    source = csv_source(tmp_path, "id,text\n1,x\n")
    assert (source.annotations, source.rule, source.classes) == ((), "given", ())
    with pytest.raises(DataError, match=r"expected a column 'mood', found 'id', 'text'\. .*--label-column"):
        csv_source(tmp_path, "id,text\n1,x\n", label_column="mood")
    with pytest.raises(DataError, match="--image-column and --text-column"):
        csv_source(tmp_path, "id,label\n1,x\n")


def test_labels_of_both_sides_are_joined_by_the_published_rule(tmp_path: Path) -> None:
    content = "id,text,text_label,image_label\n1,x,neutral,positive\n"
    assert csv_source(tmp_path, content).rule == "multisentinet"
    with_label = csv_source(tmp_path, "id,text,label,text_label,image_label\n1,x,positive,neutral,positive\n")
    assert with_label.rule == "given"
    assert {one.modality for one in with_label.annotations} == {"pair", "text", "image"}


def test_classes_keep_the_order_given_and_other_words_are_named(tmp_path: Path) -> None:
    source = csv_source(tmp_path, "id,text,label\n1,x,good\n2,y,bad\n3,z,ugly\n", classes=("good", "bad"))
    assert source.classes == ("good", "bad")
    (problem,) = source.problems
    assert (problem.id, problem.is_failure) == ("3", True)
    assert "unknown label word 'ugly'; expected good, bad" in problem.what


def test_duplicate_ids_stop_with_their_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'1' at pairs\.csv row 2, pairs\.csv row 4"):
        csv_source(tmp_path, "id,text\n1,x\n2,y\n1,z\n")


def test_unknown_split_stops(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 3: expected a split of train, val, test.*found 'holdout'"):
        csv_source(tmp_path, "id,text,split\n1,x,Train\n2,y,holdout\n")


def test_rows_of_a_wrong_length_and_without_an_id_are_quarantined_by_place(tmp_path: Path) -> None:
    source = csv_source(tmp_path, "id,text\n1,x\n2,y,z\n,w\n3,v\n")
    assert [pair.id for pair in source.pairs] == ["1", "3"]
    assert [problem.is_failure for problem in source.problems] == [True, True]
    assert [problem.where for problem in source.problems] == ["pairs.csv row 3", "pairs.csv row 4"]
    assert "expected 2 cells, found 3 in '2,y,z'" in source.problems[0].what
    assert "expected an id in column 'id', found None" in source.problems[1].what


def test_broken_lines_of_jsonl_are_quarantined(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "1", "text": "x"}\n{"id": "2", "te\n[3]\n\n{"id": "4"}\n')
    source = read(tmp_path / "p.jsonl")
    assert [pair.id for pair in source.pairs] == ["1", "4"]
    assert [problem.where for problem in source.problems] == ["p.jsonl line 2", "p.jsonl line 3"]


def test_cell_that_is_not_in_the_encoding_spoils_its_own_pair_only(tmp_path: Path) -> None:
    source = csv_source(tmp_path, b"id,text\n1,ok\n2,caf\xe9\n")
    assert [pair.text for pair in source.pairs] == ["ok", b"caf\xe9"]
    named = tmp_path / "pairs.csv"
    assert [pair.text for pair in read(named, encoding="latin-1").pairs] == ["ok", "café"]


def test_byte_order_mark_and_utf16_are_read(tmp_path: Path) -> None:
    assert csv_source(tmp_path, b"\xef\xbb\xbfid,text\n1,x\n").pairs[0].id == "1"
    (tmp_path / "wide.csv").write_bytes("id,text\n1,é\n".encode("utf-16"))
    assert read(tmp_path / "wide.csv", encoding="utf-16").pairs[0].text == "é"


def test_very_long_text_is_read(tmp_path: Path) -> None:
    text = "word " * 400_000
    assert csv_source(tmp_path, f"id,text\n1,{text}\n2,x\n").pairs[0].text == text


row = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"id,text,label", b"1,x,a", b'2,"a\nb",', b'{"id": [1], "text": {}}', b"{}", b'"']),
)


@settings(derandomize=True, max_examples=200)
@given(st.lists(row, max_size=6).map(b"\n".join), st.sampled_from(list(WRITERS)))
def test_any_bytes_are_pairs_with_unique_ids_or_a_data_error(content: bytes, suffix: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"p{suffix}"
        path.write_bytes(content)
        try:
            source = read(path)
        except DataError:
            return
    ids = [pair.id for pair in source.pairs]
    assert ids
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.xlsx", b"PK", "expected a table named .csv, .tsv, .jsonl, .parquet, found '.xlsx'"),
        ("p.csv", b"", "an empty file"),
        ("p.csv", b"id,text\n", "expected at least one row"),
        ("p.csv", b"id,id\n1,2\n", "the column 'id' twice"),
        ("p.parquet", b"not parquet", "not a readable Parquet file"),
        ("p.jsonl", b"id,text\n1,x\n", "expected one JSON object per line"),
        ("p.jsonl", b"\xff\xfe", "expected utf-8 text"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_missing_table_and_missing_option_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found nothing there\. Check --table"):
        read(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="--table"):
        Pairs().read(ReadRequest(dataset_dir=tmp_path))


def test_an_unknown_word_is_named_with_its_row_and_column(tmp_path: Path) -> None:
    source = csv_source(tmp_path, "id,text,label,text_label\n1,a,yes,yes\n2,b,no,perhaps\n", classes=("yes",))
    assert [(problem.where, problem.id) for problem in source.problems] == [
        ("pairs.csv row 3, column 'label'", "2"),
        ("pairs.csv row 3, column 'text_label'", "2"),
    ]


def test_another_separator_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found a single column 'id;text;label'\. Cells are separated by commas"):
        csv_source(tmp_path, "id;text;label\n1;x;a\n")


def test_an_open_quotation_mark_is_suspected_when_no_row_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none in 0 rows.* Is a quotation mark left open"):
        csv_source(tmp_path, 'id,text,label\n1,"open,a\n2,y,b\n')
