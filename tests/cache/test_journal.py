"""Laws of journal and index: what was committed is there, half a line is not, and neither is believed unread."""

import dataclasses
import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sentifuse.cache.checksum import seal, unseal
from sentifuse.cache.errors import CorruptIndex, DiskFull, FutureVersion
from sentifuse.cache.journal import Index, Journal, append_shard, read_index, read_journal, replace_journal, write_index
from sentifuse.cache.record import DatasetProof, ShardProof, ShardRecord, StagedShard, effective
from sentifuse.cache.spec import COLUMNS, Field


def record(number: int, digest: str = "a") -> ShardRecord:
    sha256 = digest * 64
    return ShardRecord(
        file=f"shards/{number:06d}-{sha256[:12]}.h5",
        number=number,
        rows=3,
        ok=2,
        counts={"missing": 1, "ok": 2},
        sha256=sha256,
        size_bytes=9000 + number,
    )


def shard(number: int, digest: str = "a") -> StagedShard:
    proof = ShardProof(
        datasets=(
            DatasetProof(name="ids", offset_bytes=4096, size_bytes=30, crc32c=7),
            DatasetProof(name="fields/x", offset_bytes=8192, size_bytes=8, crc32c=None),
        ),
        row_crc32c=np.array([1, 2, 2**32 - 1], "<u4"),
        row_batch=np.array([0, -1, 0], "<i4"),
    )
    return StagedShard(record=record(number, digest), proof=proof)


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert read_journal(path) == Journal()
    for number in (2, 0, 1):
        assert append_shard(path, shard(number)) == path.stat().st_size
    found = read_journal(path).shards
    assert found == (shard(2), shard(0), shard(1))
    assert effective(found) == (shard(0), shard(1), shard(2))
    assert [staged.to_line() for staged in found] == [shard(number).to_line() for number in (2, 0, 1)]
    assert found[0].proof.row_crc32c.tolist() == [1, 2, 2**32 - 1]
    assert found[0].proof.row_batch.tolist() == [0, -1, 0]
    assert found[0].proof.datasets == shard(2).proof.datasets


def test_of_two_lines_with_one_number_the_later_counts() -> None:
    assert effective([shard(0), shard(1), shard(0, "b")]) == (shard(0, "b"), shard(1))


def test_a_torn_last_line_at_any_byte_was_never_committed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole, last = shard(0).to_line() + shard(1).to_line(), shard(2).to_line()
    for cut in range(0, len(last), 5):
        path.write_bytes(whole + last[:cut])
        assert read_journal(path).shards == (shard(0), shard(1))


def test_a_full_disk_takes_half_a_line_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    append_shard(path, shard(0))
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull):
            append_shard(path, shard(1))
    assert path.read_bytes() == before
    append_shard(path, shard(1))
    assert read_journal(path).shards == (shard(0), shard(1))


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
        {"row_crc32c": "AAAA"},
        {"row_crc32c": "no base64!"},
        {"row_batch": None},
        {"row_batch": "AAAAAA=="},
        {"datasets": {}},
        {"datasets": [["ids", 0, 1]]},
        {"datasets": [["ids", -1, 1, 0]]},
        {"datasets": [["ids", 0, 1, 1 << 32]]},
        {"datasets": [[7, 0, 1, 0]]},
        {"datasets": [["ids", 8998, 3, 0]]},
        {"datasets": [["fields/x", 10**30, 1, None]]},
        {"datasets": [["fields/x", 0, 8, None], ["fields/x", 0, 8, None]]},
        {"datasets": [["ids", 0, 31, 0]]},
        {"datasets": [["digests", 0, 3 * 65, 0]]},
        {"datasets": [["value_index", 0, 12, 0]]},
        {"datasets": [["crc32c", 0, 24, 0]]},
        {"rows": 0, "ok": 0, "counts": {}, "row_crc32c": "", "row_batch": ""},
        {"counts": {"ok": 2, "missing": 1, "failed": 0}},
    ],
)
def test_a_line_that_contradicts_itself_is_refused_by_its_number(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "journal.jsonl"
    value = unseal(json.loads(shard(0).to_line()))
    line = json.dumps(seal({**value, **change})).encode() + b"\n"
    path.write_bytes(shard(1).to_line() + line + shard(2).to_line())
    with pytest.raises(CorruptIndex, match=r"journal\.jsonl, line 2: .* cache repair"):
        read_journal(path)


def test_a_line_that_names_other_datasets_than_the_set_has_is_refused_by_its_number(tmp_path: Path) -> None:
    fields = (
        Field(name="x", dtype="float32", shape=(2,), is_ragged=True),
        Field(name="y", dtype="uint8", shape=()),
    )
    names = [*COLUMNS, "fields/x/offsets", "fields/x/values", "fields/y"]
    path = tmp_path / "journal.jsonl"
    append_shard(path, with_datasets(0, names))
    append_shard(path, with_datasets(1, names))
    assert len(read_journal(path, fields).shards) == 2
    for wrong in (names[:-1], [*names, "fields/z"], [*names[:-1], "fields/z"], names[::-1], []):
        path.write_bytes(with_datasets(0, names).to_line() + with_datasets(1, wrong).to_line())
        with pytest.raises(CorruptIndex, match=r"line 2: datasets \[.*, expected \['ids'"):
            read_journal(path, fields)


def with_datasets(number: int, names: Sequence[str]) -> StagedShard:
    sizes = {"ids": 3, "digests": 3 * 64, "status": 6, "value_index": 24, "batch": 12, "crc32c": 12}
    places = tuple(
        DatasetProof(name=name, offset_bytes=4096, size_bytes=sizes.get(name, 0), crc32c=0) for name in names
    )
    proof = shard(number).proof
    return StagedShard(
        record=dataclasses.replace(record(number), size_bytes=8192),
        proof=ShardProof(datasets=places, row_crc32c=proof.row_crc32c, row_batch=proof.row_batch),
    )


def test_every_flipped_bit_of_a_journal_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole = Journal(rewritten=3, shards=(shard(0), shard(1))).to_bytes()
    assert read_journal_of(path, whole) == Journal(rewritten=3, shards=(shard(0), shard(1)))
    for position in range(len(whole) - 1):  # without its last newline the last line is a torn one
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        with pytest.raises(CorruptIndex, match="line"):
            read_journal_of(path, bytes(changed))


def read_journal_of(path: Path, content: bytes) -> Journal:
    path.write_bytes(content)
    return read_journal(path)


def test_a_rewriting_counts_only_as_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    head = Journal(rewritten=3).to_bytes()
    with pytest.raises(CorruptIndex, match="line 2: unknown kind 'rewrite'"):
        read_journal_of(path, shard(0).to_line() + head)
    with pytest.raises(CorruptIndex, match="line 1: generation 0"):
        read_journal_of(path, json.dumps(seal({"kind": "rewrite", "generation": 0})).encode() + b"\n")


HOSTILE = [
    b"[" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"a":' + b"[" * 900 + b"]" * 900 + b',"crc32c":"00000000"}',
    b'{"a":NaN,"crc32c":"00000000"}',
    b'{"a":1e999,"crc32c":"00000000"}',
    b'{"a":"\\ud800","crc32c":"00000000"}',
]
HOSTILE_NAMES = ["brackets", "braces", "deep", "NaN", "infinite", "surrogate"]


@pytest.mark.parametrize("content", HOSTILE, ids=HOSTILE_NAMES)
def test_json_that_cannot_be_sealed_is_refused_by_file_and_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(shard(0).to_line() + content + b"\n")
    with pytest.raises(CorruptIndex, match=r"journal\.jsonl, line 2: "):
        read_journal(path)
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(CorruptIndex, match=r"index\.json: "):
        read_index(tmp_path / "index.json")


@pytest.mark.parametrize("content", [b"\n", b"[]\n", b"{}\n", b"null\n", b"\xff\xfe\n", b"{'a'}\n"])
def test_a_line_that_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(content)
    with pytest.raises(CorruptIndex, match="line 1"):
        read_journal(tmp_path / "journal.jsonl")


def test_a_journal_that_is_right_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    replace_journal(path, Journal(shards=(shard(0),)))
    inode = path.stat().st_ino
    assert replace_journal(path, Journal(shards=(shard(0),))) == path.stat().st_size
    assert path.stat().st_ino == inode
    replace_journal(path, Journal(shards=(shard(1),)))
    assert read_journal(path).shards == (shard(1),)


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


def test_every_flipped_bit_of_an_index_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    content = Index(fingerprint="f" * 64, generation=5, shards=(record(0), record(3))).to_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(bytes(changed))
        with pytest.raises((CorruptIndex, FutureVersion)):
            read_index(path)


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
