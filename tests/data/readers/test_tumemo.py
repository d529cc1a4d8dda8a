"""TumEmo's list and folder, whole and damaged: seven classes, and no text that names its own answer by the tag."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from sentifuse import DataError
from sentifuse.data.audit import audit
from sentifuse.data.labels import read_annotations, read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import dataset_dir, prepare
from sentifuse.data.readers.tumemo import EMOTIONS, LIST_FILE, TumEmo, parse_row, read_list, remove_tag
from sentifuse.data.source import ReadRequest, Source

WORDS = ("Angry", "Bored", "Calm", "Fear", "Happy", "Love", "Sad")


def make(
    root: Path, labels: Mapping[str, str], *, texts: Mapping[str, bytes] | None = None, folder: str = "all_data"
) -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    lines = ["id label", *(f"{id_} {label}" for id_, label in labels.items())]
    (root / LIST_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for number, (id_, label) in enumerate(labels.items()):
        Image.new("RGB", (8, 8), (number, 90, 40)).save(root / folder / f"{id_}.jpg", "PNG")  # lossless: all differ
        text = (texts or {}).get(id_, f"post {id_} #{label} #tumblr".encode())
        (root / folder / f"{id_}.txt").write_bytes(text)
    return root


def read(root: Path | None, encoding: str | None = None) -> Source:
    return TumEmo().read(ReadRequest(dataset_dir=Path("unused"), root=root, encoding=encoding))


def list_file(folder: Path, content: bytes) -> Path:
    path = folder / LIST_FILE
    path.write_bytes(content)
    return path


def test_prepare_and_audit_of_a_generated_folder(tmp_path: Path) -> None:
    labels = {str(n): WORDS[n % 7] for n in range(140)}
    texts = {"3": b"", "10": "böse #FEAR".encode(), "11": b"bad \xff", "14": b"post 0 #tumblr"}
    root = make(tmp_path / "TumEmo", labels, texts=texts)
    (root / "all_data" / "20.txt").unlink()
    (root / "all_data" / "21.jpg").unlink()
    (root / "all_data" / "22.jpg").write_bytes(b"no image")
    (root / "all_data" / "23.jpg").write_bytes((root / "all_data" / "24.jpg").read_bytes())
    card = prepare("tumemo", artifacts=tmp_path / "artifacts", root=root)
    assert card.classes == EMOTIONS == ("angry", "bored", "calm", "fear", "happy", "love", "sad")
    assert (card.reader, card.rule, card.protocol, card.encoding) == ("tumemo", "given", "random", "utf-8")
    assert card.counts["pairs"] == card.counts["labelled"] == 140
    assert card.counts["classes"] == dict.fromkeys(EMOTIONS, 20)
    assert card.counts["text_status"] == {"missing": 1, "ok": 138, "undecodable": 1}
    assert card.counts["image_status"] == {"missing": 1, "ok": 139}
    assert card.counts["split"] == {"train": 112, "val": 14, "test": 14}
    assert any("taken out 136 times from 136 texts; 0 texts" in problem["what"] for problem in card.problems)
    assert card.published["quoted"]["pairs"] == sum(card.published["quoted"][name] for name in EMOTIONS)

    folder = dataset_dir(tmp_path / "artifacts", "tumemo")
    found = audit(folder)
    assert found.classes == dict.fromkeys(EMOTIONS, 20)
    assert (found.missing_images, found.missing_texts, found.empty_texts) == (("21",), ("20",), ("3",))
    assert set(found.unreadable_images) == {"22"}
    assert set(found.undecodable_texts) == {"11"}
    assert found.duplicate_images == (("23", "24"),)
    assert found.duplicate_texts == (("0", "14"),)
    assert found.usable["pairs"] == 136
    assert found.published["raw"] == 195265

    before = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    prepare("tumemo", artifacts=tmp_path / "artifacts")
    assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == before


def test_pairs_have_one_label_and_none_for_text_or_image_alone(tmp_path: Path) -> None:
    root = make(tmp_path / "TumEmo", {str(n): WORDS[n % 7] for n in range(14)})
    prepare("tumemo", artifacts=tmp_path / "artifacts", root=root)
    folder = dataset_dir(tmp_path / "artifacts", "tumemo")
    assert {one.modality for one in read_annotations(folder)} == {"pair"}
    labels = read_labels(folder)
    assert labels.by_id()["5"] == "love"
    assert not labels.by_id("text_label")
    assert not labels.by_id("image_label")
    texts = {pair.id: pair.text for pair in read_manifest(folder).pairs}
    assert texts["5"] == "post 5 #tumblr"


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_no_text_keeps_the_tag_it_was_found_by(emotion: str) -> None:
    forms = (f"#{emotion}", f"#{emotion.upper()}", f"#{emotion.title()}", f"＃{emotion}")
    for form in forms:
        assert remove_tag(f"a {form} b", emotion) == ("a b", 1)
        assert remove_tag(f"{form}{form}, {form}", emotion) == (",", 3)
        assert remove_tag(f"({form})\n{form}", emotion) == ("()\n", 2)


@pytest.mark.parametrize("text", ["sad", "#sadness", "#sad-girl", "#sad_day", "#sad2", "#happy", "# sad", "#sadé"])
def test_other_tags_and_plain_words_stay(text: str) -> None:
    assert remove_tag(f"a {text} b", "sad") == (f"a {text} b", 0)


def test_words_and_codes_in_any_case_are_the_same_seven_classes(tmp_path: Path) -> None:
    assert [parse_row(1, f"7 {code}").label for code in range(7)] == list(EMOTIONS)
    assert [parse_row(1, f"7\t{word.upper()}").label for word in WORDS] == list(EMOTIONS)
    assert [parse_row(1, f"7 {word}").label for word in ("7", "-1", "joy", "١")] == ["7", "-1", "joy", "١"]


@pytest.mark.parametrize(
    "content",
    [
        b"id label\n2 Happy\n1 0\n",
        b"\xef\xbb\xbfID\tlabel\r\n2\tHappy\r\n1\t0\r\n\r\n",
        b"id,label\n2,happy\n1,Angry",
        b"id  label \r 2   happy \r1 angry\r",
    ],
    ids=["LF", "BOM, tabs, CRLF", "commas", "CR, blanks"],
)
def test_rows_are_the_same_whatever_separates_them(tmp_path: Path, content: bytes) -> None:
    rows, problems = read_list(list_file(tmp_path, content))
    assert [(row.id, row.label) for row in rows] == [("2", "happy"), ("1", "angry")]
    assert problems == []


def test_list_without_a_header_loses_no_pair_and_says_so(tmp_path: Path) -> None:
    rows, (problem,) = read_list(list_file(tmp_path, b"2 Happy\n1 Angry\n"))
    assert [row.id for row in rows] == ["2", "1"]
    assert "no header" in problem.what
    assert not problem.is_failure


@pytest.mark.parametrize("header", ["photo emotion", "label id", "2 Joy", "<html>"])
def test_wrong_header_is_refused_with_what_was_found(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match=rf"line 1: expected the header 'id label' .*found '{header}'"):
        read_list(list_file(tmp_path, f"{header}\n1 Angry\n".encode()))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"id label\n", b"id label\nnothing here to read\n"])
def test_list_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="expected rows 'id label', found: "):
        read_list(list_file(tmp_path, content))


def test_unknown_labels_and_malformed_rows_are_named_and_counted(tmp_path: Path) -> None:
    root = make(tmp_path, {str(n): "Sad" for n in range(20)} | {"20": "Joy", "21": "9"})
    with (root / LIST_FILE).open("a") as file:
        file.write("22 very sad\n../x Sad\n")
    source = read(root)
    failures = [problem for problem in source.problems if problem.is_failure]
    assert [(problem.id, problem.where) for problem in failures] == [
        ("20", f"{LIST_FILE} line 22"),
        ("21", f"{LIST_FILE} line 23"),
        ("22", f"{LIST_FILE} line 24"),
        ("", f"{LIST_FILE} line 25"),
    ]
    assert "unknown label 'Joy'; expected angry, bored, calm, fear, happy, love, sad or 0 to 6" in failures[0].what
    card = prepare("tumemo", artifacts=tmp_path / "artifacts", root=root)
    assert card.counts["removed"] == {"malformed row": 1, "unknown label word": 2}


def test_id_on_two_lines_stops_with_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found 1 id\(s\) more often: 1 on lines 2, 4"):
        read_list(list_file(tmp_path, b"id label\n1 Sad\n2 Sad\n1 Happy\n"))


@pytest.mark.parametrize("root", [None, "missing", "empty"])
def test_folder_without_the_list_says_what_is_expected(tmp_path: Path, root: str | None) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected .*all_data_id_and_label\.txt .*data prepare tumemo --root DIR"):
        read(None if root is None else tmp_path / root)


def test_list_without_the_unpacked_archive_is_refused(tmp_path: Path) -> None:
    list_file(tmp_path, b"id label\n1 Sad\n")
    (tmp_path / "all_data.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"found no such folder .*Unpack all_data\.zip there"):
        read(tmp_path)


@pytest.mark.parametrize("folder", ["all_data", "data", "."])
def test_files_lie_in_either_folder_or_beside_the_list(tmp_path: Path, folder: str) -> None:
    source = read(make(tmp_path, {"1": "Calm"}, folder=folder))
    prefix = "" if folder == "." else f"{folder}/"
    assert [pair.image_path for pair in source.pairs] == [f"{prefix}1.jpg"]
    assert source.pairs[0].text == "post 1 #tumblr"
    assert [problem.where for problem in source.problems] == ["texts"]


def test_named_encoding_is_obeyed(tmp_path: Path) -> None:
    root = make(tmp_path, {"1": "Sad"}, texts={"1": b"caf\xe9 #sad"})
    assert read(root, "latin-1").pairs[0].text == "café"
    assert "bytes e9" in read(root).pairs[0].text_problem
