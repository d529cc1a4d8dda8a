"""What the detector's stages cost by count, and what the machine can do at most."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.kernels import Pointwise
from sentifuse.extract.detector.winograd import axis_matrices

POOLED = 14 * 14
SIDE = 2048  # of the matrices that a peak is measured with
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def nominal(sizes: Architecture, net_hw: tuple[int, int], proposals: int) -> dict[str, float]:
    """FLOP of each stage as the network is defined, a multiplication and an addition counted as two."""
    height, width = ((side + 1) // 2 for side in net_hw)
    early = 2 * height * width * sizes.base_width * 3 * 49
    height, width = (max(-(-(side - 3) // 2), 0) + 1 for side in (height, width))
    late = 0.0
    for number in (2, 3, 4):
        if number > 2:
            height, width = (height + 1) // 2, (width + 1) // 2
        cost = height * width * sum(sum(block) for block in blocks(sizes, number))
        early, late = (early, cost) if number == 4 else (early + cost, late)
    head = sizes.proposal_width * (9 * sizes.output_width(4) + 60)
    return {
        "early": early,  # stem, res2, res3
        "backbone": early + late,
        "RPN": 2 * height * width * head,
        "res5": proposals * POOLED * sum(sum(block) for block in blocks(sizes, 5)),
        "predictors": 2 * proposals * sizes.feature_width * (5 * sizes.class_count + 1),
    }


def done(sizes: Architecture, net_hw: tuple[int, int], proposals: int, windows: int) -> dict[str, float]:
    """FLOP that `fast.py` spends on products: fewer for shared windows, the shorter 3x3 and one class's deltas.

    Left out is what Winograd's transforms cost, which is spent for the saving and not for the network.
    """
    cost = nominal(sizes, net_hw, proposals)
    points = len(axis_matrices()[0])
    share = points**2 / (7 * 3) ** 2  # 121 products for 441
    rows = proposals * POOLED
    cost["res5"] = 0.0
    for number, (shortcut, first, middle, last) in enumerate(blocks(sizes, 5)):
        seen = windows if number == 0 else rows
        cost["res5"] += seen * (shortcut + first) + rows * (share * middle + last)
    cost["predictors"] = 2 * proposals * sizes.feature_width * (sizes.class_count + 5)
    return cost


def blocks(sizes: Architecture, number: int) -> list[tuple[int, int, int, int]]:
    """FLOP for each cell of output of each block of a stage: shortcut, 1x1, 3x3, 1x1."""
    inner, outer = sizes.bottleneck_width(number), sizes.output_width(number)
    found = []
    for block in range(sizes.depths[number - 2]):
        wide_in = sizes.input_width(number) if block == 0 else outer
        found.append((2 * wide_in * outer if block == 0 else 0, 2 * wide_in * inner, 18 * inner**2, 2 * inner * outer))
    return found


def peaks(*, side: int = SIDE, repeats: int = 5) -> dict[str, float]:
    """GFLOP/s of one core in a product of square matrices, by dtype: the best that BLAS or oneDNN gives here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return {name: max(_rates(dtype, side, repeats)) for name, dtype in DTYPES.items()}
    finally:
        torch.set_num_threads(before)


def _rates(dtype: torch.dtype, side: int, repeats: int) -> list[float]:
    rows, weight = (torch.randn(side, side).to(dtype) for _ in range(2))
    product = Pointwise(weight, torch.zeros(side), dtype=dtype)
    calls: Mapping[str, Callable[[], Any]] = {"BLAS": lambda: rows @ weight, "oneDNN": lambda: product(rows)}
    return [2 * side**3 / best_cpu_s(call, repeats) / 1e9 for call in calls.values()]


def best_cpu_s(call: Callable[[], Any], repeats: int) -> float:
    call()
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        call()
        best = min(best, time.process_time() - started)
    return max(best, 1e-9)


def dtypes_of(stages: Any) -> dict[str, str]:
    """In which dtype each part is computed; None stands for the naive variant."""
    if stages is None:
        return dict.fromkeys(("early", "late", "res5"), "float32")
    return {
        "early": str(stages.early_dtype).removeprefix("torch."),
        "late": "float32",
        "res5": str(stages.crops.dtype).removeprefix("torch."),
    }


def ideal_s(stage: str, cost: Mapping[str, float], dtypes: Mapping[str, str], peak: Mapping[str, float]) -> float:
    """Seconds that one core at its peak would take for a stage, each part in its dtype."""
    if stage == "backbone":
        parts = [(cost["early"], dtypes["early"]), (cost["backbone"] - cost["early"], dtypes["late"])]
    else:
        parts = [(cost[stage], dtypes["res5"] if stage == "res5" else "float32")]
    return sum(flop / peak[dtype] / 1e9 for flop, dtype in parts)
