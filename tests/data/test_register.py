"""A raw pair becomes a row whose digests and statuses say exactly what was found."""

import hashlib
from pathlib import Path

import pytest

from sentifuse.data.manifest import Pair
from sentifuse.data.register import register_pairs
from sentifuse.data.source import RawPair, Source


def register(root: Path, raw: RawPair, encoding: str = "gb18030") -> Pair:
    source = Source(
        root=root,
        path=root,
        encoding=encoding,
        classes=(),
        rule="given",
        protocol="random",
        pairs=(raw,),
        annotations=(),
    )
    return register_pairs(source)[0]


def test_digests_are_of_the_file_and_of_the_decoded_text(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"any bytes")
    pair = register(tmp_path, RawPair(id="1", image_path="a.jpg", text=b"so\xa1\xad"))
    assert pair.image_digest == hashlib.sha256(b"any bytes").hexdigest()
    assert pair.text_digest == hashlib.sha256("so…".encode()).hexdigest()
    assert (pair.image_status, pair.text_status, pair.text_encoding) == ("ok", "ok", "gb18030")


@pytest.mark.parametrize(
    ("image_path", "status"),
    [
        ("", "missing"),
        ("none.jpg", "missing"),
        (".", "unreadable: Is a directory"),
        ("a\0b", "unreadable: embedded null byte"),
    ],
)
def test_image_that_cannot_be_hashed_has_a_status_and_no_digest(tmp_path: Path, image_path: str, status: str) -> None:
    pair = register(tmp_path, RawPair(id="1", image_path=image_path, text="x"))
    assert (pair.image_status, pair.image_digest) == (status, "")


@pytest.mark.parametrize(
    ("text", "problem", "status"),
    [
        (None, "", "missing"),
        (None, "cannot be read: Permission denied", "undecodable: cannot be read: Permission denied"),
        (b"\xff\xff", "", "undecodable: bytes ff ff at 0 are not gb18030"),
        ("half \ud83d", "", "undecodable: half a surrogate pair at character 5"),
    ],
)
def test_text_that_cannot_be_read_has_a_status_and_no_digest(
    tmp_path: Path, text: bytes | str | None, problem: str, status: str
) -> None:
    pair = register(tmp_path, RawPair(id="1", image_path="", text=text, text_problem=problem))
    assert (pair.text_status, pair.text, pair.text_digest, pair.text_encoding) == (status, "", "", "")


def test_absolute_and_upward_paths_are_followed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"x")
    for path in ("../a.jpg", str(tmp_path / "a.jpg")):
        assert register(tmp_path / "root", RawPair(id="1", image_path=path, text=None)).image_status == "ok"
