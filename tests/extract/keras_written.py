"""Files in the layout of the original's checkpoints, with small shapes, and its forward pass in plain numpy, float64.

The pass is written from the description of the model, not from our code: it reads Keras' own kernels, as Keras would.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.special import erf, softmax

from sentifuse.extract.keras_names import Variant

HEAD_WIDTH = 5
Array = Any


def keras_weights(size: Variant, seed: int = 0) -> dict[str, Array]:
    """Numbers under the names that vit_keras gives them, the head's as Keras numbers its layers.

    Tokens are small (1e-3), so that LayerNorm's epsilon matters; attention is far from uniform.
    """
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 0.4) -> Array:
        return rng.normal(scale=scale, size=shape).astype(np.float32)

    d, m, p = size.hidden_size, size.mlp_size, size.patch_px
    weights = {
        "embedding/kernel": normal(p, p, 3, d, scale=1e-4),
        "embedding/bias": normal(d, scale=1e-3),
        "class_token/cls": normal(1, 1, d, scale=1e-3),
        "Transformer/posembed_input/pos_embedding": normal(1, size.token_count, d, scale=1e-3),
    }
    for n in range(size.layer_count):
        block = f"Transformer/encoderblock_{n}"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            weights[f"{block}/{norm}/gamma"] = 1 + normal(d, scale=0.1)
            weights[f"{block}/{norm}/beta"] = normal(d, scale=0.1)
        for part in ("query", "key", "value", "out"):
            weights[f"{block}/MultiHeadDotProductAttention_1/{part}/kernel"] = normal(d, d)
            weights[f"{block}/MultiHeadDotProductAttention_1/{part}/bias"] = normal(d)
        for part, (read, made) in {"Dense_0": (d, m), "Dense_1": (m, d)}.items():
            weights[f"{block}/{block}/{part}/kernel"] = normal(read, made)  # their layer's name holds the block's
            weights[f"{block}/{block}/{part}/bias"] = normal(made)
    weights["Transformer/encoder_norm/gamma"] = 1 + normal(d, scale=0.1)
    weights["Transformer/encoder_norm/beta"] = normal(d, scale=0.1)
    for name, (read, made) in {"dense": (d, HEAD_WIDTH), "dense_1": (HEAD_WIDTH, 3)}.items():
        weights[f"{name}/kernel"] = normal(read, made, scale=0.8)
        weights[f"{name}/bias"] = normal(made)
    return weights


def model_config(size: Variant, *, gelu: Any = "Addons>gelu") -> dict[str, Any]:
    """What Keras 2 writes of a Sequential of the transformer and two dense layers; only what is looked at."""

    def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
        return {"class_name": kind, "config": {"name": name, **config}}

    blocks = [
        layer("Custom>TransformerBlock", f"Transformer/encoderblock_{n}", num_heads=size.attention_heads)
        for n in range(size.layer_count)
    ]
    vit = [
        layer("InputLayer", "input_1"),
        layer("Conv2D", "embedding", activation="linear"),
        layer("Reshape", "reshape"),
        layer("Custom>ClassToken", "class_token"),
        layer("Custom>AddPositionEmbs", "Transformer/posembed_input"),
        *blocks,
        layer("LayerNormalization", "Transformer/encoder_norm", epsilon=1e-6),
        layer("Lambda", "ExtractToken", function=["not to be run", None, None]),
    ]
    whole = [
        layer("Functional", "vit-small", layers=vit),
        layer("Dense", "dense", activation=gelu),
        layer("Dense", "dense_1", activation="softmax"),
    ]
    return layer("Sequential", "vision_transformer", layers=whole)


def write_keras(
    file: Path, weights: Mapping[str, Array], *, config: Mapping[str, Any] | None = None, is_nested: bool = True
) -> Path:
    """Write a checkpoint: the whole model where a config is given, else weights alone.

    A nested model's group bears its name; in a flat one every layer has its own.
    """
    with h5py.File(file, "w") as opened:
        root = opened
        if config is not None:
            opened.attrs["model_config"] = json.dumps(config)
            opened.attrs["keras_version"] = "2.8.0"
            opened["optimizer_weights/RectifiedAdam/dense/kernel/m:0"] = np.zeros((2, 2), np.float32)
            root = opened.create_group("model_weights")
        root.create_group("top_level_model_weights")
        for name, value in weights.items():
            first = name.partition("/")[0]
            layer = "vit-small" if is_nested and not first.startswith("dense") else first
            root[f"{layer}/{name}:0"] = value
    return file


def forward(weights: Mapping[str, Array], size: Variant, image: Array) -> tuple[Array, Array]:
    """Probabilities (3,) and class token (D,) of one image, uint8 (H, W, 3) of the model's own size."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    pixels = image / 255.0 if size.is_zero_to_one else image / 127.5 - 1.0
    p, count = size.patch_px, size.image_px // size.patch_px
    patches = [
        np.tensordot(pixels[i * p : (i + 1) * p, j * p : (j + 1) * p], w["embedding/kernel"], axes=3)
        for i in range(count)
        for j in range(count)
    ]
    x = np.concatenate([w["class_token/cls"][0], np.stack(patches) + w["embedding/bias"]])
    x = x + w["Transformer/posembed_input/pos_embedding"][0]
    for n in range(size.layer_count):
        block = f"Transformer/encoderblock_{n}"
        x = x + attention(w, f"{block}/MultiHeadDotProductAttention_1", norm(w, f"{block}/LayerNorm_0", x), size)
        y = norm(w, f"{block}/LayerNorm_2", x)
        y = y @ w[f"{block}/{block}/Dense_0/kernel"] + w[f"{block}/{block}/Dense_0/bias"]
        y = 0.5 * y * (1 + erf(y / np.sqrt(2)))
        x = x + y @ w[f"{block}/{block}/Dense_1/kernel"] + w[f"{block}/{block}/Dense_1/bias"]
    token = norm(w, "Transformer/encoder_norm", x)[0]
    z = token @ w["dense/kernel"] + w["dense/bias"]
    z = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    return softmax(z @ w["dense_1/kernel"] + w["dense_1/bias"]), token


def attention(w: Mapping[str, Array], name: str, x: Array, size: Variant) -> Array:
    """One head after the other."""
    query, key, value = (
        x @ w[f"{name}/{part}/kernel"] + w[f"{name}/{part}/bias"] for part in ("query", "key", "value")
    )
    width = size.hidden_size // size.attention_heads
    heads = []
    for h in range(size.attention_heads):
        part = slice(h * width, (h + 1) * width)
        shares = softmax(query[:, part] @ key[:, part].T / np.sqrt(width), axis=1)
        heads.append(shares @ value[:, part])
    return np.concatenate(heads, axis=1) @ w[f"{name}/out/kernel"] + w[f"{name}/out/bias"]


def norm(w: Mapping[str, Array], name: str, x: Array) -> Array:
    """Layer norm with the original's epsilon."""
    centred = x - x.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
    return centred / spread * w[f"{name}/gamma"] + w[f"{name}/beta"]
