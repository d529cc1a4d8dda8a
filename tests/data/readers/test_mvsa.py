"""MVSA label files and folders, whole and damaged: nothing is lost, nothing is guessed."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse import DataError
from sentifuse.data.readers.mvsa import MvsaMultiple, MvsaSingle, parse_row, read_label_file, text_encoding
from sentifuse.data.source import ReadRequest, Source

Make = Callable[..., Path]
THREE = "\tpositive,positive\tneutral,neutral\tpositive,negative"


def label_file(folder: Path, content: bytes) -> Path:
    path = folder / "labelResultAll.txt"
    path.write_bytes(content)
    return path


def read(root: Path | None, reader: MvsaSingle | MvsaMultiple | None = None, encoding: str | None = None) -> Source:
    request = ReadRequest(dataset_dir=Path("unused"), root=root, encoding=encoding)
    return (reader or MvsaSingle()).read(request)


@pytest.mark.parametrize(
    "content",
    [
        b"ID\ttext,image\r\n2\tneutral,positive\r\n1\tnegative,negative\r\n",
        b"ID\ttext,image\n2\tneutral,positive\n1\tnegative,negative",
        b"\xef\xbb\xbfID\ttext,image\r\n2\tneutral,positive\r\n1\tnegative,negative\r\n",
        b"2\tneutral,positive\n1\tnegative,negative\n",
        b"ID\ttext,image\r2\t neutral , positive\r1\tnegative,negative\t\r",
    ],
    ids=["as published", "LF", "BOM", "no header", "CR, blanks, a tab at the end"],
)
def test_rows_are_the_same_whatever_the_line_ends(tmp_path: Path, content: bytes) -> None:
    found = read_label_file(label_file(tmp_path, content), 1)
    assert [(row.id, row.words) for row in found.rows] == [
        ("2", (("neutral", "positive"),)),
        ("1", (("negative", "negative"),)),
    ]
    assert found.problems == ()


line = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"1\tneutral,neutral", b"2\tpositive,x", b"3\ta", b"ID\ttext,image", b"", b"4\t,", b"\xff\t\xfe"]),
)


@settings(derandomize=True, max_examples=200)
@given(st.lists(line, max_size=8).map(b"\n".join))
def test_any_bytes_are_rows_and_named_problems_or_a_data_error(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        try:
            found = read_label_file(label_file(Path(folder), content), 1)
        except DataError:
            return
    malformed = {row.id for row in found.rows if row.malformed}
    assert malformed <= {problem.id for problem in found.problems}
    assert len({row.id for row in found.rows}) == len(found.rows) > len(malformed)


def test_blank_lines_are_said(tmp_path: Path) -> None:
    found = read_label_file(label_file(tmp_path, b"ID\tx\n\n1\tneutral,neutral\n \n"), 1)
    assert [row.id for row in found.rows] == ["1"]
    assert [problem.what for problem in found.problems] == ["2 blank lines, the first is line 2"]


def test_malformed_lines_are_named_and_keep_their_id_if_they_have_one(tmp_path: Path) -> None:
    good = b"".join(b"%d\tneutral,neutral\n" % number for number in range(10, 30))
    bad = b"1\tneutral\n2\tneutral,neutral\tneutral,neutral\n3\t\nno tab here\n4\ta,b,c\n../5\tneutral,neutral\n"
    found = read_label_file(label_file(tmp_path, b"ID\ttext,image\n" + good + bad), 1)
    assert [row.id for row in found.rows if row.malformed] == ["1", "2", "3", "4"]
    assert [problem.where for problem in found.problems] == [f"labelResultAll.txt line {n}" for n in range(22, 28)]
    assert all(problem.is_failure for problem in found.problems)
    assert "'no tab here'" in found.problems[3].what


def test_unknown_label_words_are_named_and_kept_as_given(make_mvsa: Make) -> None:
    source = read(make_mvsa({"1": "postive,neutral", "2": "neutral,Positive"}))
    assert [one.label for one in source.annotations] == ["postive", "neutral", "neutral", "Positive"]
    assert [(problem.id, problem.where) for problem in source.problems] == [
        ("1", "labelResultAll.txt line 2"),
        ("2", "labelResultAll.txt line 3"),
    ]
    assert "unknown label word 'postive'; expected negative, neutral, positive" in source.problems[0].what


def test_duplicate_ids_stop_with_their_lines(tmp_path: Path) -> None:
    content = b"ID\tt\n1\tneutral,neutral\n2\tneutral,neutral\n1\tneutral,positive\n1\tbroken\n"
    with pytest.raises(DataError, match=r"found 1 id\(s\) more often: 1 on lines 2, 4, 5"):
        read_label_file(label_file(tmp_path, content), 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n\r\n",
        b"ID\ttext,image\r\n",
        b"id,label\n1,positive\n2,negative\n",
        b"\x89PNG\r\n\x1a\n\0\0",
        b"\xff\xfeI\0",
    ],
    ids=["empty", "blank", "header only", "a CSV", "an image", "UTF-16"],
)
def test_other_files_are_refused_with_what_was_expected_and_found(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"not an MVSA label file: expected rows 'id<TAB>text,image', found: "):
        read_label_file(label_file(tmp_path, content), 1)


def test_the_other_datasets_label_file_is_recognised(tmp_path: Path) -> None:
    path = label_file(tmp_path, f"ID\tx\n1{THREE}\n2{THREE}\n".encode())
    assert len(read_label_file(path, 3).rows) == 2
    with pytest.raises(DataError, match="sentifuse data prepare mvsa_multiple"):
        read_label_file(path, 1)


def test_row_of_three_annotators() -> None:
    assert parse_row(1, f"7{THREE}", 3).words[2] == ("positive", "negative")
    assert "expected the labels of 3 annotator(s), found 1" in parse_row(1, "7\tneutral,neutral", 3).malformed


@pytest.mark.parametrize("root", [None, "missing", "file", "empty", "no data"])
def test_folder_that_is_no_dataset_says_what_is_expected_and_how_to_point_at_it(
    tmp_path: Path, root: str | None
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no data").mkdir()
    label_file(tmp_path / "no data", b"1\tneutral,neutral\n")
    with pytest.raises(DataError, match=r"expected .*labelResultAll\.txt .*data.*--root DIR"):
        read(None if root is None else tmp_path / root)


def test_single_folder_below_the_root_is_found_and_several_are_not_guessed(make_mvsa: Make) -> None:
    root = make_mvsa({"1": "neutral,neutral"}, folder="top/MVSA")
    assert read(root.parent).root == root
    make_mvsa({"1": "neutral,neutral"}, folder="top/other")
    with pytest.raises(DataError, match="found several datasets"):
        read(root.parent)


def test_pairs_keep_the_order_of_the_label_file_and_their_bytes(make_mvsa: Make) -> None:
    source = read(make_mvsa({"20": "neutral,neutral", "3": "neutral,neutral"}, texts={"3": b" a\0b\xa1\xad\r\n"}))
    assert [pair.id for pair in source.pairs] == ["20", "3"]
    assert source.pairs[1].text == b" a\0b\xa1\xad\r\n"
    assert (source.encoding, source.rule, source.protocol) == ("gb18030", "multisentinet", "random")


def test_image_is_found_under_any_extension_and_a_missing_text_is_none(make_mvsa: Make) -> None:
    root = make_mvsa({str(number): "neutral,neutral" for number in range(1, 6)})
    (root / "data" / "1.jpg").rename(root / "data" / "1.JPG")
    (root / "data" / "2.jpg").rename(root / "data" / "2.png")
    (root / "data" / "3.jpg").unlink()
    (root / "data" / "4.txt").unlink()
    (root / "data" / "5.txt").rename(root / "data" / "5.TXT")
    source = read(root)
    assert [pair.image_path for pair in source.pairs] == [
        f"data/{n}" for n in ("1.JPG", "2.png", "3.jpg", "4.jpg", "5.jpg")
    ]
    assert [pair.text is None for pair in source.pairs] == [False, False, False, True, False]
    assert source.problems == ()


def test_files_without_a_label_row_are_reported_by_name(make_mvsa: Make) -> None:
    root = make_mvsa({"1": "neutral,neutral"})
    for name in ("9.jpg", "9.txt", ".hidden"):
        (root / "data" / name).write_bytes(b"x")
    (problem,) = read(root).problems
    assert problem.what == "2 files belong to no label row and are not registered: 9.jpg, 9.txt"
    assert not problem.is_failure


def test_encoding_is_strict_gb18030_unless_the_whole_copy_was_converted() -> None:
    published = [b"so\xa1\xad", b"\xd0\xa6", b"plain"]  # the second is valid UTF-8 too, and wrong in it
    assert text_encoding(published) == ("gb18030", [])
    assert text_encoding([]) == ("gb18030", [])
    assert text_encoding([b"so\xa1\xad", b"\xff\xff"]) == ("gb18030", [])  # one damaged text converts nothing
    encoding, (remark,) = text_encoding(["so…".encode(), "é".encode(), "a“b".encode(), b"plain"])
    assert encoding == "utf-8"
    assert "converted copy" in remark.what


def test_named_encoding_is_obeyed(make_mvsa: Make) -> None:
    root = make_mvsa({"1": "neutral,neutral"}, texts={"1": "a“b …".encode()})
    assert read(root, encoding="latin-1").encoding == "iso8859-1"
    assert read(root).encoding == "utf-8"
