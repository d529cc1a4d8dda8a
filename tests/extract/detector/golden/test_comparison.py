"""Golden numbers. One file lies in the repository; the others beside the full data, where that is."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sentifuse import ConfigError
from sentifuse.extract.detector.architecture import VISUAL_GENOME, tensor_specs
from sentifuse.extract.detector.arithmetic import build_stages
from sentifuse.extract.detector.golden.comparison import Deviation, GoldenFile, compare, read_golden
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.detector.preprocess import net_size, prepare
from sentifuse.extract.detector.stages import Stages

HERE = Path(__file__).resolve().parents[3] / "golden" / "frcnn"
SHARP = [f"sharp_s1_img_{name}" for name in ("0_400x300", "1_300x400", "2_640x480", "3_500x120", "4_224x224")]
SMOOTH = ["smooth_s101_img_0_400x300", "smooth_s101_img_4_224x224"]
IMAGES = ["img_0_400x300", "img_1_300x400", "img_2_640x480", "img_3_500x120", "img_4_224x224", "pre_1500x1100"]


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def goldens(shared: Path) -> Path:
    folder = shared / "golden" / "frcnn"
    if not folder.is_dir():
        pytest.skip(f"golden files not there: {folder}")
    return folder


@cache
def full_state(seed: int) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in synthetic_weights(seed, VISUAL_GENOME).items()}


def built(seed: int, arithmetic: str) -> Stages:
    return build_stages(full_state(seed), VISUAL_GENOME, device=torch.device("cpu"), arithmetic=arithmetic)


def beyond(found: list[Deviation]) -> list[str]:
    assert len(found) >= 10
    return [str(deviation) for deviation in found if not deviation.is_within]


def test_a_golden_file_names_its_image_and_seed() -> None:
    golden = read_golden(HERE / "smooth_s101_img_0_400x300.npz")
    assert (golden.seed, golden.image.name) == (101, "img_0_400x300.png")
    assert golden.image.is_file()


def test_reduced_precision_is_not_measured_on_sharp_files() -> None:
    golden = GoldenFile(name="x", values={"seed": np.array(1)}, image=Path("x.png"))
    with pytest.raises(ConfigError, match="smooth"):
        golden.limits(is_reduced=True)


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("arithmetic", ["exact", "fast"])
def test_the_golden_file_of_the_repository(arithmetic: str) -> None:
    golden = read_golden(HERE / "smooth_s101_img_0_400x300.npz")
    limits = golden.limits(is_reduced=arithmetic == "fast")
    assert beyond(compare(built(101, arithmetic), golden, limits)) == []


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("seed", "names"), [(1, SHARP), (101, SMOOTH)], ids=["sharp", "smooth"])
def test_exact_keeps_every_golden_file(seed: int, names: list[str], goldens: Path) -> None:
    stages = built(seed, "exact")
    for name in names:
        golden = read_golden(goldens / f"{name}.npz")
        assert beyond(compare(stages, golden, golden.limits())) == [], name


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
def test_fast_keeps_the_smooth_golden_files(goldens: Path) -> None:
    stages = built(101, "fast")
    for name in SMOOTH:
        golden = read_golden(goldens / f"{name}.npz")
        assert beyond(compare(stages, golden, golden.limits(is_reduced=True))) == [], name


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
def test_the_plain_network_in_float64_gives_the_golden_numbers(goldens: Path) -> None:
    golden = read_golden(goldens / "sharp_s1_img_3_500x120.npz")
    found = compare(built(1, "float64"), golden, golden.limits(is_float64=True), with_regions=False)
    assert beyond(found) == []


@pytest.mark.slow
def test_sizes_and_pixels_are_exact(goldens: Path) -> None:
    with np.load(goldens / "preprocess.npz", allow_pickle=False) as archive:
        wanted = {name: archive[name] for name in archive.files}
    for width, height, net_width, net_height in wanted["size_table"].tolist():
        assert net_size(height, width) == (net_height, net_width)
    for name in IMAGES:
        with Image.open(goldens / f"{name}.png") as image:
            pixels = prepare(image).pixels
        y, x, c = wanted[f"{name}_at_yxc"].T
        assert np.array_equal(pixels[y, x, c], wanted[f"{name}_bgr_uint8"]), name
        assert np.array_equal(pixels.sum(axis=(0, 1), dtype=np.int64), wanted[f"{name}_sum_bgr"]), name


@pytest.mark.slow
def test_tensors_are_those_of_the_key_list(goldens: Path) -> None:
    keys = json.loads((goldens / "keys.json").read_text(encoding="utf-8"))["keys"]
    wanted = {name: (tuple(entry["shape"]), entry["dtype"]) for name, entry in keys.items()}
    assert {name: (spec.shape, spec.dtype) for name, spec in tensor_specs(VISUAL_GENOME).items()} == wanted
