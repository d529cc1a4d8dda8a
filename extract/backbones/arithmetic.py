"""How a forward pass is computed in half precision; float32 means: no reduced precision anywhere."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

__all__ = ["half_precision"]


@contextmanager
def half_precision(device: torch.device, dtype: str) -> Iterator[None]:
    """Run the block in "float16" or "bfloat16" where autocast allows it; "float32" switches every short cut off.

    Autocast keeps softmax and norms in float32. Weights stay float32 in memory.
    """
    is_half = dtype != "float32"
    # By default a GPU's convolutions take TF32 for float32: ten bits instead of 23.
    plain = device.type == "cuda" and not is_half
    with (
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if plain else nullcontext(),
        torch.autocast(device.type, dtype=getattr(torch, dtype) if is_half else None, enabled=is_half),
    ):
        yield
