"""The parts of the heads written as slow loops over one pair, in float64 and without torch's arithmetic.

The fixture `loops` hands this module to the tests of the heads, since test modules cannot import each other.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sentifuse.fuse.features.batches import Batch

Vector = np.ndarray[Any, np.dtype[np.float64]]


def array(tensor: torch.Tensor) -> Vector:
    return tensor.detach().numpy()


def real(batch: Batch, key: str, row: int) -> list[Vector]:
    """The real elements of a sequence."""
    return [v for v, is_real in zip(array(batch.values[key][row]), batch.masks[key][row], strict=True) if is_real]


def vector(batch: Batch, key: str, row: int) -> Vector | None:
    """The vector of a pair, or None; a sequence's mean."""
    if batch.masks[key].dim() == 2:
        elements = real(batch, key, row)
        return sum(elements) / len(elements) if elements else None
    return array(batch.values[key][row]) if batch.masks[key][row] else None


def standardised(layer: Any, value: Vector | None, width: int) -> Vector:
    """(x − mean) / scale, zero where there is nothing."""
    if value is None:
        return np.zeros(width)
    return np.array([(x - m) / s for x, m, s in zip(value, array(layer.mean), array(layer.scale), strict=True)])


def mean(values: Sequence[Vector], width: int) -> Vector:
    return sum(values, np.zeros(width)) / max(1, len(values))


def linear(layer: torch.nn.Linear, x: Vector) -> Vector:
    bias = np.zeros(layer.out_features) if layer.bias is None else array(layer.bias)
    return np.array([math.fsum(w * x) + b for w, b in zip(array(layer.weight), bias, strict=True)])


def sigmoid(x: Vector) -> Vector:
    return np.array([1 / (1 + math.exp(-value)) for value in x])


def relu(x: Vector) -> Vector:
    return np.array([max(0.0, value) for value in x])


def gelu(x: Vector) -> Vector:
    return np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x])


def softmax(scores: Sequence[float]) -> list[float]:
    powers = [math.exp(s - max(scores)) for s in scores]
    return [p / math.fsum(powers) for p in powers]


def weighted(weights: Sequence[float], values: Sequence[Vector], width: int) -> Vector:
    return sum((w * v for w, v in zip(weights, values, strict=True)), np.zeros(width))


def layer_norm(layer: torch.nn.LayerNorm, x: Vector) -> Vector:
    centred = x - x.mean()
    scale = math.sqrt((centred**2).mean() + layer.eps)
    return centred / scale * array(layer.weight) + array(layer.bias)


def batch_norm(layer: torch.nn.BatchNorm1d, x: Vector) -> Vector:
    """As in evaluation."""
    scale = np.sqrt(array(layer.running_var) + layer.eps)
    return (x - array(layer.running_mean)) / scale * array(layer.weight) + array(layer.bias)


def additive(layer: Any, keys: Sequence[Vector], *queries: Vector) -> tuple[Vector, list[float]]:
    """s_j = wᵀ tanh(W_k k_j + b + Σ W_i q_i); the weighted sum of the keys and the weights."""
    asked = sum(linear(part, query) for part, query in zip(layer.queries, queries, strict=True))
    scores = [float(linear(layer.score, np.tanh(linear(layer.key, key) + asked))[0]) for key in keys]
    weights = softmax(scores) if keys else []
    return weighted(weights, keys, layer.key.in_features), weights


def lstm(layer: torch.nn.LSTM, words: Sequence[Vector]) -> list[Vector]:
    """Gates i, f, g, o; c' = f c + i g, h' = o tanh(c')."""
    w_i, w_h, b_i, b_h = (array(getattr(layer, f"{n}_l0")) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    d = layer.hidden_size
    h, c, states = np.zeros(d), np.zeros(d), []
    for x in words:
        a = w_i @ x + b_i + w_h @ h + b_h
        i, f, g, o = sigmoid(a[:d]), sigmoid(a[d : 2 * d]), np.tanh(a[2 * d : 3 * d]), sigmoid(a[3 * d :])
        c = f * c + i * g
        h = o * np.tanh(c)
        states.append(h)
    return states


def both_ways(layer: Any, words: Sequence[Vector]) -> list[Vector]:
    """The states of a BiLstm."""
    ahead, back = lstm(layer.ahead.lstm, words), lstm(layer.back.lstm, words[::-1])[::-1]
    return [np.concatenate(pair) for pair in zip(ahead, back, strict=True)]


def gru_cell(layer: torch.nn.GRUCell, x: Vector, h: Vector) -> Vector:
    """Gates r, z, n; h' = (1 − z) n + z h."""
    a = array(layer.weight_ih) @ x + array(layer.bias_ih)
    b = array(layer.weight_hh) @ h + array(layer.bias_hh)
    d = layer.hidden_size
    r, z = sigmoid(a[:d] + b[:d]), sigmoid(a[d : 2 * d] + b[d : 2 * d])
    return (1 - z) * np.tanh(a[2 * d :] + r * b[2 * d :]) + z * h


def multi_head(layer: Any, asking: Sequence[Vector], memory: Sequence[Vector]) -> list[Vector]:
    """Scaled dot products, head by head."""
    keys, values = [linear(layer.key, m) for m in memory], [linear(layer.value, m) for m in memory]
    width = layer.output.in_features // layer.heads
    results = []
    for one in asking:
        query, parts = linear(layer.query, one), []
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            scores = [float(query[part] @ key[part]) / math.sqrt(width) for key in keys]
            parts.append(weighted(softmax(scores), [value[part] for value in values], width))
        results.append(linear(layer.output, np.concatenate(parts)))
    return results


def stirred(head: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The head in float64 and evaluation mode, no parameter or running statistic at its start."""
    generator = torch.Generator().manual_seed(seed)
    head.double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for module in head.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                n = module.num_features
                module.running_mean.copy_(torch.randn(n, generator=generator, dtype=torch.float64))
                module.running_var.copy_(0.5 + torch.rand(n, generator=generator, dtype=torch.float64))
    return head.eval()
