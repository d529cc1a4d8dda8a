"""Laws of `weights add`: whole copies under their own name, nothing overwritten unasked."""

import hashlib
from pathlib import Path

import pytest

from sentifuse import ConfigError, ResourceError
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.placing import add_weights


def test_a_file_is_copied_with_its_digest(tmp_path: Path) -> None:
    source = tmp_path / "net.safetensors"
    source.write_bytes(b"numbers")
    digest = hashlib.sha256(b"numbers").hexdigest()
    assert add_weights(source, tmp_path / "weights") == {"net.safetensors": digest}
    assert (tmp_path / "weights" / "net.safetensors").read_bytes() == b"numbers"
    assert sorted(p.name for p in (tmp_path / "weights").iterdir()) == ["net.safetensors"]


def test_a_folder_is_copied_as_a_whole(tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "inner").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "inner" / "x.txt").write_text("x")
    assert sorted(add_weights(source, tmp_path / "weights")) == ["model/config.json", "model/inner/x.txt"]


def test_adding_again_is_nothing_and_another_content_needs_force(tmp_path: Path) -> None:
    source = tmp_path / "net.bin"
    source.write_bytes(b"one")
    add_weights(source, tmp_path / "weights")
    add_weights(source, tmp_path / "weights")
    source.write_bytes(b"two")
    with pytest.raises(ConfigError, match="--force"):
        add_weights(source, tmp_path / "weights")
    assert (tmp_path / "weights" / "net.bin").read_bytes() == b"one"
    add_weights(source, tmp_path / "weights", overwrite=True)
    assert (tmp_path / "weights" / "net.bin").read_bytes() == b"two"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"no-such-file"):
        add_weights(tmp_path / "no-such-file", tmp_path / "weights")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 262199111\n", "a pointer of git-LFS"),
        (b"<!DOCTYPE html><title>Sign in</title>", "looks like a web page"),
    ],
)
def test_what_stands_in_for_weights_is_refused_alone_and_in_a_folder(
    content: bytes, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "merges.txt").write_bytes(b"")  # no weights: may be empty
    (folder / "net.bin").write_bytes(b"numbers")
    add_weights(folder, tmp_path / "weights")
    (folder / "net.bin").write_bytes(content)
    for source in (folder / "net.bin", folder):
        with pytest.raises(ModelMismatch, match=message):
            add_weights(source, tmp_path / "others")
    assert not (tmp_path / "others").exists()
