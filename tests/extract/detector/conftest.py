"""The detector in miniature, with weights by the golden rule."""

import pytest
import torch
from PIL import Image
from torch import Tensor

from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.golden_rule import synthetic_weights


@pytest.fixture(scope="session")
def sizes() -> Architecture:
    """A quarter of the depth, an eighth of the width."""
    return Architecture(
        depths=(1, 2, 2, 3),
        base_width=8,
        proposal_width=16,
        class_count=12,
        attribute_count=6,
        embedding_width=4,
        attribute_width=8,
    )


@pytest.fixture(scope="session")
def state(sizes: Architecture) -> dict[str, Tensor]:
    """Weights of an even seed: their anchors are not the formula's. Tests may not change them."""
    return {key: torch.from_numpy(value) for key, value in synthetic_weights(102, sizes).items()}


@pytest.fixture
def photo() -> Image.Image:
    """Noise in large patches, 40 x 30."""
    small = torch.randint(0, 256, (6, 8, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return Image.fromarray(small.numpy()).resize((40, 30), Image.Resampling.BICUBIC)
