"""Finding models: everything missing is named at once, with digest, place and way; nothing is loaded on the way."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from sentifuse import ConfigError
from sentifuse.cache.files import sha256_of
from sentifuse.extract.errors import MissingModel, ModelMismatch, ModelsMissing
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.torchvision_weights import DETECTORS, LITERALS, ask_torchvision, known_weights
from sentifuse.extract.models.weights import find_models, locate, weights_folder
from sentifuse.extract.profile import Profile, load_profile


@pytest.fixture(autouse=True)
def empty_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def with_models(profile: Profile, **models: ModelSource) -> Profile:
    encoders = {name: replace(profile.encoders[name], model=model) for name, model in models.items()}
    return replace(profile, encoders=dict(profile.encoders) | encoders)


def test_all_that_the_paper_profile_lacks_is_named_in_one_error(tmp_path: Path) -> None:
    profile = load_profile("paper")
    with pytest.raises(ModelsMissing) as caught:
        find_models(profile, profile.choose(tuple(profile.encoders)), search=[tmp_path / "weights"])
    error = caught.value
    assert error.exit_code == 5
    assert [name for name, _ in error.missing] == list(profile.encoders)
    message = str(error)
    for expected in (
        "regions: file vg-faster-rcnn-resnet101-c4.safetensors is in none of: ",
        "`sentifuse weights convert FILE`",
        "resnet18-f37072fd.pth (SHA-256 f37072fd…)",
        "hub model google-bert/bert-base-uncased is not in the local cache",
        "HF_HUB_OFFLINE forbids",
        f"folder crowd-vit is in none of: {tmp_path / 'weights'}",
        "sentifuse weights add",
        "--weights DIR",
        "Works now: --profile tiny",  # the offline one lacks its file as well
    ):
        assert expected in message


def test_what_is_missing_for_several_encoders_is_said_once() -> None:
    error = MissingModel("file net is nowhere")
    text = str(ModelsMissing("mine", [("tokens", error), ("crowd", MissingModel("other")), ("context", error)], []))
    assert text.splitlines()[:3] == [
        "profile 'mine' needs 2 models that cannot be had:",
        "  tokens, context: file net is nowhere",
        "  crowd: other",
    ]


def test_the_offline_profile_is_told_of_only_where_nothing_else_runs() -> None:
    missing = [("regions", MissingModel("net is nowhere"))]
    assert "--profile offline lacks something too" in str(ModelsMissing("mine", missing, []))
    assert "--profile offline" not in str(ModelsMissing("mine", missing, ["tokens"]))
    assert "lacks" not in str(ModelsMissing("tiny", missing, []))


def test_an_unknown_detector_is_told_the_detectors_alone() -> None:
    with pytest.raises(ConfigError, match="did you mean 'fasterrcnn_resnet50_fpn'") as caught:
        ask_torchvision("fasterrcnn_resnet_50_fpn", "COCO_V1")
    assert str(caught.value).partition("There are: ")[2].split(", ") == sorted(DETECTORS)


def test_skip_missing_keeps_what_can_be_had_and_says_what_was_left_out(tmp_path: Path, bert_folder: Path) -> None:
    here = ModelSource(kind="path", name=str(bert_folder))
    profile = with_models(load_profile("paper"), tokens=here)
    entries = profile.choose()
    with pytest.raises(ModelsMissing, match=r"leave them out with --skip-missing \(runs tokens\)"):
        find_models(profile, entries, search=[])
    found = find_models(profile, entries, search=[], skip_missing=True)
    assert list(found.models) == ["tokens"]
    assert list(found.missing) == ["regions", "context", "crowd"]


def test_skip_missing_with_nothing_left_is_an_error(tmp_path: Path) -> None:
    profile = load_profile("paper")
    with pytest.raises(ModelsMissing):
        find_models(profile, profile.choose(("crowd",)), search=[], skip_missing=True)


def test_the_tiny_profile_needs_nothing() -> None:
    profile = load_profile("tiny")
    found = find_models(profile, profile.choose(tuple(profile.encoders)), search=[], is_offline=True)
    assert {name: model.path for name, model in found.models.items()} == dict.fromkeys(profile.encoders)


def source_of(file: Path, **changes: Any) -> ModelSource:
    return replace(ModelSource(kind="file", name=file.name, architecture="resnet18"), **changes)


def test_a_local_file_is_found_in_the_first_folder_that_has_it(tmp_path: Path, resnet_file: Path) -> None:
    add = weights_folder(tmp_path)
    add.mkdir()
    shutil.copy(resnet_file, add)
    found = locate(source_of(resnet_file), search=[tmp_path / "none", add])
    assert found.path == add / resnet_file.name
    assert found.digest == sha256_of(resnet_file)


def test_of_two_files_of_one_name_the_pinned_one_is_taken(tmp_path: Path, resnet_file: Path, resnet_state: Any) -> None:
    (tmp_path / "other").mkdir()
    changed = {name: value + 1 for name, value in resnet_state.items()}
    save_file(changed, tmp_path / "other" / resnet_file.name)
    pinned = source_of(resnet_file, sha256=sha256_of(resnet_file))
    found = locate(pinned, search=[tmp_path / "other", resnet_file.parent])
    assert found.path == resnet_file
    with pytest.raises(ModelMismatch, match="SHA-256 is"):
        locate(pinned, search=[tmp_path / "other"])


def test_a_missing_file_is_named_with_digest_places_and_ways(tmp_path: Path) -> None:
    digest = "ab" * 32
    source = ModelSource(kind="file", name="net.safetensors", architecture="resnet18", sha256=digest)
    with pytest.raises(MissingModel) as caught:
        locate(source, search=[tmp_path / "a", tmp_path / "b"])
    for expected in (
        "net.safetensors",
        digest,
        str(tmp_path / "a"),
        str(tmp_path / "b"),
        "weights add",
        "--weights DIR",
    ):
        assert expected in str(caught.value)


def test_a_folder_is_looked_up_like_a_file(tmp_path: Path, vit_folder: Path) -> None:
    shutil.copytree(vit_folder, tmp_path / "crowd-vit")
    found = locate(ModelSource(kind="folder", name="crowd-vit"), search=[tmp_path])
    assert found.architecture == "vit"


def test_a_path_is_checked_before_any_library_sees_it() -> None:
    with pytest.raises(MissingModel, match="no/such/folder: no such file or folder; correct the path"):
        locate(ModelSource(kind="path", name="no/such/folder"), search=[])


def test_a_missing_package_is_named_with_the_line_to_type(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match=r"package no_such_package is not installed; pip install no-such-package"):
        locate(ModelSource(kind="package", name="no_such_package", folder="model"), search=[])
    with pytest.raises(MissingModel, match="package json has no folder 'model'"):
        locate(ModelSource(kind="package", name="json", folder="model"), search=[])


def test_torchvision_weights_are_found_where_torch_keeps_them_and_checked(tmp_path: Path, resnet_file: Path) -> None:
    source = ModelSource(kind="torchvision", name="resnet18", architecture="resnet18", weights="IMAGENET1K_V1")
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    with pytest.raises(MissingModel, match=f"is in none of: .*{checkpoints}; --offline or HF_HUB_OFFLINE forbids"):
        locate(source, search=[tmp_path])
    checkpoints.mkdir(parents=True)
    shutil.copy(resnet_file, checkpoints / "resnet18-f37072fd.pth")
    with pytest.raises(ModelMismatch, match=r"SHA-256 begins .*, expected f37072fd; delete it"):
        locate(source, search=[tmp_path])


@pytest.mark.parametrize(("architecture", "weights"), sorted(LITERALS))
def test_the_literal_weights_equal_torchvisions_own(architecture: str, weights: str) -> None:
    assert known_weights(architecture, weights) == ask_torchvision(architecture, weights)


def test_other_published_weights_are_asked_of_torchvision() -> None:
    known = known_weights("resnet50", "IMAGENET1K_V2")
    assert known.settings["resize"] == 232  # V1 has 256: never a constant
    assert known.file_name.startswith("resnet50-")
    with pytest.raises(ConfigError, match="unknown weights of resnet50 'IMAGENET1K_V3'; did you mean"):
        known_weights("resnet50", "IMAGENET1K_V3")
    with pytest.raises(ConfigError, match="unknown weights of resnet50 'DEFAULT'"):
        known_weights("resnet50", "DEFAULT")
    with pytest.raises(ConfigError, match="unknown torchvision model 'resnet5'"):
        known_weights("resnet5", "IMAGENET1K_V1")
