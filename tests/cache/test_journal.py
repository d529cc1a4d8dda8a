"""Laws of journal and index: what was committed is there, half a line is not, and neither is believed unread."""

import errno
import json
import os
from pathlib import Path

import pytest

from sentifuse.cache.errors import CorruptIndex, DiskFull, FutureVersion
from sentifuse.cache.journal import (
    Index,
    ShardRecord,
    append_record,
    effective,
    journal_bytes,
    read_index,
    read_journal,
    replace_journal,
    write_index,
)


def record(number: int, digest: str = "a") -> ShardRecord:
    sha256 = digest * 64
    return ShardRecord(
        file=f"shards/{number:06d}-{sha256[:12]}.h5",
        number=number,
        rows=3,
        ok=2,
        counts={"missing": 1, "ok": 2},
        sha256=sha256,
        size_bytes=100 + number,
    )


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert read_journal(path) == ()
    for number in (2, 0, 1):
        append_record(path, record(number))
    assert read_journal(path) == (record(2), record(0), record(1))
    assert effective(read_journal(path)) == (record(0), record(1), record(2))


def test_of_two_lines_with_one_number_the_later_counts() -> None:
    assert effective([record(0), record(1), record(0, "b")]) == (record(0, "b"), record(1))


def test_a_torn_last_line_at_any_byte_was_never_committed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole, last = journal_bytes([record(0), record(1)]), journal_bytes([record(2)])
    for cut in range(0, len(last), 5):
        path.write_bytes(whole + last[:cut])
        assert read_journal(path) == (record(0), record(1))


def test_a_full_disk_takes_half_a_line_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    append_record(path, record(0))
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull):
            append_record(path, record(1))
    assert path.read_bytes() == before
    append_record(path, record(1))
    assert read_journal(path) == (record(0), record(1))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "wish"},
        {"number": -1},
        {"number": True},
        {"number": 7},
        {"rows": 4},
        {"ok": 1},
        {"ok": "2"},
        {"counts": {"ok": 2, "lost": 1}},
        {"counts": None},
        {"sha256": "A" * 64},
        {"sha256": "b" * 64},
        {"file": "shards/../../000000-aaaaaaaaaaaa.h5"},
        {"file": 3},
        {"size_bytes": 1.5},
        {"more": 1},
    ],
)
def test_a_line_that_contradicts_itself_is_refused_by_its_number(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "journal.jsonl"
    line = json.dumps({**record(0).to_json(), **change}).encode() + b"\n"
    path.write_bytes(journal_bytes([record(1)]) + line + journal_bytes([record(2)]))
    with pytest.raises(CorruptIndex, match=r"journal\.jsonl, line 2: .* extract again"):
        read_journal(path)


@pytest.mark.parametrize("content", [b"\n", b"[]\n", b"{}\n", b"null\n", b"\xff\xfe\n", b"{'a'}\n"])
def test_a_line_that_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(content)
    with pytest.raises(CorruptIndex, match="line 1"):
        read_journal(tmp_path / "journal.jsonl")


def test_a_journal_that_is_right_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    replace_journal(path, [record(0)])
    inode = path.stat().st_ino
    replace_journal(path, [record(0)])
    assert path.stat().st_ino == inode
    replace_journal(path, [record(1)])
    assert read_journal(path) == (record(1),)


def test_an_index_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    index = Index(fingerprint="f" * 64, generation=5, shards=(record(0), record(3)))
    write_index(path, index)
    assert read_index(path) == index
    assert index.rows == 6


def test_an_index_of_a_later_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text('{"format": 2, "what": "ever"}', encoding="utf-8")
    with pytest.raises(FutureVersion, match="format 2, this program reads up to 1"):
        read_index(path)


def test_a_changed_byte_of_a_shard_in_the_index_is_noticed_or_is_another_shard(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    index = Index(fingerprint="f" * 64, generation=5, shards=(record(0), record(3)))
    content = index.to_bytes()
    refused = 0
    for position in range(content.index(b"shards"), len(content), 3):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            # A digit that became another is seen when the record is compared with the shard's file.
            assert read_index(path).shards != index.shards
        except CorruptIndex:
            refused += 1
    assert refused > 50


def test_an_index_cut_short_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_bytes(Index(fingerprint="f" * 64, generation=5, shards=(record(0),)).to_bytes()[:-3])
    with pytest.raises(CorruptIndex, match="Run the same extract command again"):
        read_index(path)


def test_a_missing_index_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CorruptIndex, match=r"index\.json: not there, .*Run the same extract"):
        read_index(tmp_path / "index.json")


def test_an_index_out_of_order_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_bytes(Index(fingerprint="f" * 64, generation=2, shards=(record(1), record(0))).to_bytes())
    with pytest.raises(CorruptIndex):
        read_index(path)
