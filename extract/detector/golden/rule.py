"""Synthetic weights from an integer seed, by a rule anyone can repeat: with them golden numbers need no weight file.

Two profiles. Seeds below 100 are sharp: they enlarge small differences about 40 times, a test of exactness for full
float32. Seeds from 100 on are smooth, like a trained network: for reduced precision. Each tensor depends on the seed
and its own name only, so it does not matter which tensors are made, or in which order.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse.extract.detector.architecture import Architecture, TensorSpec, tensor_specs

__all__ = ["FIRST_SMOOTH_SEED", "digest_of_weights", "is_smooth", "synthetic_tensor", "synthetic_weights"]

FIRST_SMOOTH_SEED = 100
MEAN_OF_DRAW = 131070  # of the sum of four 16-bit fields, nearly
SPREAD_OF_DRAW = 37837.22

Floats = npt.NDArray[np.float64]


def is_smooth(seed: int) -> bool:
    """Whether a seed belongs to the smooth profile."""
    return seed >= FIRST_SMOOTH_SEED


def synthetic_weights(seed: int, architecture: Architecture) -> dict[str, npt.NDArray[Any]]:
    """All tensors of the architecture for a seed, in sorted order of their names."""
    return {key: synthetic_tensor(seed, key, spec) for key, spec in tensor_specs(architecture).items()}


def synthetic_tensor(seed: int, key: str, spec: TensorSpec) -> npt.NDArray[Any]:
    """One tensor: computed in float64, rounded to its dtype once."""
    if key.endswith(".num_batches_tracked"):
        return np.zeros(spec.shape, dtype=np.int64)
    if key.endswith("cell_anchors.0"):
        return _anchors(seed).astype(np.float32)
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    generator = np.random.PCG64(int.from_bytes(digest[:8], "little"))
    raw = generator.random_raw(int(np.prod(spec.shape))).reshape(spec.shape)
    return _value(key, raw, is_smooth=is_smooth(seed)).astype(np.float32)


def digest_of_weights(weights: Mapping[str, npt.NDArray[Any]]) -> str:
    """SHA-256 over all tensors in sorted order: name, a zero byte, the values as little-endian bytes."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        array = np.ascontiguousarray(weights[key])
        digest.update(key.encode() + b"\0")
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _value(key: str, raw: npt.NDArray[np.uint64], *, is_smooth: bool) -> Floats:
    if ".norm." in key:
        return _norm(key, raw, is_smooth=is_smooth)
    name, _, part = key.rpartition(".")
    layer = name.rpartition(".")[2]
    if part == "bias":
        return _bias(layer, raw, is_smooth=is_smooth)
    if layer == "cls_embedding":
        return _normal(raw)
    factors = {
        "objectness_logits": 0.07 if is_smooth else 0.05,
        "anchor_deltas": 0.006 if is_smooth else 0.005,
        "cls_score": 0.09 if is_smooth else 0.06,
        "bbox_pred": 0.02,
        "attr_score": 0.15,
    }
    fan_in = int(np.prod(raw.shape[1:]))
    factor = factors[layer] if layer in factors else np.sqrt(3.0 / fan_in)
    return _centred(raw) * factor


def _norm(key: str, raw: npt.NDArray[np.uint64], *, is_smooth: bool) -> Floats:
    part = key.rpartition(".")[2]
    is_stem = ".stem." in key
    if part == "running_mean":
        return _normal(raw) * (10.0 if is_stem else 0.3)
    if part == "running_var":
        return _uniform(raw, 6000.0, 14000.0) if is_stem else _uniform(raw, 0.6, 1.4)
    if part == "bias":
        return _uniform(raw, -0.4, 0.4) if is_smooth else _uniform(raw, -0.6, 0.2)
    if ".conv3." in key:  # the last of a bottleneck: decides how much a block adds to what passes by
        return _uniform(raw, 0.1, 0.2) if is_smooth else _uniform(raw, 0.3, 0.5)
    return _uniform(raw, 0.8, 1.2)


def _bias(layer: str, raw: npt.NDArray[np.uint64], *, is_smooth: bool) -> Floats:
    bounds = {"objectness_logits": 1.0, "cls_score": 0.5, "bbox_pred": 0.2, "attr_score": 0.3}
    bound = bounds.get(layer, 0.1)
    values = _uniform(raw, -bound, bound)
    if layer == "cls_score":
        values[-1] = 14.0 if is_smooth else 10.0  # background
    return values


def _draw(raw: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    total = np.zeros(raw.shape, dtype=np.int64)
    for shift in (0, 16, 32, 48):
        total += ((raw >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    return total - MEAN_OF_DRAW


def _normal(raw: npt.NDArray[np.uint64]) -> Floats:
    return _draw(raw).astype(np.float64) / SPREAD_OF_DRAW


def _centred(raw: npt.NDArray[np.uint64]) -> Floats:
    draw = _draw(raw)
    axes = tuple(range(1, draw.ndim))
    mean = draw.sum(axis=axes, keepdims=True).astype(np.float64) / np.prod(draw.shape[1:])
    centred: Floats = (draw.astype(np.float64) - mean) / SPREAD_OF_DRAW
    return centred


def _uniform(raw: npt.NDArray[np.uint64], low: float, high: float) -> Floats:
    values: Floats = low + (high - low) * ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53)
    return values


def _anchors(seed: int) -> Floats:
    """Odd seeds have the formula's anchors, even ones Caffe's: who ignores stored anchors fails on the even seeds."""
    from sentifuse.extract.detector.boxes import cell_anchors, cell_anchors_of_caffe  # imports torch

    anchors: Floats = (cell_anchors() if seed % 2 else cell_anchors_of_caffe()).double().numpy()
    return anchors
