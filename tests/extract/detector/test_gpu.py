"""The detector on a GPU: golden numbers, memory, and that nothing waits for the device on the way."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sentifuse.extract.detector.architecture import VISUAL_GENOME, Architecture
from sentifuse.extract.detector.arithmetic import build_stages, float32_only
from sentifuse.extract.detector.batched import BatchedNetwork
from sentifuse.extract.detector.detector import Detector
from sentifuse.extract.detector.golden.comparison import compare
from sentifuse.extract.detector.golden.file import read_golden
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.detector.preprocess import prepare
from sentifuse.extract.detector.together import detect_together

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
HERE = Path(__file__).resolve().parents[2] / "golden" / "frcnn"
SHARP = [f"sharp_s1_img_{name}" for name in ("0_400x300", "1_300x400", "2_640x480", "3_500x120", "4_224x224")]
SMOOTH = ["smooth_s101_img_0_400x300", "smooth_s101_img_4_224x224"]
SIZE = (400, 300)


@cache
def full_state(seed: int) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in synthetic_weights(seed, VISUAL_GENOME).items()}


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield
    torch.cuda.empty_cache()


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8))


def beyond(seed: int, arithmetic: str, file: Path) -> list[str]:
    golden = read_golden(file)
    stages = build_stages(full_state(seed), VISUAL_GENOME, device=torch.device("cuda"), arithmetic=arithmetic)
    found = compare(stages, golden, golden.limits(is_reduced=arithmetic != "exact"))
    assert len(found) > 20
    return [str(deviation) for deviation in found if not deviation.is_within]


@pytest.mark.parametrize("arithmetic", ["exact", "fast", "fastest"])
def test_the_golden_file_of_the_repository(arithmetic: str) -> None:
    assert beyond(101, arithmetic, HERE / "smooth_s101_img_0_400x300.npz") == []


@pytest.mark.parametrize(("seed", "name"), [(1, name) for name in SHARP] + [(101, name) for name in SMOOTH])
def test_exact_keeps_every_golden_file(seed: int, name: str, shared: Path) -> None:
    """The sharp ones only with all bits of float32: TF32, which convolutions take by default, moves most boxes."""
    assert beyond(seed, "exact", shared / "golden" / "frcnn" / f"{name}.npz") == []


@pytest.mark.parametrize("arithmetic", ["fast", "fastest"])
@pytest.mark.parametrize("name", SMOOTH)
def test_half_precision_keeps_the_smooth_golden_files(name: str, arithmetic: str, shared: Path) -> None:
    assert beyond(101, arithmetic, shared / "golden" / "frcnn" / f"{name}.npz") == []


def test_tf32_is_taken_by_fast_only_and_left_as_it_was() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for arithmetic, expected in (("exact", False), ("fast", True), ("fastest", False)):
        stages = build_stages(full_state(101), VISUAL_GENOME, device=torch.device("cuda"), arithmetic=arithmetic)
        with float32_only(stages):
            assert torch.backends.cudnn.allow_tf32 == expected
            assert not torch.backends.cuda.matmul.allow_tf32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


def test_alone_in_a_batch_and_in_another_order_give_the_same() -> None:
    made = Detector(full_state(101), sizes=VISUAL_GENOME, device="cuda")
    images = [prepare(noise(seed)) for seed in range(5)]
    together = made.detect(images)
    backwards = made.detect(images[::-1])[::-1]
    for image, first, second in zip(images, together, backwards, strict=True):
        for other in (second, made.detect([image])[0]):
            assert np.array_equal(first.anchors, other.anchors)
            assert np.array_equal(first.class_ids, other.class_ids)
            assert np.allclose(first.features, other.features, rtol=0, atol=1e-5)
            assert np.allclose(first.class_scores, other.class_scores, rtol=0, atol=1e-5)


def test_only_the_answer_is_waited_for(state: dict[str, Tensor], sizes: Architecture) -> None:
    """torch refuses every operation that would wait for the device; the event behind the answer is none of them."""
    made = Detector(state, sizes=sizes, device="cuda", arithmetic="fast")
    assert isinstance(made.stages, BatchedNetwork)
    images = [prepare(noise(seed)) for seed in range(2)]
    made.detect(images)  # libraries ask for memory the first time
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.inference_mode(), float32_only(made.stages):
            detect_together(made.stages, images, made.selection)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_stays_within_what_a_small_card_has() -> None:
    made = Detector(full_state(101), sizes=VISUAL_GENOME, device="cuda", arithmetic="fast")
    made.detect([prepare(noise(seed)) for seed in range(8)])
    assert torch.cuda.max_memory_allocated() < 8 << 30
