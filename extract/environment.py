"""What extraction needs of this machine: Python, torch and torchvision as a pair, packages, processor, GPU.

Every function looks at one of these and says what it saw. Imports no library that may be the broken one at the top.
"""

import platform
import re
import sys
from dataclasses import dataclass
from importlib import metadata

from sentifuse import ResourceError
from sentifuse.cache.memory import free_memory_bytes
from sentifuse.extract.lanes import core_count
from sentifuse.extract.precision import BFLOAT16_FLAGS, cpu_flags

__all__ = [
    "REINSTALL",
    "BrokenLibrary",
    "Seen",
    "judge_torch",
    "see_gpu",
    "see_hdf5",
    "see_numpy",
    "see_operators",
    "see_packages",
    "see_processor",
    "see_python",
    "see_torch",
]

OLDEST_TORCH, NEWEST_TORCH = (2, 11), (2, 14)  # tested; the torchvision that goes with 2.N is 0.(N + 15)
VISION_AHEAD = 15
LEAST_PYTHON = (3, 11)
LEAST_MEMORY_GB = 2.0  # the detector takes 1.6
REINSTALL = "Install the tested set again: make setup (or pip install --constraint constraints.txt sentifuse)"


class BrokenLibrary(ResourceError):
    """A library is there and does not do what it must; the message says what to install."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look at something saw: ok, warning, failed or skipped, in words, and what to do about it."""

    found: str
    state: str = "ok"
    advice: str = ""


def see_python() -> Seen:
    """Python's version."""
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < LEAST_PYTHON:
        return Seen(found=found, state="failed", advice="Python 3.11 or newer is needed: make setup PYTHON=python3.11")
    return Seen(found=found)


def see_numpy() -> str:
    """The two that everything else stands on, and that they go together."""
    import numpy as np
    import PIL
    from PIL import Image

    bright = np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)
    if not np.array_equal(np.asarray(Image.fromarray(bright)), bright):
        raise BrokenLibrary(f"numpy {np.__version__} and Pillow {PIL.__version__} disagree about an image. {REINSTALL}")
    return f"numpy {np.__version__}, Pillow {PIL.__version__}"


def see_torch() -> Seen:
    """The installed versions of both."""
    return judge_torch(metadata.version("torch"), metadata.version("torchvision"))


def judge_torch(torch: str, torchvision: str) -> Seen:
    """Whether two versions are supported and belong together.

    >>> judge_torch("2.13.1+cpu", "0.28.0").state, judge_torch("2.13.1", "0.29.0").state
    ('ok', 'failed')
    """
    found = f"torch {torch}, torchvision {torchvision}"
    version, vision = _release(torch)[:2], _release(torchvision)[:2]
    if version < OLDEST_TORCH:
        return Seen(found=f"{found}: too old", state="failed", advice=_pair_to_install(NEWEST_TORCH))
    if vision != (0, version[1] + VISION_AHEAD):
        return Seen(found=f"{found}: not a pair", state="failed", advice=_pair_to_install(version))
    if version > NEWEST_TORCH:
        newest = ".".join(map(str, NEWEST_TORCH))
        return Seen(
            found=f"{found}: newer than what was tested", state="warning", advice=f"Tested up to torch {newest}"
        )
    return Seen(found=found)


def _pair_to_install(torch: tuple[int, ...]) -> str:
    major, minor = torch
    return f'Install a pair: pip install "torch=={major}.{minor}.*" "torchvision==0.{minor + VISION_AHEAD}.*"'


def see_operators() -> str:
    """Not that they are there: that they run. A torchvision built for another torch is found only so."""
    try:
        import torch
        from torchvision.ops import nms, roi_pool

        boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0], [1.0, 1.0, 33.0, 33.0], [48.0, 48.0, 64.0, 64.0]])
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
        pooled = roi_pool(torch.arange(16.0).view(1, 1, 4, 4), [boxes[:1]], 2, 1 / 16).flatten().tolist()
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        pair = _pair_to_install(_release(metadata.version("torch"))[:2])
        raise BrokenLibrary(
            f"{str(error).splitlines()[0]}: this torchvision does not go with this torch. {pair}"
        ) from error
    if (kept, pooled) != ([0, 2], [5.0, 6.0, 9.0, 10.0]):
        raise BrokenLibrary(
            f"nms kept {kept}, expected [0, 2]; roi_pool gave {pooled}, expected [5, 6, 9, 10]. {REINSTALL}"
        )
    return "nms and roi_pool run and are right"


def see_packages() -> Seen:
    """Every package this one requires, against its lower bound."""
    found, wrong = [], []
    for requirement in metadata.requires("sentifuse") or []:
        parts = re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", requirement)
        if parts is None or parts[1] in ("torch", "torchvision"):  # an extra's, or seen already
            continue
        name, least = parts[1], parts[2]
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        if _release(version) < _release(least):
            wrong.append(f"{name} {version}, at least {least} is needed")
    if wrong:
        return Seen(found="; ".join(wrong), state="failed", advice=REINSTALL)
    return Seen(found=", ".join(found))


def _release(version: str) -> tuple[int, ...]:
    """The numbers at the front of a version.

    >>> _release("2.14.1+cpu"), _release("11.3.0rc1")
    ((2, 14, 1), (11, 3, 0))
    """
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()


def see_hdf5() -> str:
    """The HDF5 that h5py brings."""
    import h5py

    return f"HDF5 {h5py.version.hdf5_version}, h5py {h5py.version.version}"


def see_processor() -> Seen:
    """Cores, the instructions that matter, free memory."""
    flags = [flag for flag in ("avx2", "avx512f", *BFLOAT16_FLAGS) if flag in cpu_flags()]
    free_bytes = free_memory_bytes()
    memory = "unknown" if free_bytes is None else f"{free_bytes / 1e9:.1f} GB"
    found = f"{core_count()} cores, {', '.join(flags) or 'flags unknown'}, {memory} of memory free"
    if free_bytes is not None and free_bytes < LEAST_MEMORY_GB * 1e9:
        advice = f"The detector takes up to 1.6 GB: free {LEAST_MEMORY_GB:.0f} GB before extracting regions"
        return Seen(found=found, state="warning", advice=advice)
    return Seen(found=found)


def see_gpu() -> str:
    """The GPUs torch can use."""
    import torch

    if not torch.cuda.is_available():
        return "none; everything runs on the processor"
    names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return "; ".join(f"cuda:{i} {gpu.name}, {gpu.total_memory / 1e9:.0f} GB" for i, gpu in enumerate(names))
