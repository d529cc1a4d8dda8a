"""Laws of the pointer to what was extracted last: one encoder's line does not touch another's."""

from pathlib import Path

import pytest

from sentifuse.cache.errors import CorruptIndex, NoFeatures
from sentifuse.cache.featureset import read_current, write_current


def test_what_is_written_is_merged_with_what_was_there(cache_dir: Path) -> None:
    write_current(cache_dir, {"tokens": "tokens-aaa", "context": "context-bbb"}, "offline")
    write_current(cache_dir, {"tokens": "tokens-ccc"}, "mine")
    current = read_current(cache_dir)
    assert (current.profile, dict(current.encoders)) == ("mine", {"context": "context-bbb", "tokens": "tokens-ccc"})
    assert current.directory("tokens") == cache_dir / "tokens-ccc"


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
    current = write_current(cache_dir, {"tokens": "tokens-aaa"}, "offline")
    with pytest.raises(NoFeatures, match=r"no 'regions' features .* tokens.*--dataset mvsa_single --encoders regions"):
        current.directory("regions")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"profile": 1, "encoders": {}}', b'{"profile": "p", "encoders": {"a": "../x"}}']
)
def test_a_pointer_that_is_none_is_refused(cache_dir: Path, content: bytes) -> None:
    cache_dir.mkdir(parents=True)
    (cache_dir / "current.json").write_bytes(content)
    with pytest.raises(CorruptIndex, match="nothing is recomputed"):
        read_current(cache_dir)
