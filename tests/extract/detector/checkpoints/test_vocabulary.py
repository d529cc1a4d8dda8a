"""Vocabularies: one name for each id, however the file was saved; another number of lines is never guessed at."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentifuse.extract.detector.checkpoints.vocabulary import (
    Vocabularies,
    doubt,
    find_vocabularies,
    format_vocabulary,
    read_vocabulary,
    vocabulary_file,
)
from sentifuse.extract.errors import ModelMismatch

NAMES = ("yolk", "goal", "bathroom", "man's head", "t-shirt")
TEXT = b"yolk\ngoal\nBathroom,restroom , WC\nman's head\n t-shirt,t shirt"


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        TEXT + b"\n",
        TEXT + b"\n\n\n",
        TEXT.replace(b"\n", b"\r\n"),
        TEXT.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + TEXT,
    ],
    ids=["last line not ended", "ended", "empty lines after it", "CRLF", "CR", "byte order mark"],
)
def test_names_are_the_first_synonyms_in_small_letters(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    assert read_vocabulary(tmp_path / "names.txt", 5) == NAMES


def test_two_ids_may_have_one_name(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("road\nstreet\nRoad\n", encoding="utf-8")
    assert read_vocabulary(tmp_path / "names.txt", 3) == ("road", "street", "road")


def test_many_names_twice_are_doubted_and_few_are_not() -> None:
    assert doubt([f"name {i // 2}" for i in range(100)]).startswith("only 50 of 100 names are different")
    assert doubt(["twice", "twice", *(f"name {i}" for i in range(98))]) == ""


def test_a_name_may_hold_what_some_take_for_the_end_of_a_line(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("a\u2028b\nc\x0bd\n".encode())
    assert read_vocabulary(tmp_path / "names.txt", 2) == ("a\u2028b", "c\x0bd")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 lines, expected 5"),
        (b"\n\n", "0 lines, expected 5"),
        (b"a\nb\nc\nd", "4 lines, expected 5, one for each id"),
        (b"a\nb\nc\nd\ne\nf", "6 lines, expected 5, one for each id. Is there a line for the background?"),
        (b"__background__\na\nb\nc\nd\ne", "The first line, '__background__', is no name"),
        (b"a\nb\n\nd\ne", "line 3 has no name"),
        (b"a\nb\n,c\nd\ne", "line 3 has no name"),
        (b"a\nb\nc\nd\n\xff\xfe", "(invalid start byte at byte 8); save it as UTF-8"),
        (b"x" * 2_000_000, "2,000,000 bytes, expected a text file"),
    ],
)
def test_what_is_no_vocabulary_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    with pytest.raises(ModelMismatch) as caught:
        read_vocabulary(file, 5)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_the_lengths_of_visual_genome_are_written_out(tmp_path: Path) -> None:
    (tmp_path / "net.objects.txt").write_text("\n".join(f"object {i}" for i in range(1601)), encoding="utf-8")
    with pytest.raises(ModelMismatch, match=r"net\.objects\.txt: 1,601 lines, expected 1,600, .*background"):
        find_vocabularies(tmp_path / "net.safetensors")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match=r"no\.txt: cannot be read \(No such file"):
        read_vocabulary(tmp_path / "no.txt", 5)


def test_names_are_found_beside_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / "net.safetensors"
    assert find_vocabularies(weights) == Vocabularies()
    objects = tuple(f"object {i}" for i in range(1600))
    attributes = tuple(f"attribute {i}" for i in range(400))
    vocabulary_file(weights, "attributes").write_bytes(format_vocabulary(attributes))
    assert find_vocabularies(weights) == Vocabularies(attributes=attributes)
    vocabulary_file(weights, "objects").write_bytes(format_vocabulary(objects))
    assert find_vocabularies(weights) == Vocabularies(objects=objects, attributes=attributes)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.attributes.txt", "net.objects.txt"]


NAME = st.text(st.characters(codec="utf-8", exclude_characters=",\n\r"), min_size=1).map(str.strip).map(str.lower)


@settings(
    derandomize=True, max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.lists(NAME.filter(lambda name: name and name == name.strip().lower()), min_size=1, max_size=8))
def test_what_was_written_is_read_again(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(format_vocabulary(names))
    if not names[0].startswith("\ufeff"):
        assert read_vocabulary(tmp_path / "names.txt", len(names)) == tuple(names)
