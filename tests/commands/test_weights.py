"""`sentifuse weights` as typed: what is there, what is known of the sources, and converting what one has."""

import hashlib
import pickle  # to write files as others do
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse.extract.detector.architecture import ARCHITECTURES, VISUAL_GENOME, Architecture
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.detector.golden.self_test import MINIATURE
from sentifuse.extract.keras_names import VARIANTS, Variant
from sentifuse.extract.models.known_sources import DETECTOR, DETECTOR_FILE, KNOWN_SOURCES

Type = Callable[..., Any]
SMALL = replace(MINIATURE, class_count=5, attribute_count=3)


def write_pickle(file: Path, sizes: Architecture, seed: int = 102) -> Path:
    """Weights by the golden rule in the layout of airsplay's files: no counters."""
    state: dict[str, np.ndarray] = {
        name: value for name, value in synthetic_weights(seed, sizes).items() if not name.endswith("_tracked")
    }
    file.write_bytes(pickle.dumps({"model": state, "__author__": "someone"}, protocol=2))
    return file


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of the detector in miniature, which is the detector as long as the test runs."""
    monkeypatch.setitem(ARCHITECTURES, DETECTOR, SMALL)
    return write_pickle(tmp_path / "faster_rcnn_from_caffe_attr.pkl", SMALL)


@pytest.fixture
def vocabularies(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "objects_vocab.txt").write_text("\n".join("abcde"), encoding="utf-8")
    (tmp_path / "attributes_vocab.txt").write_text("red\ngreen\nblue,azure", encoding="utf-8")
    return (
        "--objects", str(tmp_path / "objects_vocab.txt"), "--attributes", str(tmp_path / "attributes_vocab.txt"),
    )  # fmt: skip


def test_convert_writes_what_the_paper_profile_looks_for(
    type_command: Type, source: Path, vocabularies: tuple[str, ...], tmp_path: Path
) -> None:
    artifacts = tmp_path / "artifacts"
    typed = type_command("weights", "convert", source, *vocabularies, "--json", "--artifacts", artifacts)
    assert typed.code == 0, typed.err
    document = typed.document
    file = artifacts / "weights" / DETECTOR_FILE
    assert document["file"] == str(file)
    assert document["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert {"kind": "vg", "layout": "pickle", "anchors": "stored", "anchor_values": "caffe"}.items() <= document.items()
    assert {"has_attributes": True, "is_new": True, "ignored": []}.items() <= document.items()
    assert document["size_bytes"] == file.stat().st_size
    stem = DETECTOR_FILE.removesuffix(".safetensors")
    assert sorted(path.name for path in file.parent.iterdir()) == sorted(
        [DETECTOR_FILE, f"{stem}.attributes.txt", f"{stem}.objects.txt", f"{stem}.sha256"]
    )
    assert document["vocabularies"]["attributes"] == str(file.with_name(f"{stem}.attributes.txt"))
    assert file.with_name(f"{stem}.attributes.txt").read_text() == "red\ngreen\nblue\n"
    assert "reading" in typed.err
    assert "by its name, which proves nothing, the model for 36 boxes of airsplay/" in typed.err
    listed = type_command("weights", "list", "--profile", "paper", "--json", "--artifacts", artifacts).document
    regions = next(row for row in listed["weights"] if row["encoder"] == "regions")
    assert regions == {
        "encoder": "regions",
        "model": f"file {DETECTOR_FILE}",
        "state": "there",
        "digest": document["sha256"][:12],
        "note": "names of 5 objects and 3 attributes beside it",
    }


def test_the_kind_may_be_named_or_left_out(type_command: Type, source: Path, tmp_path: Path) -> None:
    named = type_command("weights", "convert", "vg", source, "--to", tmp_path / "a.safetensors", "--json")
    bare = type_command("weights", "convert", source, "--to", tmp_path / "b.safetensors", "--json")
    assert named.document["sha256"] == bare.document["sha256"]


def test_people_read_the_same_facts(type_command: Type, source: Path, tmp_path: Path) -> None:
    typed = type_command("weights", "convert", source, "--to", tmp_path / "a.safetensors")
    for words in (
        "read as pickle: ",
        "with attributes",
        "anchors: stored in the file (Caffe's)",
        "sha256 ",
        "a.sha256",
    ):
        assert words in typed.out
    assert "names: none given (--objects, --attributes)" in typed.out
    again = type_command("weights", "convert", source, "--to", tmp_path / "a.safetensors")
    assert again.code == 0
    assert "(was there already)" in again.out


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (("vg",), 2, "no FILE after vg"),
        (("yolo", "x.h5"), 2, "unknown kind of weights 'yolo'"),
        (("a", "b", "c"), 2, "3 words, expected one file"),
        ((), 2, "Missing argument"),
        (("nowhere.pkl",), 5, "nowhere.pkl: cannot be read"),
        (("page.pkl",), 5, "looks like a web page"),
        (("net.pkl", "--to", "x.pth"), 2, "has to end in .safetensors"),
        (("net.pkl", "--objects", "short.txt"), 5, "short.txt: 2 lines, expected 1,600"),
        (("net.pkl",), 5, "none of the 530 tensors expected"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_are_named(
    type_command: Type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    exit_code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.pkl").write_bytes(b"<!DOCTYPE html><title>Sign in</title>")
    Path("net.pkl").write_bytes(pickle.dumps({"model": {"a": np.zeros(3)}}, protocol=2) + b"\0" * 64)
    Path("short.txt").write_text("a\nb", encoding="utf-8")
    typed = type_command("weights", "convert", *words, "--artifacts", tmp_path / "artifacts")
    assert typed.code == exit_code, typed.err
    assert message in typed.err
    assert "Traceback" not in typed.err
    assert not (tmp_path / "artifacts").exists()


def test_a_file_named_like_a_kind_is_a_file(
    type_command: Type, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source.rename("vg")
    assert type_command("weights", "convert", "vg", "--to", "a.safetensors").code == 0


def test_another_file_is_replaced_by_force_alone(type_command: Type, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.safetensors"
    target.write_bytes(b"precious")
    typed = type_command("weights", "convert", source, "--to", target)
    assert typed.code == 2
    assert "--force" in typed.err
    assert target.read_bytes() == b"precious"
    assert type_command("weights", "convert", source, "--to", target, "--force").code == 0


def test_list_tells_where_the_detector_was_offered_and_what_is_dead(type_command: Type, tmp_path: Path) -> None:
    typed = type_command("weights", "list", "--profile", "tiny", "--artifacts", tmp_path)
    table, _, sources = typed.out.partition("\n\n")
    assert table.startswith("encoder")
    for source in KNOWN_SOURCES:
        line = next(line for line in sources.splitlines() if line.startswith(source.file + " "))
        assert source.status in line
        assert source.said in sources
    assert "not tried by us" in sources
    assert "weights convert FILE" in sources


def test_list_gives_programs_the_evidence(type_command: Type, tmp_path: Path) -> None:
    document = type_command("weights", "list", "--profile", "tiny", "--json", "--artifacts", tmp_path).document
    assert [entry["file"] for entry in document["detector_sources"]] == [source.file for source in KNOWN_SOURCES]
    assert all(entry["evidence"] and entry["licence"] for entry in document["detector_sources"])


def test_list_tells_what_a_run_fetches_from_what_cannot_be_used(
    type_command: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "torn.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    mine = tmp_path / "mine.toml"
    model = 'model = { torchvision = "fasterrcnn_resnet50_fpn", weights = "COCO_V1" }'
    context = 'model = { file = "torn.safetensors", architecture = "resnet18" }'
    mine.write_text(f'[encoders.regions]\nbackend = "torchvision"\n{model}\n[encoders.context]\n{context}\n')
    words = ("weights", "list", "--profile", mine, "--artifacts", tmp_path)
    rows = {row["encoder"]: row for row in type_command(*words, "--json").document["weights"]}
    assert (rows["regions"]["state"], rows["regions"]["note"]) == ("missing", "fetched at first use")
    assert rows["context"]["state"] == "missing"
    assert "a pointer of git-LFS" in rows["context"]["note"]
    lines = type_command(*words).out.splitlines()
    assert "fetched at first use" in next(line for line in lines if line.startswith("regions "))
    assert "unusable" in next(line for line in lines if line.startswith("context "))
    assert any(line.startswith("context: ") and "git lfs pull" in line for line in lines)


def test_list_says_which_names_lie_beside_the_detector(type_command: Type, source: Path, tmp_path: Path) -> None:
    words = ("weights", "list", "--profile", "paper", "--artifacts", tmp_path)
    assert type_command("weights", "convert", source, "--artifacts", tmp_path).code == 0
    assert "regions: no names beside it, regions keep numbers only" in type_command(*words).out.splitlines()
    names = tmp_path / "weights" / f"{Path(DETECTOR_FILE).stem}.objects.txt"
    names.write_text("a\nb\nc\nd\ne\n", encoding="utf-8")
    assert "regions: names of 5 objects beside it" in type_command(*words).out.splitlines()
    names.write_text("a\nb\n", encoding="utf-8")  # of another network
    typed = type_command(*words)
    assert any(line.startswith(f"regions: {names}: 2 lines, expected 5") for line in typed.out.splitlines())
    assert next(line for line in typed.out.splitlines() if line.startswith("regions ")).split()[-2] == "there"


def test_a_pointer_is_not_added(type_command: Type, tmp_path: Path) -> None:
    pointer = tmp_path / "net.safetensors"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    typed = type_command("weights", "add", pointer, "--artifacts", tmp_path / "artifacts")
    assert typed.code == 5
    assert "a pointer of git-LFS" in typed.err


def test_a_vocabulary_with_many_names_twice_is_taken_with_a_warning(
    type_command: Type, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text("a\nb\na\nb\na", encoding="utf-8")
    words = ("--objects", tmp_path / "names.txt", "--to", tmp_path / "a.safetensors")
    typed = type_command("weights", "convert", source, *words)
    assert typed.code == 0, typed.err
    assert "names.txt: only 2 of 5 names are different" in typed.err


def test_adding_an_original_file_says_that_it_wants_converting(
    type_command: Type, source: Path, tmp_path: Path
) -> None:
    typed = type_command("weights", "add", source, "--artifacts", tmp_path / "artifacts")
    assert typed.code == 0
    assert f"sentifuse weights convert {source}" in typed.err
    other = tmp_path / "net.safetensors"
    other.write_bytes(b"x")
    assert "convert" not in type_command("weights", "add", other, "--artifacts", tmp_path / "artifacts").err


@pytest.mark.slow
def test_weights_of_real_size_are_converted_as_typed(type_command: Type, tmp_path: Path) -> None:
    source = write_pickle(tmp_path / "mine.pkl", VISUAL_GENOME, seed=2)
    typed = type_command("weights", "convert", source, "--json", "--artifacts", tmp_path / "artifacts")
    assert typed.code == 0, typed.err
    assert typed.document["tensors"] == 536
    assert typed.document["anchor_values"] == "caffe"
    added = type_command("weights", "list", "--profile", "paper", "--json", "--artifacts", tmp_path / "artifacts")
    assert added.document["weights"][0]["state"] == "there"


def test_help_of_convert_has_an_example_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sentifuse import cli; code = cli.run(sys.argv[1:]); "
        "print(sorted({'numpy', 'torch', 'safetensors'} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    words = ["weights", "convert", "--help"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "[KIND] FILE" in done.stdout
    assert "sentifuse weights convert vg faster_rcnn_from_caffe_attr.pkl" in done.stdout


@pytest.fixture
def crowd_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of the crowd's model in miniature, which is B_32 as long as the test runs."""
    spec = spec_from_file_location("keras_written", Path(__file__).parents[1] / "extract" / "keras_written.py")
    assert spec is not None
    assert spec.loader is not None
    keras = module_from_spec(spec)
    spec.loader.exec_module(keras)
    sizes = {"patch_px": 8, "image_px": 32, "hidden_size": 24, "mlp_size": 40, "layer_count": 2, "attention_heads": 3}
    small = Variant(**sizes, is_zero_to_one=True)
    monkeypatch.setitem(VARIANTS, "B_32", small)
    file: Path = keras.write_keras(
        tmp_path / "ViT_B32.h5", keras.keras_weights(small), config=keras.model_config(small)
    )
    return file


def test_convert_crowd_writes_what_the_paper_profile_looks_for(
    type_command: Type, crowd_file: Path, tmp_path: Path
) -> None:
    artifacts = tmp_path / "artifacts"
    words = ("weights", "convert", "crowd", crowd_file, "--artifacts", artifacts)
    typed = type_command(*words, "--json")
    assert typed.code == 0, typed.err
    document = typed.document
    assert document["folder"] == str(artifacts / "weights" / "crowd-vit")
    said = {"kind": "crowd", "variant": "B_32", "gelu": "tanh", "pixels": "0 to 1", "image_px": 32, "is_new": True}
    assert said.items() <= document.items()
    listed = type_command("weights", "list", "--profile", "paper", "--json", "--artifacts", artifacts).document
    row = next(row for row in listed["weights"] if row["encoder"] == "crowd")
    assert (row["state"], row["digest"]) == ("there", document["digest"][:12])
    again = type_command(*words)
    assert "(was there already)" in again.out
    assert "read as whole model: B_32, 42 tensors, 32 px, pixels 0 to 1" in again.out
    assert 'model = { folder = "crowd-vit" }' in again.out


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (("crowd",), 2, "no FILE after crowd"),
        (("crowd", "page.h5"), 5, "looks like a web page"),
        (("crowd", "net.pkl"), 5, "a pickle, which is never run here"),
        (("crowd", "ViT_B32.h5", "--objects", "names.txt"), 2, "--objects is not for weights of this kind"),
        (("crowd", "ViT_B32.h5", "--variant", "B_33"), 2, "unknown variant 'B_33'"),
        (("net.pkl", "--gelu", "exact"), 2, "--gelu is not for weights of this kind"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_with_the_crowds_weights_are_named(
    type_command: Type,
    crowd_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    exit_code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.h5").write_bytes(b"<!DOCTYPE html><title>Sign in</title>")
    Path("net.pkl").write_bytes(pickle.dumps({"model": {"a": np.zeros(3)}}, protocol=2) + b"\0" * 64)
    typed = type_command("weights", "convert", *words, "--artifacts", tmp_path / "artifacts")
    assert typed.code == exit_code, typed.err
    assert message in typed.err
    assert "Traceback" not in typed.err
    assert not (tmp_path / "artifacts").exists()
