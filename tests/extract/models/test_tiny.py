"""Tiny networks: the same numbers for the same seed whatever else draws random numbers, and inputs stay apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sentifuse.cache.files import sha256_of
from sentifuse.extract.models.located import read_tiny
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.tiny import TINY, write_tiny

SIZE = {"resize": [96, 96], "crop": 0, "mean": [0.5] * 3, "std": [0.5] * 3}


def tiny(kind: str, seed: int = 0) -> Any:
    return read_tiny(ModelSource(kind="tiny", name=kind, seed=seed))


@pytest.mark.parametrize("kind", sorted(TINY))
def test_the_numbers_depend_on_the_seed_alone(kind: str, tmp_path: Path) -> None:
    digests = []
    for run, seed in enumerate((0, 0, 1)):
        torch.manual_seed(run)
        folder = tmp_path / str(run)
        folder.mkdir()
        state = torch.get_rng_state()
        made = write_tiny(kind, seed, folder)
        assert torch.equal(torch.get_rng_state(), state)  # and the global generator is left alone
        digests.append(sha256_of(made if made.is_file() else made / "model.safetensors"))
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_follows_kind_and_seed() -> None:
    assert tiny("text").digest == tiny("text").digest
    assert len({tiny("text").digest, tiny("text", 1).digest, tiny("image").digest}) == 3


def test_the_numbers_are_those_of_this_version(build: Any, encode: Any) -> None:
    # When this fails and nothing is broken, raise TINY_VERSION: stored features would no longer be what they say.
    text = encode(build("tokens", tiny("text")), [(None, "happy rain")])[0]["states"][1, :4].astype(float)
    image = encode(build("context", tiny("image"), **SIZE), [(Image.new("RGB", (9, 9), "orange"), None)])[0]["vector"]
    np.testing.assert_allclose(text, TEXT_NUMBERS, atol=2e-3)
    np.testing.assert_allclose(image[24:28], IMAGE_NUMBERS, atol=1e-4)


TEXT_NUMBERS = [1.0225, -1.0312, 0.5947, 1.4609]
IMAGE_NUMBERS = [0.0, 0.0161, 0.0, 0.5989]


def test_common_words_are_whole_and_any_other_word_falls_into_known_pieces(build: Any) -> None:
    tokenizer = build("tokens", tiny("text")).backbone.tokenizer.tokenizer
    assert tokenizer.tokenize("happy storm, zorgblatt!") == [
        "happy",
        "storm",
        ",",
        "zo",
        "##rg",
        "##bl",
        "##at",
        "##t",
        "!",
    ]


def test_a_word_looks_more_like_itself_elsewhere_than_like_its_neighbours(build: Any, encode: Any) -> None:
    encoder = build("tokens", tiny("text"))
    words = ["happy", "rain", "dog", "sad", "news", "beach", "cake", "war"]
    rows = encode(encoder, [(None, " ".join(words)), (None, " ".join(reversed(words)))])
    first, second = rows[0]["states"][1:-1].astype(float), rows[1]["states"][1:-1].astype(float)[::-1]
    likeness = np.corrcoef(np.concatenate([first, second]))[: len(words), len(words) :]
    assert (likeness.argmax(axis=1) == np.arange(len(words))).all()


def drawn(rng: np.random.Generator, shape: str, colour: str) -> Image.Image:
    image = Image.new("RGB", (120, 120), tuple(int(v) for v in rng.integers(180, 256, 3)))
    x, y, r = rng.integers(35, 85), rng.integers(35, 85), rng.integers(18, 30)
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif shape == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
    else:
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
    return image


def test_colours_and_shapes_survive_in_the_pooled_vector(build: Any, encode: Any) -> None:
    rng = np.random.default_rng(0)
    pairs = [(shape, colour) for shape in ("circle", "square", "triangle") for colour in ("red", "green", "blue")] * 40
    encoder = build("context", tiny("image"), **SIZE)
    vectors = np.stack([row["vector"] for row in encode(encoder, [(drawn(rng, *pair), None) for pair in pairs])])
    for part, least in ((1, 0.95), (0, 0.9)):  # chance is 1/3
        names = [pair[part] for pair in pairs]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        assert model.fit(vectors[:270], names[:270]).score(vectors[270:], names[270:]) >= least
