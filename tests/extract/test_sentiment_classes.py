"""The order of classes is read from the model, never assumed; shares always sum to one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sentifuse.extract.encoders.sentiment_classes import class_columns, probabilities
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.models.source import ModelSource


def model(folder: Path, **config: Any) -> LocatedModel:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    source = ModelSource(kind="path", name=str(folder))
    return LocatedModel(source=source, path=folder, architecture="vit", digest="", files={})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["negative", "neutral", "positive"], (0, 1, 2)),
        (["POS", "NEU", "NEG"], (2, 1, 0)),
        (["Neutral", "Positive ", "Negative"], (2, 0, 1)),
    ],
)
def test_columns_follow_the_names(tmp_path: Path, names: list[str], expected: tuple[int, ...]) -> None:
    assert class_columns(model(tmp_path, id2label={str(i): name for i, name in enumerate(names)}), ()) == expected


def test_more_than_nine_classes_are_read_in_numeric_order(tmp_path: Path) -> None:
    many = {str(i): f"c{i}" for i in range(12)}
    with pytest.raises(
        ModelMismatch, match="its classes are c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, expected"
    ):
        class_columns(model(tmp_path, id2label=many), ())


@pytest.mark.parametrize(
    ("config", "labels", "expected"),
    [
        ({}, (), "a weights file, expected a transformers folder"),
        ({"model_type": "vit"}, (), "its classes are LABEL_0, LABEL_1, expected"),
        ({"id2label": {"0": "negative", "1": "positive"}}, (), "its classes are negative, positive, expected"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}, ("negative", "neutral"), "expected negative"),
        ({"id2label": {"0": "a", "1": "b"}}, ("negative", "neutral", "positive"), "it has 2 outputs, expected 3"),
        ({"id2label": {"0": "negative", "1": "negative", "2": "positive"}}, (), "its classes are negative, negative"),
    ],
)
def test_classes_that_are_not_ours_are_refused(tmp_path: Path, config: Any, labels: Any, expected: str) -> None:
    with pytest.raises(ModelMismatch, match=expected):
        class_columns(model(tmp_path, **config), labels)


@settings(max_examples=50, derandomize=True)
@given(arrays(np.float32, (2, 3), elements=st.floats(-500, 500, width=32)))
def test_shares_sum_to_one_for_any_logits(logits: np.ndarray) -> None:
    shares = probabilities(logits, (2, 0, 1))
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert (shares >= 0).all()
    np.testing.assert_array_equal(shares, probabilities(logits, (0, 1, 2))[:, [2, 0, 1]])
