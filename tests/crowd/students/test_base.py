"""The model behind cached vectors: found by digest, copied, and told when it is not here any more."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError
from sentifuse.cache.featureset import create_feature_set
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Field
from sentifuse.cache.writer import FeatureWriter
from sentifuse.crowd.students.base import check_feature, find_base
from sentifuse.data.manifest import Manifest
from sentifuse.extract.encoder import describe_encoder
from sentifuse.extract.gold_seen import add_gold_seen, read_gold_seen
from sentifuse.extract.models.located import read_base, read_folder, read_tiny
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.profile import EncoderEntry
from sentifuse.extract.students import StudentConfig


def reader_of(tmp_path: Path, encoder: str, model: Any, settings: dict[str, Any]) -> FeatureReader:
    """A feature set without rows, as `extract` would describe it."""
    entry = EncoderEntry(name=encoder, model=model.source, settings=settings)
    plan = describe_encoder(entry, model, precision="exact", device="cpu")
    field = Field(name="vector" if encoder == "context" else "embedding", dtype="float32", shape=(4,))
    made = create_feature_set(
        tmp_path / "cache", encoder=encoder, recipe=plan.recipe, fields=(field,), details=plan.details
    )
    FeatureWriter(made).close()
    return FeatureReader(made)


@pytest.fixture
def tiny_context(tmp_path: Path) -> FeatureReader:
    model = read_tiny(ModelSource(kind="tiny", name="image", seed=7))
    return reader_of(tmp_path, "context", model, {"crop": 40})


def test_a_tiny_network_is_found_by_its_seed_and_read_again_from_the_folder(
    tiny_context: FeatureReader, tmp_path: Path
) -> None:
    base = find_base(tiny_context, "vector")
    assert (base.problem, base.config["encoder"], base.config["settings"]["crop"]) == ("", "context", 40)
    assert base.model is not None
    assert base.model.source.seed == 7
    folder = tmp_path / "student"
    (folder / "base").mkdir(parents=True)
    base.copy(folder / "base")
    config = StudentConfig(kind="probe", head={"kind": "linear", "in": 4}, base=base.config)
    assert read_base(folder, config).digest == base.config["model"]["digest"]


def test_a_folder_is_found_where_it_lay(tmp_path: Path, tiny_vit: Path) -> None:
    import shutil

    place = tmp_path / "vit"
    shutil.copytree(tiny_vit, place)
    config = (place / "config.json").read_text()
    labels = '{"id2label": {"0": "negative", "1": "neutral", "2": "positive"},'
    (place / "config.json").write_text(config.replace("{", labels, 1))
    reader = reader_of(tmp_path, "crowd", read_folder(ModelSource(kind="path", name=str(place)), place), {})
    assert find_base(reader, "embedding").problem == ""
    (place / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes()[:-4])
    assert find_base(reader, "embedding").model is None
    shutil.rmtree(place)
    shutil.copytree(tiny_vit, tmp_path / "weights" / "vit")
    (tmp_path / "weights" / "vit" / "config.json").write_text(config.replace("{", labels, 1))
    assert find_base(reader, "embedding", search=(tmp_path / "weights",)).problem == ""
    gone = find_base(reader, "embedding")
    assert "is not here" in gone.problem
    assert "weights add" in gone.problem
    assert str(place) in gone.problem
    StudentConfig(kind="probe", head={"kind": "linear", "in": 4}, base=gone.config)  # what is known is still said
    gone.copy(tmp_path)


def test_features_that_say_nothing_of_their_model_have_a_problem(world: Any) -> None:
    from sentifuse.cache.current import read_current

    found = find_base(FeatureReader(read_current(world.cache_dir).directory("context")), "vector")
    assert found.model is None
    assert "not recorded" in found.problem


def test_answers_by_fold_are_no_base(tmp_path: Path) -> None:
    field = Field(name="embedding", dtype="float32", shape=(4,))
    made = create_feature_set(tmp_path, encoder="crowd", recipe={"students": {"0": "a"}}, fields=(field,))
    FeatureWriter(made).close()
    with pytest.raises(ConfigError, match="distil features"):
        find_base(FeatureReader(made), "embedding")


@pytest.mark.parametrize("name", [("context", "grid"), ("tokens", "states"), ("contxt", "vector")])
def test_only_vectors_of_images_are_bases(name: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"context\.vector"):
        check_feature(*name)


def test_a_student_below_is_found_though_its_teacher_knew_labels_of_the_dataset(tmp_path: Path, tiny_vit: Path) -> None:
    """What was known is in the recipe of the features, and is no matter of the network."""
    from transformers import ViTModel

    from sentifuse.extract.students import StudentParts, write_student

    state = ViTModel.from_pretrained(tiny_vit, add_pooling_layer=False).state_dict()
    tensors = {f"vit.{name}": value.numpy() for name, value in state.items()}
    tensors |= {
        "head.classifier.weight": np.zeros((3, 32), np.float32),
        "head.classifier.bias": np.zeros(3, np.float32),
    }
    processor = json.loads((tiny_vit / "preprocessor_config.json").read_text())
    vit = json.loads((tiny_vit / "config.json").read_text())
    config = StudentConfig(kind="vit", head={"kind": "linear", "in": 32}, vit=vit)
    known = {"trained_on": {"dataset": "tweets"}, "gold_seen": {"1": ""}}
    parts = StudentParts(config=config, tensors=tensors, processor=processor, notes=known)
    folder = write_student(tmp_path / "student", parts)
    source = ModelSource(kind="path", name=str(folder))
    entry = EncoderEntry(name="crowd", model=source)
    plan = describe_encoder(entry, read_folder(source, folder), precision="exact", device="cpu")
    plan = add_gold_seen(plan, Manifest(tmp_path, ()), "tweets")
    assert plan.details["gold_seen_ids"] == ["1"]
    field = Field(name="embedding", dtype="float32", shape=(32,))
    made = create_feature_set(
        tmp_path / "cache", encoder="crowd", recipe=plan.recipe, fields=(field,), details=plan.details
    )
    FeatureWriter(made).close()
    base = find_base(FeatureReader(made), "embedding")
    assert base.problem == ""
    (tmp_path / "probe" / "base").mkdir(parents=True)
    base.copy(tmp_path / "probe" / "base")
    assert read_gold_seen(tmp_path / "probe") == {"tweets": {"1": ""}}
