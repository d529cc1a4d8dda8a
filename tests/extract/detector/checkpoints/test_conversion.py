"""Conversion: equal weights give equal bytes whatever they came in, whole files or none, nothing lost unasked."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sentifuse import ConfigError, ResourceError
from sentifuse.extract.detector.architecture import ATTRIBUTE_KEYS, VISUAL_GENOME, Architecture
from sentifuse.extract.detector.boxes import cell_anchors
from sentifuse.extract.detector.checkpoints import conversion
from sentifuse.extract.detector.checkpoints.conversion import Converted, convert_weights
from sentifuse.extract.detector.checkpoints.layouts import ANCHORS_KEY
from sentifuse.extract.detector.checkpoints.vocabulary import find_vocabularies
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.errors import ModelMismatch

State = dict[str, Tensor]
LAYOUTS = (
    "safetensors",
    "pickle",
    "python 2 pickle",
    "torch",
    "old torch",
    "parallel torch",
    "milvlg",
    "caffe",
    "old caffe",
)


@pytest.fixture(scope="session")
def exact(written: Any, state: State) -> State:
    converted: State = written.exact(state)
    return converted


@pytest.fixture
def source(written: Any, exact: State, sizes: Architecture, tmp_path: Path) -> Path:
    written.write_pickle(tmp_path / "net.pkl", exact, sizes)
    return tmp_path / "net.pkl"


@pytest.fixture(scope="session")
def digest(written: Any, exact: State, sizes: Architecture, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("digest")
    written.write_safetensors(folder / "net", exact, sizes)
    return convert_weights(folder / "net", folder / "ours.safetensors", sizes).sha256


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_weights_give_equal_bytes_from_every_layout(
    layout: str, written: Any, exact: State, digest: str, sizes: Architecture, tmp_path: Path
) -> None:
    write, called = written.WRITERS[layout]
    write(tmp_path / "net", exact, sizes)
    converted = convert_weights(tmp_path / "net", tmp_path / "ours.safetensors", sizes)
    assert converted.layout == called
    assert converted.sha256 == digest == hashlib.sha256((tmp_path / "ours.safetensors").read_bytes()).hexdigest()
    found = load_file(tmp_path / "ours.safetensors")
    assert converted.tensors == len(found) == len(written.without_counters(exact))
    assert all(torch.equal(found[name], exact[name]) for name in found)
    assert converted.anchor_values == "caffe"  # the seed is even
    assert converted.has_attributes


def test_converting_what_was_converted_changes_nothing(source: Path, sizes: Architecture, tmp_path: Path) -> None:
    first = convert_weights(source, tmp_path / "ours.safetensors", sizes)
    again = convert_weights(tmp_path / "ours.safetensors", tmp_path / "again.safetensors", sizes)
    assert again.sha256 == first.sha256
    assert convert_weights(first.file, first.file, sizes).is_new is False


def test_absent_anchors_are_written_as_the_formula_has_them(written: Any, sizes: Architecture, tmp_path: Path) -> None:
    odd = {name: torch.from_numpy(value) for name, value in synthetic_weights(101, sizes).items()}
    written.write_pickle(tmp_path / "with.pkl", odd, sizes)
    del odd[ANCHORS_KEY]
    written.write_pickle(tmp_path / "without.pkl", odd, sizes)
    stored = convert_weights(tmp_path / "with.pkl", tmp_path / "with.safetensors", sizes)
    absent = convert_weights(tmp_path / "without.pkl", tmp_path / "without.safetensors", sizes)
    assert (stored.anchors, absent.anchors) == ("stored", "formula")
    assert stored.anchor_values == absent.anchor_values == "formula"
    assert stored.sha256 == absent.sha256
    assert torch.equal(load_file(absent.file)[ANCHORS_KEY], cell_anchors())


def test_weights_without_attributes_say_so(written: Any, exact: State, sizes: Architecture, tmp_path: Path) -> None:
    written.write_pickle(tmp_path / "net.pkl", {k: v for k, v in exact.items() if k not in ATTRIBUTE_KEYS}, sizes)
    converted = convert_weights(tmp_path / "net.pkl", tmp_path / "ours.safetensors", sizes)
    assert not converted.has_attributes


def test_two_names_for_one_memory_are_two_tensors_in_the_file(
    exact: State, digest: str, sizes: Architecture, tmp_path: Path
) -> None:
    tied = dict(exact)
    twin = "roi_heads.res5.1.conv1.norm.weight", "roi_heads.res5.2.conv1.norm.weight"
    tied[twin[1]] = tied[twin[0]]
    torch.save(tied, tmp_path / "net.pth")
    converted = convert_weights(tmp_path / "net.pth", tmp_path / "ours.safetensors", sizes)
    found = load_file(converted.file)
    assert torch.equal(found[twin[0]], found[twin[1]])
    assert converted.sha256 != digest


def test_the_digest_lies_beside_as_sha256sum_reads_it(source: Path, sizes: Architecture, tmp_path: Path) -> None:
    converted = convert_weights(source, tmp_path / "out" / "ours.safetensors", sizes)
    assert converted.sha256_file.read_text() == f"{converted.sha256}  ours.safetensors\n"
    done = subprocess.run(
        ["sha256sum", "--check", "ours.sha256"], cwd=tmp_path / "out", capture_output=True, check=True
    )
    assert done.stdout == b"ours.safetensors: OK\n"
    assert names(tmp_path / "out") == ["ours.safetensors", "ours.sha256"]
    assert converted.file.stat().st_mode == converted.sha256_file.stat().st_mode  # whoever reads one reads the other


def vocabularies(folder: Path, sizes: Architecture) -> dict[str, Path]:
    files = {}
    for kind, count in (("objects", sizes.class_count), ("attributes", sizes.attribute_count)):
        files[kind] = folder / f"{kind}_vocab.txt"
        files[kind].write_text("\r\n".join(f"{kind} {i}, synonym" for i in range(count)), encoding="utf-8")
    return files


def test_names_are_written_beside_the_weights_in_one_way(source: Path, sizes: Architecture, tmp_path: Path) -> None:
    given = vocabularies(tmp_path, sizes)
    converted = convert_weights(source, tmp_path / "ours.safetensors", sizes, **given)
    assert converted.vocabularies == {
        "objects": tmp_path / "ours.objects.txt",
        "attributes": tmp_path / "ours.attributes.txt",
    }
    found = find_vocabularies(converted.file, sizes)
    assert found.objects == tuple(f"objects {i}" for i in range(sizes.class_count))
    assert (tmp_path / "ours.attributes.txt").read_bytes().count(b"\n") == sizes.attribute_count
    bare = convert_weights(source, tmp_path / "bare.safetensors", sizes)
    assert bare.sha256 == converted.sha256  # names change no number


def test_names_may_be_added_later(source: Path, sizes: Architecture, tmp_path: Path) -> None:
    convert_weights(source, tmp_path / "ours.safetensors", sizes)
    later = convert_weights(
        source, tmp_path / "ours.safetensors", sizes, objects=vocabularies(tmp_path, sizes)["objects"]
    )
    assert not later.is_new
    assert find_vocabularies(later.file, sizes).objects


def test_nothing_is_written_when_a_vocabulary_is_wrong(source: Path, sizes: Architecture, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(ModelMismatch, match=r"short\.txt: 2 lines, expected 12"):
        convert_weights(source, tmp_path / "out" / "ours.safetensors", sizes, objects=tmp_path / "short.txt")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_when_the_weights_are_wrong(source: Path, sizes: Architecture, tmp_path: Path) -> None:
    source.write_bytes(source.read_bytes()[:5000])
    with pytest.raises(ModelMismatch):
        convert_weights(source, tmp_path / "out" / "ours.safetensors", sizes, **vocabularies(tmp_path, sizes))
    assert not (tmp_path / "out").exists()


def test_another_file_of_that_name_is_kept_unless_forced(source: Path, sizes: Architecture, tmp_path: Path) -> None:
    target = tmp_path / "ours.safetensors"
    target.write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"ours\.safetensors: something else of this name is there; --force"):
        convert_weights(source, target, sizes)
    assert target.read_bytes() == b"precious"
    assert names(tmp_path) == ["net.pkl", "ours.safetensors"]
    converted = convert_weights(source, target, sizes, overwrite=True)
    assert converted.is_new
    assert len(load_file(target)) == converted.tensors


def test_other_names_beside_the_weights_are_kept_unless_forced(
    source: Path, sizes: Architecture, tmp_path: Path
) -> None:
    (tmp_path / "ours.objects.txt").write_text("mine\n", encoding="utf-8")
    given = vocabularies(tmp_path, sizes)
    with pytest.raises(ConfigError, match=r"ours\.objects\.txt: something else"):
        convert_weights(source, tmp_path / "ours.safetensors", sizes, **given)
    assert not (tmp_path / "ours.safetensors").exists()
    convert_weights(source, tmp_path / "ours.safetensors", sizes, **given, overwrite=True)
    assert find_vocabularies(tmp_path / "ours.safetensors", sizes).objects


def test_a_file_to_write_with_another_ending_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has to end in \.safetensors"):
        convert_weights(tmp_path / "nowhere", tmp_path / "ours.pth")


def test_a_place_that_cannot_be_written_is_named(source: Path, sizes: Architecture, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match=r"file/ours\.safetensors: cannot be written .* --to"):
        convert_weights(source, tmp_path / "file" / "ours.safetensors", sizes)
    (tmp_path / "ours.safetensors").mkdir()
    with pytest.raises(ConfigError, match="something else of this name"):
        convert_weights(source, tmp_path / "ours.safetensors", sizes, overwrite=True)


@pytest.mark.parametrize("step", ["save_file", "sha256_of", "_put"])
def test_an_interruption_leaves_what_was_there(
    step: str, source: Path, sizes: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "ours.safetensors"
    first = convert_weights(source, target, sizes)
    before = names(target.parent)

    def interrupted(*args: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_weights(source, tmp_path / "out" / "second.safetensors", sizes)
    assert names(target.parent) == before
    assert hashlib.sha256(target.read_bytes()).hexdigest() == first.sha256


def test_the_steps_that_take_time_are_told(source: Path, sizes: Architecture, tmp_path: Path) -> None:
    told: list[str] = []
    convert_weights(source, tmp_path / "ours.safetensors", sizes, note=told.append)
    megabytes = f"{source.stat().st_size / 1e6:.1f} MB"
    assert told == [f"reading {source} ({megabytes})", f"writing {tmp_path / 'ours.safetensors'}"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_weights_of_real_size_survive_the_pickle_they_are_published_in(seed: int, written: Any, tmp_path: Path) -> None:
    state = {name: torch.from_numpy(value) for name, value in synthetic_weights(seed, VISUAL_GENOME).items()}
    written.write_pickle(tmp_path / "net.pkl", state, VISUAL_GENOME)
    converted: Converted = convert_weights(tmp_path / "net.pkl", tmp_path / "ours.safetensors")
    assert converted.tensors == 536
    assert converted.size_bytes == pytest.approx(262.2e6, rel=1e-3)
    assert converted.anchor_values == ("formula" if seed % 2 else "caffe")
    found = load_file(converted.file)
    assert all(torch.equal(found[name], value) for name, value in written.without_counters(state).items())
