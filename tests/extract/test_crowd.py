"""crowd: probabilities in our order whatever the model's own, and the class token, never a made-up pooler."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import DataError
from sentifuse.extract.errors import ModelMismatch


def changed(folder: Path, target: Path, file: str = "config.json", **changes: Any) -> Path:
    shutil.copytree(folder, target)
    content = json.loads((target / file).read_text(encoding="utf-8"))
    (target / file).write_text(json.dumps(content | changes), encoding="utf-8")
    return target


@torch.inference_mode()
def library(folder: Path, images: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Softmax in the model's own order, and the class token."""
    from transformers import AutoImageProcessor, ViTForImageClassification, ViTModel

    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=images, return_tensors="pt")
    net = ViTForImageClassification.from_pretrained(folder).eval()
    bare = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    return net(**pixels).logits.softmax(dim=1).numpy(), bare(**pixels).last_hidden_state[:, 0].numpy()


def test_probabilities_and_embedding_equal_the_library(vit_folder: Path, build: Any, encode: Any, photo: Any) -> None:
    encoder = build("crowd", vit_folder)
    images = [photo(40, 30), photo(300, 90)]
    rows = encode(encoder, [(image, None) for image in images])
    shares, embeddings = library(vit_folder, images)
    for row, share, embedding in zip(rows, shares, embeddings, strict=True):
        assert row["probabilities"].dtype == row["embedding"].dtype == np.float32
        np.testing.assert_allclose(row["probabilities"], share[[1, 2, 0]], atol=1e-6)  # its own order is POS, NEG, NEU
        np.testing.assert_allclose(row["embedding"], embedding, atol=1e-5)
    assert [(field.name, field.shape) for field in encoder.fields] == [("probabilities", (3,)), ("embedding", (32,))]


def test_preprocessing_equals_the_models_own_processor(vit_folder: Path, build: Any, photo: Any) -> None:
    from transformers import AutoImageProcessor

    backbone = build("crowd", vit_folder).backbone
    prepared = backbone.prepare(photo(300, 90), None)
    expected = AutoImageProcessor.from_pretrained(vit_folder, backend="pil")(photo(300, 90), return_tensors="pt")
    assert prepared.pixels.dtype == np.uint8  # small while it waits
    torch.testing.assert_close(backbone.pixels.batch([prepared]), expected["pixel_values"], atol=1e-6, rtol=0)


def test_class_names_that_say_nothing_are_refused_unless_the_order_is_given(
    tmp_path: Path, vit_folder: Path, build: Any, encode: Any, photo: Any
) -> None:
    silent = changed(vit_folder, tmp_path / "silent", id2label={str(i): f"LABEL_{i}" for i in range(3)})
    with pytest.raises(ModelMismatch, match=r"its classes are LABEL_0, LABEL_1, LABEL_2, expected .*labels = \["):
        build("crowd", silent)
    told = encode(build("crowd", silent, labels=["positive", "NEG", "neutral"]), [(photo(40, 30), None)])[0]
    known = encode(build("crowd", vit_folder), [(photo(40, 30), None)])[0]
    np.testing.assert_array_equal(told["probabilities"], known["probabilities"])


def test_another_image_size_is_refused_unless_positions_may_be_stretched(
    tmp_path: Path, vit_folder: Path, build: Any, encode: Any, photo: Any
) -> None:
    size = {"height": 64, "width": 64}
    large = changed(vit_folder, tmp_path / "large", "preprocessor_config.json", size=size)
    with pytest.raises(ModelMismatch, match="interpolate_positions = true"):
        build("crowd", large)
    row = encode(build("crowd", large, interpolate_positions=True), [(photo(40, 30), None)])[0]
    assert row["embedding"].shape == (32,)


def test_a_folder_without_preprocessing_or_without_class_token_is_named(
    tmp_path: Path, vit_folder: Path, build: Any
) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    shutil.copytree(vit_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("preprocessor*"))
    with pytest.raises(ModelMismatch, match=r"no preprocessor_config\.json"):
        build("crowd", tmp_path / "bare")
    labels = {0: "negative", 1: "neutral", 2: "positive"}
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], id2label=labels)
    ResNetForImageClassification(config).save_pretrained(tmp_path / "conv")
    shutil.copy(vit_folder / "preprocessor_config.json", tmp_path / "conv")
    with pytest.raises(ModelMismatch, match="no class token"):
        build("crowd", tmp_path / "conv")


def test_no_image_is_a_data_error(vit_folder: Path, build: Any) -> None:
    with pytest.raises(DataError, match="no image"):
        build("crowd", vit_folder).backbone.prepare(None, None)


def test_batches_of_several_threads_keep_their_own_states(vit_folder: Path, build: Any, photo: Any) -> None:
    backbone = build("crowd", vit_folder).backbone
    batches = [[backbone.prepare(photo(40 + i, 30), None)] for i in range(2)]
    alone = [backbone.forward(batch)["embedding"] for batch in batches]
    both_are_through = threading.Barrier(2)

    def wait(*_: Any) -> None:
        both_are_through.wait(timeout=10)

    backbone.net.classifier.register_forward_hook(wait)  # the states of both are caught before either is read
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda batch: backbone.forward(batch)["embedding"], batches))
    np.testing.assert_array_equal(together, alone)
    assert not np.array_equal(*alone)
