"""Laws of the pointer to what was extracted last: one encoder's line does not touch another's."""

import threading
from pathlib import Path

import pytest

from sentifuse.cache import current
from sentifuse.cache.errors import CorruptIndex, Locked, NoFeatures
from sentifuse.cache.featureset import read_current, write_current
from sentifuse.cache.lock import WriterLock


def test_what_is_written_is_merged_with_what_was_there(cache_dir: Path) -> None:
    write_current(cache_dir, {"tokens": "tokens-aaa", "context": "context-bbb"}, "offline")
    write_current(cache_dir, {"tokens": "tokens-ccc"}, "mine")
    found = read_current(cache_dir)
    assert (found.profile, dict(found.encoders)) == ("mine", {"context": "context-bbb", "tokens": "tokens-ccc"})
    assert found.directory("tokens") == cache_dir / "tokens-ccc"


def test_of_two_writers_at_once_neither_line_is_lost(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_current(cache_dir, {"tokens": "tokens-aaa"}, "offline")
    plain = current.replace_file
    other = threading.Thread(target=write_current, args=(cache_dir, {"crowd": "crowd-ccc"}, "offline"))

    def slow_replace(path: Path, content: bytes) -> None:
        monkeypatch.setattr(current, "replace_file", plain)
        other.start()  # while the first has read and not yet written
        other.join(0.2)
        plain(path, content)

    monkeypatch.setattr(current, "replace_file", slow_replace)
    write_current(cache_dir, {"context": "context-bbb"}, "offline")
    other.join()
    assert sorted(read_current(cache_dir).encoders) == ["context", "crowd", "tokens"]


def test_a_writer_that_does_not_let_go_is_named(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_current(cache_dir, {"tokens": "tokens-aaa"}, "offline")
    monkeypatch.setattr(current, "LOCK_TIMEOUT_S", 0.0)
    lock = WriterLock(cache_dir / current.LOCK_FILE)
    lock.acquire()
    with pytest.raises(Locked, match="another writer is at work"):
        write_current(cache_dir, {"tokens": "tokens-bbb"}, "offline")
    assert read_current(cache_dir).encoders == {"tokens": "tokens-aaa"}
    lock.release()


def test_what_says_the_same_already_is_not_touched(cache_dir: Path) -> None:
    write_current(cache_dir, {"tokens": "tokens-aaa"}, "offline")
    inode = (cache_dir / "current.json").stat().st_ino
    assert write_current(cache_dir, {"tokens": "tokens-aaa"}, "offline").encoders == {"tokens": "tokens-aaa"}
    assert (cache_dir / "current.json").stat().st_ino == inode


def test_nothing_extracted_names_the_command(cache_dir: Path) -> None:
    with pytest.raises(NoFeatures) as caught:
        read_current(cache_dir)
    assert str(caught.value) == (
        f"no features of dataset mvsa_single in {cache_dir}; run: sentifuse extract --dataset mvsa_single"
    )
    assert caught.value.exit_code == 4


def test_an_encoder_not_extracted_names_the_command(cache_dir: Path) -> None:
    found = write_current(cache_dir, {"tokens": "tokens-aaa"}, "offline")
    with pytest.raises(NoFeatures, match=r"no 'regions' features .* tokens.*--dataset mvsa_single --encoders regions"):
        found.directory("regions")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"profile": 1, "encoders": {}}', b'{"profile": "p", "encoders": {"a": "../x"}}']
)
def test_a_pointer_that_is_none_is_refused(cache_dir: Path, content: bytes) -> None:
    cache_dir.mkdir(parents=True)
    (cache_dir / "current.json").write_bytes(content)
    with pytest.raises(CorruptIndex, match="nothing is recomputed"):
        read_current(cache_dir)
