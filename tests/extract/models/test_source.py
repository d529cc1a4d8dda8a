"""Model tables of a profile: exactly one kind, no unknown key."""

from typing import Any

import pytest

from sentifuse import ConfigError
from sentifuse.extract.models.source import ModelSource, read_source

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"hub": "a/b"}, ModelSource(kind="hub", name="a/b")),
        ({"hub": "a/b", "revision": "v1"}, ModelSource(kind="hub", name="a/b", revision="v1")),
        ({"path": "x"}, ModelSource(kind="path", name="x")),
        ({"package": "p", "folder": "model"}, ModelSource(kind="package", name="p", folder="model")),
        ({"folder": "crowd-vit"}, ModelSource(kind="folder", name="crowd-vit")),
        (
            {"file": "f", "sha256": DIGEST.upper(), "architecture": "resnet18"},
            ModelSource(kind="file", name="f", sha256=DIGEST, architecture="resnet18"),
        ),
        (
            {"torchvision": "resnet18", "weights": "IMAGENET1K_V1"},
            ModelSource(kind="torchvision", name="resnet18", architecture="resnet18", weights="IMAGENET1K_V1"),
        ),
        ({"tiny": "text", "seed": 3}, ModelSource(kind="tiny", name="text", seed=3)),
    ],
)
def test_each_kind_of_source_is_read(table: dict[str, Any], expected: ModelSource) -> None:
    assert read_source(table, where="here") == expected


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, "unknown kind of model ''"),
        ({"hubb": "a"}, "unknown kind of model 'hubb'; did you mean 'hub'"),
        ({"hub": "a", "path": "b"}, "names hub and path, expected exactly one"),
        ({"hub": "a", "revison": "b"}, "unknown key 'revison'; did you mean 'revision'"),
        ({"hub": 3}, "model.hub is 3, expected a string"),
        ({"hub": ""}, "model.hub is '', expected a string"),
        ({"tiny": "text", "seed": "1"}, "model.seed is '1', expected a whole number"),
        ({"tiny": "txet"}, "unknown tiny network 'txet'; did you mean 'text'"),
        (
            {"file": "f"},
            r"model has no 'architecture'.*\{ file = \"f\", architecture = \"faster_rcnn_resnet101_c4\" \}",
        ),
        ({"torchvision": "resnet18"}, "model has no 'weights'"),
        ({"file": "f", "architecture": "a", "sha256": "12"}, "sha256 has 2 signs, expected 64"),
    ],
)
def test_a_table_that_does_not_fit_is_named(table: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=f"^here.*{expected}"):
        read_source(table, where="here")
