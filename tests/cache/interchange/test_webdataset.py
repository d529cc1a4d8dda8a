"""tar files: members by webdataset's convention; a member that no export has is refused and never unpacked."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sentifuse.cache.errors import BadSource
from sentifuse.cache.interchange import webdataset
from sentifuse.cache.interchange.webdataset import TarRows, write_rows
from sentifuse.cache.spec import Field, Row

FIELDS = (Field(name="vector", dtype="float32", shape=(2,)),)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    rows = [
        Row(id="a/b", digest="ab" * 32, status="ok", values={"vector": np.ones(2, np.float32)}),
        Row(id="c", digest="", status="missing"),
    ]
    assert write_rows(tmp_path, 3, FIELDS, rows) == ["000003.tar"]
    return tmp_path / "000003.tar"


def append(path: Path, change: Callable[[tarfile.TarInfo], None], content: bytes = b"{}") -> None:
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("0000030009.json")
        member.size = len(content)
        change(member)
        archive.addfile(member, io.BytesIO(content))


def test_members_follow_the_convention(tar: Path) -> None:
    with tarfile.open(tar) as archive:
        assert archive.getnames() == ["0000030000.json", "0000030000.vector.npy", "0000030001.json"]
        record = archive.extractfile("0000030000.json")
        vector = archive.extractfile("0000030000.vector.npy")
        assert record is not None
        assert vector is not None
        assert json.load(record) == {"id": "a/b", "digest": "ab" * 32, "status": "ok"}
        np.testing.assert_array_equal(np.load(io.BytesIO(vector.read()), allow_pickle=False), [1, 1])


def test_rows_come_back(tar: Path) -> None:
    rows = TarRows(tar, FIELDS)
    assert rows.records() == [("a/b", "ab" * 32, "ok"), ("c", "", "missing")]
    np.testing.assert_array_equal(rows.read(0)["vector"], [1, 1])


@pytest.mark.parametrize(
    "change",
    [
        lambda member: setattr(member, "name", "../../owned.json"),
        lambda member: setattr(member, "name", "/tmp/0000030009.json"),
        lambda member: setattr(member, "name", "folder/0000030009.json"),
        lambda member: (setattr(member, "type", tarfile.SYMTYPE), setattr(member, "linkname", "/etc/passwd")),
        lambda member: (setattr(member, "type", tarfile.LNKTYPE), setattr(member, "linkname", "0000030000.json")),
        lambda member: setattr(member, "type", tarfile.FIFOTYPE),
    ],
    ids=["traversal", "absolute", "folder", "symbolic link", "hard link", "fifo"],
)
def test_a_member_that_no_export_has_is_refused(tar: Path, change: Callable[[tarfile.TarInfo], None]) -> None:
    append(tar, change)
    with pytest.raises(BadSource, match=r"000003\.tar: a member .* that no export has"):
        TarRows(tar, FIELDS)


def test_a_member_twice_or_too_large_is_refused(tar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tar, lambda member: None)
    TarRows(tar, FIELDS)
    with pytest.raises(BadSource, match=r"0000030009\.json is no row"):
        TarRows(tar, FIELDS).records()
    append(tar, lambda member: None)
    with pytest.raises(BadSource, match="two members"):
        TarRows(tar, FIELDS)
    monkeypatch.setattr(webdataset, "MAX_VALUE_BYTES", 10)
    with pytest.raises(BadSource, match="expected at most 10"):
        TarRows(tar, FIELDS)


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(BadSource, match="no tar"):
        TarRows(tmp_path / "x.tar", FIELDS)
    write_rows(tmp_path, 0, (), [Row(id="a", digest="", status="ok", values={})])
    with pytest.raises(BadSource, match="no member"):
        TarRows(tmp_path / "000000.tar", FIELDS).read(0)
