"""Laws of requests: what cannot be meant is refused before a weight is loaded."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError, DataError, SentifuseError, TrainingError
from sentifuse.crowd.finetune.network import read_base
from sentifuse.crowd.finetune.recipe import FinetuneRecipe, FinetuneRequest
from sentifuse.crowd.finetune.request import check_parts, check_request, identity_of

SHARES = np.tile(np.array([0.2, 0.3, 0.5], dtype=np.float32), (24, 1))


@pytest.mark.parametrize(
    ("recipe", "changes", "error", "message"),
    [
        ({}, {"kind": "probe"}, ConfigError, "unknown student 'probe'"),
        ({}, {"weights": np.full(24, -1.0, np.float32)}, DataError, "finite weights of at least 0"),
        ({}, {"weights": np.ones(5, np.float32)}, DataError, "expected 24 finite weights"),
        ({}, {"weights": np.zeros(24, np.float32)}, DataError, "every training image has weight 0"),
        ({}, {"train_rows": np.array([0, 24])}, DataError, "expected rows from 0 to 23"),
        ({}, {"train_rows": np.arange(20)}, DataError, "each in one part and once"),
        ({}, {"val_rows": np.zeros(0, np.int64)}, ConfigError, "needs validation images"),
        ({"alpha": 0.5}, {}, ConfigError, "need a teacher's probabilities"),
        (
            {"alpha": 0.5},
            {"probabilities": SHARES[:, :2]},
            DataError,
            r"expected probabilities \(24, 3\)",
        ),
        ({"alpha": 0.5}, {"probabilities": SHARES * 2}, DataError, "found others for 24 images: t0-1, t1-1"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(
    finetune_request: Callable[..., FinetuneRequest],
    recipe: dict[str, Any],
    changes: dict[str, Any],
    error: type[SentifuseError],
    message: str,
) -> None:
    check_request(finetune_request())
    with pytest.raises(error, match=message):
        check_request(finetune_request(recipe, **changes))


def test_classes_are_0_1_2(finetune_request: Callable[..., FinetuneRequest]) -> None:
    with pytest.raises(DataError, match="expected one class"):
        check_request(replace(finetune_request(), classes=np.full(24, 3)))


def test_parts_need_every_class_but_neutral_where_it_is_left_out() -> None:
    classes = np.array([0, 0, 2, 2], dtype=np.int64)
    train, val = np.array([0, 2]), np.array([1, 3])
    with pytest.raises(TrainingError, match="no usable image of class neutral"):
        check_parts(FinetuneRecipe(), classes, train, val)
    check_parts(FinetuneRecipe(scores_without_neutral=True), classes, train, val)
    with pytest.raises(TrainingError, match="no usable image of class positive"):
        check_parts(FinetuneRecipe(trains_without_neutral=True), classes, train[:1], val)
    with pytest.raises(TrainingError, match="validation part has no usable image"):
        check_parts(FinetuneRecipe(scores_without_neutral=True), classes, train, val[:0])
    with pytest.raises(DataError, match="the validation part has 1 neutral images"):
        check_parts(FinetuneRecipe(scores_without_neutral=True), np.array([0, 1, 2, 2]), train, val)


@pytest.mark.parametrize(
    "changes",
    [
        {"probabilities": SHARES[:, ::-1]},
        {"weights": np.linspace(0.5, 1, 24, dtype=np.float32)},
        {"classes": np.zeros(24, np.int64)},
        {"train_rows": np.arange(17)},
        {"val_rows": np.arange(18, 23)},
        {"seed": 1},
        {"kind": "lora"},
    ],
)
def test_whatever_changes_numbers_makes_another_training(
    finetune_request: Callable[..., FinetuneRequest], changes: dict[str, Any]
) -> None:
    request = replace(finetune_request(), probabilities=SHARES, weights=np.ones(24, np.float32))
    base = read_base(request.base, 0)
    mine = identity_of(request, base, "float32")
    assert identity_of(replace(request, **changes), base, "float32") != mine
    assert identity_of(request, replace(base, resize="tensorflow"), "float32") != mine
    assert identity_of(request, replace(base, digest="other"), "float32") != mine
    assert identity_of(request, base, "bfloat16") != mine


def test_places_devices_and_images_at_a_time_make_no_other_training(
    finetune_request: Callable[..., FinetuneRequest],
) -> None:
    request = finetune_request()
    base = read_base(request.base, 0)
    other = replace(
        request,
        recipe=replace(request.recipe, micro_batch=2),
        out=request.out / "other",
        device="cuda",
        loader_threads=1,
        images=[replace(image, path=image.path.with_suffix(".moved")) for image in request.images],
    )
    assert identity_of(other, replace(base, folder=base.folder / "moved"), "float32") == identity_of(
        request, base, "float32"
    )
