"""The student folder: what is written is read, whole or not at all, and the digest follows the numbers alone."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sentifuse import ConfigError, ResourceError
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import LocatedModel, read_folder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.students import (
    StudentConfig,
    base_folder,
    check_head,
    head_shapes,
    read_student,
    write_student,
)

HEAD = {"kind": "linear", "in": 4}
VIT = {"hidden_size": 4}


def located(folder: Path) -> LocatedModel:
    return read_folder(ModelSource(kind="path", name=str(folder)), folder)


def edit(folder: Path, name: str = "config.json", **changes: Any) -> None:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps(content | changes), encoding="utf-8")


def test_what_is_written_is_read(tmp_path: Path, student_parts: Callable[..., Any]) -> None:
    parts = student_parts("vit", temperature=1.5, resize="tensorflow")
    folder = write_student(tmp_path / "deep" / "student", parts)
    assert read_student(folder) == parts.config
    found = load_file(folder / "model.safetensors")
    assert found.keys() == parts.tensors.keys()
    for name, value in parts.tensors.items():
        np.testing.assert_array_equal(found[name], value)
    assert json.loads((folder / "student.json").read_text())["trained_on"] == {"dataset": "none"}
    assert json.loads((folder / "preprocessor_config.json").read_text()) == parts.processor
    assert [path.name for path in folder.parent.iterdir()] == ["student"]  # and no temporary folder
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == (folder / "config.json").stat().st_mode & 0o777


def test_equal_parts_give_equal_bytes(tmp_path: Path, student_parts: Callable[..., Any]) -> None:
    one, two = (write_student(tmp_path / name, student_parts("vit")) for name in ("one", "two"))
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()


def test_a_folder_appears_whole_or_not_at_all(
    tmp_path: Path, student_parts: Callable[..., Any], write_probe: Callable[..., Path], vit_folder: Path
) -> None:
    parts = student_parts("probe", base=read_student(write_probe(tmp_path / "made", "crowd", vit_folder)).base)

    def full_disk(target: Path) -> None:
        (target / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match=r"student: cannot be written .*No space left"):
        write_student(tmp_path / "student", parts, base=full_disk)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_students_are_never_written_over(tmp_path: Path, student_parts: Callable[..., Any]) -> None:
    folder = write_student(tmp_path / "student", student_parts("vit"))
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="something of this name is there"):
        write_student(folder, student_parts("vit", seed=1))
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: {"tensors": {}}, "a head of {}, expected"),
        (lambda parts: {"tensors": {k: v for k, v in parts.tensors.items() if k.startswith("head")}}, "expected head"),
        (lambda parts: {"tensors": parts.tensors | {"pooler": np.zeros(2, np.float32)}}, "tensors pooler, vit"),
        (lambda parts: {"tensors": {k: v.astype(np.float64) for k, v in parts.tensors.items()}}, "float64, expected"),
        (lambda parts: {"tensors": {k: v * np.float32(np.nan) for k, v in parts.tensors.items()}}, "finite"),
        (lambda parts: {"processor": None}, "has an image processor"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, student_parts: Callable[..., Any], change: Callable[[Any], Any], message: str
) -> None:
    parts = student_parts("vit")
    with pytest.raises(ConfigError, match=message):
        write_student(tmp_path / "student", replace(parts, **change(parts)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "cnn"}, "unknown kind of student 'cnn'"),
        ({"temperature": 0.0}, "temperature is 0.0, expected a number above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"resize": "nearest"}, "unknown resize 'nearest'"),
        ({"vit": {}}, "a student of kind vit has vit alone"),
        ({"base": {"encoder": "context"}}, "a student of kind vit has vit alone"),
        ({"vit": {"hidden_size": 5}}, "the head reads 4 numbers, expected vit's hidden_size 5"),
        ({"kind": "probe", "vit": {}, "base": {"encoder": "context"}}, "base has encoder, expected encoder, field"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StudentConfig(**{"kind": "vit", "head": HEAD, "vit": VIT, **values})


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"kind": "cnn", "in": 4}, "unknown kind of head 'cnn'"),
        ({"kind": "linear"}, "head has kind, expected in, kind"),
        ({"kind": "linear", "in": True}, "head.in is True, expected a whole number"),
        ({"kind": "two_layer", "in": 4, "width": 0, "gelu": "exact"}, "head.width is 0"),
        ({"kind": "two_layer", "in": 4, "width": 2, "gelu": "fast"}, "unknown head.gelu 'fast'"),
        ({"kind": "mlp", "in": 4, "width": 2, "dropout": 1.0}, "head.dropout is 1.0"),
    ],
)
def test_heads_that_cannot_be_are_refused(head: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_head(head)


@pytest.mark.parametrize(
    "head",
    [
        {"kind": "two_layer", "in": 5, "width": 3, "gelu": "tanh"},
        {"kind": "mlp", "in": 5, "width": 3, "dropout": 0.2},
        {"kind": "linear", "in": 5},
    ],
    ids=lambda head: head["kind"],
)
def test_the_shapes_named_here_are_those_of_the_network(head: dict[str, Any]) -> None:
    from sentifuse.extract.backbones.student_head import build_head

    state = build_head(head).state_dict()
    assert {f"head.{name}": tuple(value.shape) for name, value in state.items()} == head_shapes(head)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: edit(folder, format=2), "format 2, expected 1"),
        (lambda folder: edit(folder, id2label={"0": "positive"}), "id2label is .*expected negative, neutral, positive"),
        (lambda folder: edit(folder, dropout=0.1), "unknown key 'dropout'"),
        (lambda folder: edit(folder, temperature="warm"), "temperature is 'warm'"),
        (lambda folder: edit(folder, head=[]), "unknown kind of head"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda folder: edit(folder, model_type="vit"), "not a student's"),
    ],
)
def test_a_config_that_was_changed_by_hand_is_named(
    tmp_path: Path, student_parts: Callable[..., Any], change: Callable[[Path], Any], message: str
) -> None:
    folder = write_student(tmp_path / "student", student_parts("vit"))
    change(folder)
    with pytest.raises(ModelMismatch, match=f"config.json: {message}"):
        read_student(folder)


def scale(folder: Path, name: str) -> None:
    """Change one number of one tensor by little."""
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = tensors[name].copy()
    tensors[name].flat[0] += np.float32(1e-3)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def base_settings(folder: Path, **changes: Any) -> None:
    base = json.loads((folder / "config.json").read_text())["base"]
    edit(folder, base={**base, "settings": base["settings"] | changes})


CHANGES: dict[str, Callable[[Path], Any]] = {
    "head": lambda folder: scale(folder, "head.hidden.weight"),
    "temperature": lambda folder: edit(folder, temperature=1.01),
    "gelu": lambda folder: edit(folder, head={**read_student(folder).head, "gelu": "tanh"}),
}
VIT_CHANGES = {
    "vit": lambda folder: scale(folder, "vit.layernorm.bias"),
    "epsilon": lambda folder: edit(folder, vit={**read_student(folder).vit, "layer_norm_eps": 1e-5}),
    "resize": lambda folder: edit(folder, resize="tensorflow"),
    "range": lambda folder: edit(folder, "preprocessor_config.json", image_mean=[0.0] * 3),
}
PROBE_CHANGES = {
    "settings of the base": lambda folder: base_settings(folder, interpolate_positions=True),
    "version of the base": lambda folder: edit(folder, base={**read_student(folder).base, "version": 2}),
}


@pytest.mark.parametrize("change", [*CHANGES, *VIT_CHANGES])
def test_whatever_changes_numbers_of_a_vit_changes_its_digest(
    tmp_path: Path, student_parts: Callable[..., Any], change: str
) -> None:
    folder = write_student(tmp_path / "student", student_parts("vit"))
    before = located(folder).digest
    (CHANGES | VIT_CHANGES)[change](folder)
    assert located(folder).digest != before


@pytest.mark.parametrize("change", [*CHANGES, *PROBE_CHANGES])
def test_whatever_changes_numbers_of_a_probe_changes_its_digest(
    tmp_path: Path, write_probe: Callable[..., Path], vit_folder: Path, change: str
) -> None:
    folder = write_probe(tmp_path / "student", "crowd", vit_folder)
    before = located(folder).digest
    (CHANGES | PROBE_CHANGES)[change](folder)
    assert located(folder).digest != before


def test_another_base_gives_another_digest_and_is_refused_under_a_student_of_the_first(
    tmp_path: Path, write_probe: Callable[..., Path], vit_folder: Path
) -> None:
    other = Path(shutil.copytree(vit_folder, tmp_path / "other"))
    scale(other, "vit.layernorm.bias")
    one, two = (write_probe(tmp_path / name, "crowd", base) for name, base in (("one", vit_folder), ("two", other)))
    assert located(one).digest != located(two).digest
    shutil.copy(other / "model.safetensors", one / "base")
    with pytest.raises(ModelMismatch, match=r"not the base this student was trained on"):
        located(one)
    shutil.rmtree(one / "base")
    with pytest.raises(ModelMismatch, match="the base of the student is missing"):
        located(one)


def test_what_is_for_people_and_where_it_came_from_change_no_digest(
    tmp_path: Path, write_probe: Callable[..., Path], vit_folder: Path
) -> None:
    folder = write_probe(tmp_path / "student", "crowd", vit_folder)
    before = located(folder).digest
    base = dict(read_student(folder).base)
    edit(folder, base={**base, "model": {**base["model"], "kind": "hub", "name": "a/b"}})
    edit(folder, "student.json", scores={"accuracy": 1.0})
    (folder / "history.csv").write_text("epoch\n")
    moved = folder.rename(tmp_path / "elsewhere")
    assert located(moved).digest == before
    assert located(moved).architecture == "sentifuse_student"


def test_the_students_of_folds_share_the_base(
    tmp_path: Path, write_probe: Callable[..., Path], vit_folder: Path
) -> None:
    folder = write_probe(tmp_path / "student", "crowd", vit_folder, folds=2)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["base", "fold-1", "fold-2"]
    assert base_folder(folder / "fold-1") == base_folder(folder) == folder / "base"
    digests = {located(path).digest for path in (folder, folder / "fold-1", folder / "fold-2")}
    assert len(digests) == 3


def test_a_probe_is_no_base_of_a_probe(tmp_path: Path, write_probe: Callable[..., Path], vit_folder: Path) -> None:
    probe = write_probe(tmp_path / "probe", "crowd", vit_folder)
    with pytest.raises(ConfigError, match="a probe, expected a network of its own"):
        write_probe(tmp_path / "second", "crowd", probe)
    with pytest.raises(ConfigError, match="unknown base of a probe 'tokens'"):
        write_probe(tmp_path / "second", "tokens", vit_folder)
