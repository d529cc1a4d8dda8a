"""In which number format a training step multiplies matrices: bfloat16 where the recipe says so, else as they come.

Only products are rounded: parameters, optimiser states, statistics, softmax and losses stay in float32. Built on
torch's autocast; knows no head.
"""

from contextlib import AbstractContextManager, nullcontext

import torch


def rounded_products(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Inside, layers multiply in this precision, "float32" or "bfloat16"; with the former nothing is changed at all."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Inside, products are of the precision of their factors, wherever it stands."""
    return torch.autocast(device.type, enabled=False)


def are_products_rounded(device: torch.device) -> bool:
    return torch.is_autocast_enabled(device.type)


def widen(values: torch.Tensor) -> torch.Tensor:
    """Values of half a word in float32; all others as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
