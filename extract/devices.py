"""Which devices `--device` means. Imports torch; loads nothing onto them."""

import torch

from sentifuse import ConfigError, ResourceError

__all__ = ["resolve_devices"]


def resolve_devices(asked: str) -> tuple[str, ...]:
    """`auto` → the first GPU, else the CPU; `cpu`; `cuda` → every GPU; `cuda:0,cuda:1` → these, one process each."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if asked == "auto":
        return (gpus[0],) if gpus else ("cpu",)
    if asked == "cuda":
        if not gpus:
            raise ResourceError("--device cuda: no CUDA device is there. Use --device cpu (or auto)")
        return tuple(gpus)
    names = tuple(name.strip() for name in asked.split(","))
    for name in names:
        if name != "cpu" and not name.startswith("cuda:"):
            raise ConfigError(f"--device: found {name!r}, expected auto, cpu, cuda, or cuda:0 (several with commas)")
        if name != "cpu" and name not in gpus:
            raise ResourceError(f"--device {name}: not there; this machine has: {', '.join(['cpu', *gpus])}")
    return names
