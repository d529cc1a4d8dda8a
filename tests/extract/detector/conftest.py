"""The detector in miniature, with weights by the golden rule."""

from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.detector.golden.self_test import MINIATURE
from sentifuse.extract.detector.golden.writer import write_golden


@pytest.fixture(scope="session")
def state(sizes: Architecture) -> dict[str, Tensor]:
    """Weights of an even seed: their anchors are not the formula's. Tests may not change them."""
    return {key: torch.from_numpy(value) for key, value in synthetic_weights(102, sizes).items()}


@pytest.fixture
def photo() -> Image.Image:
    """Noise in large patches, 40 x 30."""
    small = torch.randint(0, 256, (6, 8, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return Image.fromarray(small.numpy()).resize((40, 30), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def written() -> Any:
    """The module `written.py` beside this file: writes weights as others write them."""
    spec = spec_from_file_location("written", Path(__file__).with_name("written.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def small() -> Architecture:
    """Smaller still: golden files of it are written in a moment."""
    return replace(MINIATURE, depths=(1, 1, 1, 1), base_width=2, proposal_width=8, class_count=12, attribute_count=6)


@pytest.fixture(scope="session")
def golden_files(tmp_path_factory: pytest.TempPathFactory, small: Architecture) -> dict[int, Path]:
    """Golden files by seed: sharp and smooth ones, with the formula's anchors (odd) and stored ones (even)."""
    folder = tmp_path_factory.mktemp("golden")
    pixels = torch.randint(0, 256, (12, 100, 3), generator=torch.Generator().manual_seed(6), dtype=torch.uint8)
    image = folder / "noise_100x12.png"
    Image.fromarray(pixels.numpy()).save(image)
    files = {}
    for seed in (7, 8, 104):
        files[seed] = folder / f"seed_{seed}.npz"
        write_golden(files[seed], image, seed=seed, sizes=small, trials=4)
    return files
