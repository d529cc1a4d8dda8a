"""--precision on the detector: what a recipe says is what the network does, and devices that cannot be fast say so."""

import pytest
import torch
from torch import Tensor

from sentifuse import ConfigError
from sentifuse.extract import precision
from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.arithmetic import build_stages
from sentifuse.extract.detector.batched import BatchedNetwork
from sentifuse.extract.detector.fast import FastNetwork
from sentifuse.extract.detector.precision import arithmetic_of, choose_arithmetic


@pytest.mark.parametrize(
    ("asked", "device", "flags", "expected"),
    [
        ("exact", "cpu", {"avx512_bf16"}, "float32"),
        ("exact", "cuda:1", set(), "float32"),
        ("fast", "cpu", {"avx512_bf16", "avx2"}, "bfloat16 crops"),
        ("fast", "cpu", {"avx2"}, "float32"),
        ("fast", "cuda", set(), "tf32, float16 crops"),
        ("fastest", "cpu", {"amx_bf16"}, "bfloat16 crops"),
        ("fastest", "cpu", set(), "float32"),
        ("fastest", "cuda:0", {"amx_bf16"}, "float16"),
    ],
)
def test_the_table(asked: str, device: str, flags: set[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    assert choose_arithmetic(asked, device=device).dtype == expected


@pytest.mark.parametrize("asked", ["fast", "fastest"])
def test_a_cpu_without_bfloat16_says_that_it_is_exact(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx2"}))
    note = choose_arithmetic(asked, device="cpu").note
    assert note == f"{asked} equals exact: this CPU has none of avx512_bf16, amx_bf16"
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    assert "bfloat16 (amx_bf16) in the last stage" in choose_arithmetic(asked, device="cpu").note


def test_on_a_cpu_fastest_says_that_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    fast, fastest = (choose_arithmetic(asked, device="cpu") for asked in ("fast", "fastest"))
    assert fast.dtype == fastest.dtype
    assert fastest.note.startswith("fastest equals fast: ")


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'fast'"):
        choose_arithmetic("fst", device="cpu")


@pytest.mark.parametrize(
    ("asked", "early", "crops"),
    [
        ("exact", torch.float64, torch.float32),
        ("fast", torch.float32, torch.bfloat16),
        ("fastest", torch.float32, torch.bfloat16),
    ],
)
def test_the_network_computes_in_what_the_recipe_says(
    asked: str,
    early: torch.dtype,
    crops: torch.dtype,
    state: dict[str, Tensor],
    sizes: Architecture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    dtype = choose_arithmetic(asked, device="cpu").dtype
    stages = build_stages(state, sizes, device=torch.device("cpu"), arithmetic=arithmetic_of(dtype))
    assert isinstance(stages, FastNetwork)
    assert (stages.early_dtype, stages.crops.dtype) == (early, crops)
    assert ("bfloat16" in dtype) == (crops == torch.bfloat16)


def test_a_worker_obeys_the_recipe_whatever_its_own_processor_has(
    state: dict[str, Tensor], sizes: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    recipe = choose_arithmetic("fast", device="cpu").dtype
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx2"}))
    stages = build_stages(state, sizes, device=torch.device("cpu"), arithmetic=arithmetic_of(recipe))
    assert isinstance(stages, FastNetwork)
    assert (recipe, stages.crops.dtype) == ("bfloat16 crops", torch.bfloat16)


@pytest.mark.parametrize(
    ("asked", "backbone", "crops", "is_tf32"),
    [
        ("exact", torch.float32, torch.float32, False),
        ("fast", torch.float32, torch.float16, True),
        ("fastest", torch.float16, torch.float16, False),
    ],
)
def test_the_network_of_a_gpu_computes_in_what_the_recipe_says(
    asked: str, backbone: torch.dtype, crops: torch.dtype, is_tf32: bool, state: dict[str, Tensor], sizes: Architecture
) -> None:
    dtype = choose_arithmetic(asked, device="cuda").dtype
    stages = build_stages(state, sizes, device=torch.device("meta"), arithmetic=arithmetic_of(dtype))  # any but a CPU
    assert isinstance(stages, BatchedNetwork)
    assert (stages.backbone_dtype, stages.crop_dtype, stages.is_tf32) == (backbone, crops, is_tf32)
    assert ("tf32" in dtype, dtype == "float16") == (is_tf32, backbone == torch.float16)
