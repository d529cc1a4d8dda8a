"""Where a model is looked for, and what is said when there is none."""

import shutil
from pathlib import Path

import pytest

from sentifuse import ResourceError
from sentifuse.crowd.benchmarks.model import find_model


@pytest.mark.parametrize("place", ["crowd/students", "weights"])
def test_a_model_is_found_by_its_name_below_the_artefacts(tmp_path: Path, vit_classifier: Path, place: str) -> None:
    shutil.copytree(vit_classifier, tmp_path / place / "mine")
    found = find_model(tmp_path, "mine")
    assert found.folder == tmp_path / place / "mine"
    assert found.to_json()["digest"] == find_model(tmp_path, str(vit_classifier)).to_json()["digest"]
    assert not found.is_student


def test_the_models_that_are_there_are_named(tmp_path: Path, vit_classifier: Path) -> None:
    shutil.copytree(vit_classifier, tmp_path / "weights" / "mine")
    with pytest.raises(ResourceError, match="there are: mine"):
        find_model(tmp_path, "yours")


def test_classes_without_names_need_an_order(tmp_path: Path, vit_classifier: Path) -> None:
    folder = tmp_path / "nameless"
    shutil.copytree(vit_classifier, folder)
    config = (folder / "config.json").read_text(encoding="utf-8")
    for i, name in enumerate(("positive", "negative", "neutral")):
        config = config.replace(f'"{name}"', f'"LABEL_{i}"')
    (folder / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(ResourceError, match="LABEL_0"):
        find_model(tmp_path, str(folder))
    assert find_model(tmp_path, str(folder), labels=("positive", "negative", "neutral")).name == "nameless"
