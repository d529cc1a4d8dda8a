"""The offline profile on its real models: like is closer to like, widths are their own, one pass serves two."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse.data.images import read_image
from sentifuse.extract.encoder import Encoder, describe_encoder
from sentifuse.extract.errors import ModelsMissing
from sentifuse.extract.models.weights import find_models
from sentifuse.extract.profile import load_profile

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def encoders(mobilenet_file: Path, minilm_folder: Path) -> dict[str, Encoder]:
    profile = load_profile("offline")
    found = find_models(profile, profile.choose(), search=[mobilenet_file.parent], is_offline=True)
    share: dict[str, Any] = {}
    return {
        entry.name: describe_encoder(entry, found.models[entry.name], precision="exact", device="cpu").build(
            device="cpu", share=share
        )
        for entry in profile.choose()
    }


def test_widths_are_384_and_1280(encoders: dict[str, Encoder]) -> None:
    assert {name: encoder.fields[0].shape for name, encoder in encoders.items()} == {
        "tokens": (384,),
        "context": (1280,),
        "regions": (1280,),
    }


def test_texts_of_one_meaning_are_closer(encoders: dict[str, Encoder], encode: Any) -> None:
    texts = [
        "What a wonderful day at the beach!",
        "Lovely sunny afternoon by the sea",
        "My flight got cancelled and I am furious",
    ]
    vectors = [
        row["states"].astype(np.float64).mean(axis=0) for row in encode(encoders["tokens"], [(None, t) for t in texts])
    ]
    unit = np.stack(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = unit @ unit.T
    assert likeness[0, 1] == pytest.approx(0.535, abs=0.002)
    assert likeness[0, 2] == pytest.approx(0.161, abs=0.002)


def test_context_and_regions_share_one_pass_and_agree(encoders: dict[str, Encoder], encode: Any, shared: Path) -> None:
    assert encoders["context"].backbone is encoders["regions"].backbone
    file = min((shared / "mvsa_single").rglob("*.jpg"))
    image = read_image(file)
    regions, context = (encode(encoders[name], [(image, None)])[0] for name in ("regions", "context"))
    assert regions["features"].shape == (36, 1280)
    assert regions["image_size"].tolist() == list(image.size)
    assert context["vector"].min() >= 0
    # Cells fall in strength, so the mean of the strongest is above the mean of all.
    assert regions["features"].astype(np.float64).mean() > context["vector"].mean()


def test_without_the_file_the_error_says_how_to_place_it(tmp_path: Path, minilm_folder: Path) -> None:
    profile = load_profile("offline")
    with pytest.raises(ModelsMissing) as caught:
        find_models(profile, profile.choose(), search=[tmp_path])
    message = str(caught.value)
    digest = "e4173afd05c59b177b90f9af8cd116e11755ea9ebb1d9e20735eca233af0ff43"
    assert f"mobilenet_v2_imagenet_fp16.safetensors (SHA-256 {digest})" in message
    assert "(runs tokens)" in message
