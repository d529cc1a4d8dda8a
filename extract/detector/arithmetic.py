"""The ways to compute the network, by name: which implementation, in which dtypes.

plain    as written in `network.py`; slow, the measure of the others
exact    float32, the first stages float64, rearranged (`fast.py`, on a GPU `batched.py`)
fast     the last stage, run on every proposal, in half precision; on a GPU the backbone in TF32
fastest  on a GPU the backbone in half precision too; on a CPU the same as fast
float64  plain, in double precision

Measured by the regions that must be found again on the two smooth golden images, of which two may be missing: with the
backbone in bfloat16 3 and 5 are, with parts of it in bfloat16 up to 5; in float16 1 and 1, in TF32 none (both
emulated). On a CPU, which has only bfloat16, its gain would be a tenth of the time: so it is left out.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.batched import BatchedNetwork
from sentifuse.extract.detector.fast import FastNetwork
from sentifuse.extract.detector.network import build_network
from sentifuse.extract.detector.stages import Stages

__all__ = ["ARITHMETICS", "build_stages", "float32_only"]

ARITHMETICS = ("plain", "exact", "fast", "fastest", "float64")


def build_stages(state: Mapping[str, Tensor], sizes: Architecture, *, device: torch.device, arithmetic: str) -> Stages:
    """An implementation with these weights on a device."""
    if arithmetic in ("plain", "float64"):
        dtype = torch.float64 if arithmetic == "float64" else torch.float32
        return build_network(state, sizes, device=device, dtype=dtype)
    if device.type != "cpu":
        backbone = torch.float16 if arithmetic == "fastest" else torch.float32
        return BatchedNetwork(
            state,
            sizes,
            device=device,
            early_dtype=torch.float64 if arithmetic == "exact" else backbone,
            backbone_dtype=backbone,
            crop_dtype=torch.float32 if arithmetic == "exact" else torch.float16,
            is_tf32=arithmetic == "fast",
        )
    # What was asked for, whatever this processor is good at: a recipe has named it already, maybe on another machine.
    if arithmetic == "exact":
        return FastNetwork(state, sizes)
    return FastNetwork(state, sizes, early_dtype=torch.float32, crop_dtype=torch.bfloat16)


@contextmanager
def float32_only(stages: Stages) -> Iterator[None]:
    """A GPU's float32 with all its 23 bits, but for convolutions that are meant to take TF32, which has ten.

    By default all its convolutions do, and half precision is summed up in half precision. Sets flags of the
    process: for one thread at a time, as a GPU has.
    """
    if stages.device.type != "cuda":
        yield
        return
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32, matmul.allow_fp16_reduced_precision_reduction
    matmul.allow_tf32 = matmul.allow_fp16_reduced_precision_reduction = False
    try:
        is_tf32 = isinstance(stages, BatchedNetwork) and stages.is_tf32
        cudnn = torch.backends.cudnn
        with cudnn.flags(
            enabled=True, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=is_tf32
        ):
            yield
    finally:
        matmul.allow_tf32, matmul.allow_fp16_reduced_precision_reduction = before
