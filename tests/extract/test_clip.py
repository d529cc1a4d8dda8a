"""clip: both projected vectors equal the library's, as tensors, and nobody normalised them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import DataError
from sentifuse.extract.backbones.clip import as_tensor
from sentifuse.extract.errors import ModelMismatch

TEXTS = ["a happy dog", "", "rain " * 200]


@torch.inference_mode()
def library(folder: Path, image: Any, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Projections by the towers and matrices themselves, not by the wrapped call."""
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    net = CLIPModel.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=image, return_tensors="pt")
    words = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=77, return_tensors="pt")
    seen = net.visual_projection(net.vision_model(**pixels).pooler_output)
    read = net.text_projection(net.text_model(**words).pooler_output)
    return seen[0].numpy(), read[0].numpy()


def test_both_vectors_equal_the_library(clip_folder: Path, build: Any, encode: Any, photo: Any) -> None:
    encoder = build("clip", clip_folder)
    pairs = [(photo(60 + i, 40), text) for i, text in enumerate(TEXTS)]
    for (image, text), row in zip(pairs, [encode(encoder, [pair])[0] for pair in pairs], strict=True):
        seen, read = library(clip_folder, image, text)
        assert row["image"].dtype == row["text"].dtype == np.float32
        assert row["image"].shape == row["text"].shape == (24,)
        np.testing.assert_allclose(row["image"], seen, atol=1e-5)
        np.testing.assert_allclose(row["text"], read, atol=1e-5)


def test_batch_mates_and_padding_change_nothing(clip_folder: Path, build: Any, encode: Any, photo: Any) -> None:
    encoder = build("clip", clip_folder)
    pairs = [(photo(60, 40), "a"), (photo(50, 40), "a longer text about the rain")]
    together = encode(encoder, pairs)
    for pair, row in zip(pairs, together, strict=True):
        alone = encode(encoder, [pair])[0]
        np.testing.assert_allclose(row["text"], alone["text"], atol=1e-5)
        np.testing.assert_allclose(row["image"], alone["image"], atol=1e-5)


def test_vectors_are_not_normalised(clip_folder: Path, build: Any, encode: Any, photo: Any) -> None:
    row = encode(build("clip", clip_folder), [(photo(60, 40), "a happy dog")])[0]
    assert abs(np.linalg.norm(row["image"]) - 1) > 0.01
    assert abs(np.linalg.norm(row["text"]) - 1) > 0.01


def test_the_projected_vector_is_taken_from_either_shape_of_answer() -> None:
    class Wrapped:
        pooler_output = torch.ones(2, 3)
        last_hidden_state = torch.zeros(2, 5, 3)

    torch.testing.assert_close(as_tensor(Wrapped()), as_tensor(torch.ones(2, 3)))


def test_long_text_is_cut_at_77_pieces_and_rows_lack_nothing(clip_folder: Path, build: Any, photo: Any) -> None:
    backbone = build("clip", clip_folder).backbone
    assert len(backbone.prepare(photo(60, 40), TEXTS[2]).text.ids) == 77
    assert backbone.batch_key(backbone.prepare(photo(60, 40), TEXTS[2])) == ((3, 32, 32), 77)
    with pytest.raises(DataError, match="no image"):
        backbone.prepare(None, "text")
    with pytest.raises(DataError, match="no text"):
        backbone.prepare(photo(60, 40), None)


def test_an_extreme_strip_is_seen_by_its_middle(clip_folder: Path, build: Any, photo: Any) -> None:
    backbone = build("clip", clip_folder).backbone
    strip = photo(20_000, 20)
    found = backbone.prepare(strip, "").image.pixels.astype(int)
    middle = backbone.prepare(strip.crop((9_900, 0, 10_100, 20)), "").image.pixels.astype(int)
    assert found.shape == (3, 32, 32)
    assert np.abs(found - middle).max() <= 1


def test_another_kind_of_model_is_refused(bert_folder: Path, build: Any) -> None:
    with pytest.raises(ModelMismatch, match="a bert model, expected clip"):
        build("clip", bert_folder)
