"""Fixtures of the crowd's tests: a seeded miniature ViT in a folder, and images whose colour is their class."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sentifuse.crowd.finetune_recipe import FinetuneRecipe, FinetuneRequest, ImageRow
from sentifuse.data.files import digest

COLOURS = ((30, 30, 120), (130, 130, 130), (230, 200, 40))  # negative, neutral, positive


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transformers: hidden 32, 2 layers, 32 px in patches of 8, with its image processor."""
    import torch
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("tiny-vit")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=32,
            patch_size=8,
            layer_norm_eps=1e-6,
        )
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def coloured_images(tmp_path: Path) -> Callable[[Sequence[int]], list[ImageRow]]:
    """Writes one PNG for each class given, in its colour with some noise, and gives their rows."""

    def write(classes: Sequence[int]) -> list[ImageRow]:
        rng = np.random.default_rng(0)
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        rows = []
        for i, k in enumerate(classes):
            path = folder / f"{i}.png"
            pixels = np.array(COLOURS[k]) + rng.integers(-15, 16, (36, 40 + i % 5, 3))  # noise: crops differ
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
            rows.append(ImageRow(id=f"t{i}-1", path=path, digest=digest(path.read_bytes())))
        return rows

    return write


@pytest.fixture
def finetune_request(
    tmp_path: Path, tiny_vit: Path, coloured_images: Callable[[Sequence[int]], list[ImageRow]]
) -> Callable[..., FinetuneRequest]:
    """A request over 18 training and 6 validation images; `recipe` is a dict over small defaults."""

    def build(recipe: dict[str, Any] | None = None, **changes: Any) -> FinetuneRequest:
        classes = changes.pop("classes", [i % 3 for i in range(24)])
        images = coloured_images(classes)
        small: dict[str, Any] = {"batch_size": 4, "epochs": 2, "learning_rate": 1e-3, "head_learning_rate": 1e-2}
        values: dict[str, Any] = {
            "base": tiny_vit,
            "kind": "full",
            "images": images,
            "classes": np.array(classes, dtype=np.int64),
            "train_rows": np.arange(len(images) - 6),
            "val_rows": np.arange(len(images) - 6, len(images)),
            "out": tmp_path / "work",
            "loader_threads": 2,
            "log_every": 1,
        }
        return FinetuneRequest(recipe=FinetuneRecipe(**(small | (recipe or {}))), **(values | changes))

    return build
