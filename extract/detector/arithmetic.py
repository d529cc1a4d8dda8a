"""The ways to compute the network, by name: which implementation, in which dtypes.

plain    as written in `network.py`; slow, the measure of the others
exact    float32, the first stages float64, rearranged (`fast.py`)
fast     float32, but the last stage, run on every proposal, in half precision: proposals stay the same
fastest  the backbone in half precision too: some proposals become others
float64  plain, in double precision
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.network import build_network
from sentifuse.extract.detector.stages import Stages
from sentifuse.extract.precision import BFLOAT16_FLAGS, cpu_flags

__all__ = ["ARITHMETICS", "build_stages", "float32_only"]

ARITHMETICS = ("plain", "exact", "fast", "fastest", "float64")


def build_stages(state: Mapping[str, Tensor], sizes: Architecture, *, device: torch.device, arithmetic: str) -> Stages:
    """An implementation with these weights on a device."""
    if arithmetic in ("plain", "float64"):
        dtype = torch.float64 if arithmetic == "float64" else torch.float32
        return build_network(state, sizes, device=device, dtype=dtype)
    from sentifuse.extract.detector.fast import FastNetwork

    half = torch.float16 if device.type == "cuda" else torch.bfloat16
    if device.type == "cpu" and not any(flag in cpu_flags() for flag in BFLOAT16_FLAGS):
        half = torch.float32  # without such instructions bfloat16 is six times as slow as float32
    backbone = half if arithmetic == "fastest" else torch.float32
    return FastNetwork(
        state,
        sizes,
        device=device,
        early_dtype=torch.float64 if arithmetic == "exact" else backbone,
        backbone_dtype=backbone,
        crop_dtype=torch.float32 if arithmetic == "exact" else half,
    )


@contextmanager
def float32_only(stages: Stages) -> Iterator[None]:
    """A GPU's float32 with all its 23 bits: by default its convolutions take TF32, which has ten."""
    if stages.device.type != "cuda":
        yield
        return
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
