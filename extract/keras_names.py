"""Names and shapes of the weights of "The Emotions of the Crowd" (Keras), and what they are called in a student folder.

Compares before it reads. Knows no configs and writes nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.keras_h5 import KerasFile

__all__ = ["VARIANTS", "Variant", "by_meaning", "find_variant", "hidden_width", "read_tensors"]

CLASS_COUNT = 3
SHOWN = 4

# Shapes: P side of a patch, T patches and the class token, D width of the model, M of its hidden layers, W of the
# head's.
Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One of the published sizes, and what it was trained on.

    `is_zero_to_one`: pixels from 0 to 1, not from -1 to 1.
    """

    patch_px: int
    image_px: int
    hidden_size: int
    mlp_size: int
    layer_count: int
    attention_heads: int
    is_zero_to_one: bool = False

    @property
    def token_count(self) -> int:
        """Patches and the class token."""
        return (self.image_px // self.patch_px) ** 2 + 1


_B_16 = Variant(patch_px=16, image_px=384, hidden_size=768, mlp_size=3072, layer_count=12, attention_heads=12)
_L_16 = Variant(patch_px=16, image_px=384, hidden_size=1024, mlp_size=4096, layer_count=24, attention_heads=16)
VARIANTS: dict[str, Variant] = {
    "B_16": _B_16,
    "B_32": replace(_B_16, patch_px=32, image_px=224, is_zero_to_one=True),
    "L_16": _L_16,
    "L_32": replace(_L_16, patch_px=32),
}

# What a weight is, told by the end of its name. Keras puts the names of models and layers before it, some of them
# twice, and older files join the parts with "_".
_BLOCK = re.compile(
    r"(?:.*[/_])?encoderblock_(?P<block>\d+)(?:[/_].*)?[/_]"
    r"(?P<part>LayerNorm_0|LayerNorm_2|query|key|value|out|Dense_0|Dense_1)/(?P<leaf>kernel|bias|gamma|beta)"
)
_OTHERS: Mapping[str, re.Pattern[str]] = {
    "embedding/kernel": re.compile(r"(?:.*/)?embedding/kernel"),
    "embedding/bias": re.compile(r"(?:.*/)?embedding/bias"),
    "class_token/cls": re.compile(r"(?:.*/)?(?:class_token/.*|cls)"),
    "posembed_input/pos_embedding": re.compile(r"(?:.*/)?(?:(?:.*_)?posembed_input/.*|pos_embedding)"),
    "encoder_norm/gamma": re.compile(r"(?:.*[/_])?encoder_norm/gamma"),
    "encoder_norm/beta": re.compile(r"(?:.*[/_])?encoder_norm/beta"),
}
_HEAD = "head: "  # before the names of what is left, which should be the two dense layers of the head


def by_meaning(opened: KerasFile, source: Path) -> dict[str, Any]:
    """The file's datasets by what they are."""
    found: dict[str, Any] = {}
    for name, dataset in opened.weights.items():
        if match := _BLOCK.fullmatch(name):
            meaning = f"encoderblock_{int(match['block'])}/{match['part']}/{match['leaf']}"
        else:
            meaning = next((key for key, end in _OTHERS.items() if end.fullmatch(name)), _HEAD + name)
        if meaning in found:
            raise ModelMismatch(f"{source}: {found[meaning].name} and {dataset.name} are both {meaning}, expected one")
        found[meaning] = dataset
    return found


def find_variant(found: Mapping[str, Any], asked: str | None, source: Path) -> str:
    """The size that the first layer's kernel and the positions tell."""
    if "embedding/kernel" not in found:
        raise ModelMismatch(f"{source}: no embedding/kernel among {len(found)} weights: not a ViT of vit_keras")
    shape = found["embedding/kernel"].shape
    told = [n for n, size in VARIANTS.items() if shape == (size.patch_px, size.patch_px, 3, size.hidden_size)]
    if not told:
        raise ModelMismatch(f"{source}: embedding/kernel has shape {shape}, that of none of {', '.join(VARIANTS)}")
    if asked is not None and asked not in told:
        raise ModelMismatch(
            f"{source}: weights of {told[0]}, expected {asked}; leave --variant out or name another file"
        )
    name, positions = asked or told[0], found.get("posembed_input/pos_embedding")
    size = VARIANTS[name]
    if positions is not None and len(positions.shape) == 3 and positions.shape[1] != size.token_count:
        raise ModelMismatch(
            f"{source}: positions for {positions.shape[1]} tokens, expected {size.token_count} ({name} at "
            f"{size.image_px} px). At another size it is not known which range its pixels had"
        )
    return name


def hidden_width(found: Mapping[str, Any], size: Variant, source: Path) -> int:
    """Width of the head's first layer, told by the one kernel that reads the class token."""
    kernels = {
        name.removeprefix(_HEAD): dataset.shape
        for name, dataset in found.items()
        if name.startswith(_HEAD) and name.endswith("/kernel")
    }
    widths = [shape[1] for shape in kernels.values() if len(shape) == 2 and shape[0] == size.hidden_size]
    is_pair = len(kernels) == 2 and len(widths) == 1 and (widths[0], CLASS_COUNT) in kernels.values()
    if not is_pair:
        spoken = ", ".join(f"{name} {shape}" for name, shape in kernels.items()) or "none"
        raise ModelMismatch(
            f"{source}: weights of the head are missing or others: expected two dense layers, {size.hidden_size} to W "
            f"and W to {CLASS_COUNT}; found {spoken}"
        )
    return int(widths[0])


def read_tensors(found: Mapping[str, Any], size: Variant, width: int, source: Path) -> dict[str, Array]:
    """Tensors of the student, float32, after all names and shapes were compared."""
    expected = _expected(size)
    found = dict(found)
    for layer, (read, made) in {"hidden": (size.hidden_size, width), "classifier": (width, CLASS_COUNT)}.items():
        kernel = next(n for n, d in found.items() if n.startswith(_HEAD) and d.shape == (read, made))
        expected[kernel] = (f"head.{layer}.weight", (read, made))
        expected[f"{kernel.removesuffix('/kernel')}/bias"] = (f"head.{layer}.bias", (made,))
    _compare({name: dataset.shape for name, dataset in found.items()}, {n: s for n, (_, s) in expected.items()}, source)
    tensors = {}
    for name, (ours, _) in expected.items():
        values = np.asarray(found[name][()], dtype=np.float32)
        if not np.isfinite(values).all():
            raise ModelMismatch(f"{source}: {found[name].name} has values that are not finite; fetch the file again")
        tensors[ours] = _turned(values) if name.endswith("/kernel") else values
    return tensors


def _turned(kernel: Array) -> Array:
    """Keras' kernels as torch has them: dense (in, out) → (out, in), convolution (P, P, in, out) → (out, in, P, P)."""
    return np.ascontiguousarray(kernel.transpose((3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)))


def _expected(size: Variant) -> dict[str, tuple[str, Shape]]:
    """Meaning -> our name and Keras' shape, for everything below the head."""
    width = size.hidden_size
    table: dict[str, tuple[str, Shape]] = {
        "class_token/cls": ("vit.embeddings.cls_token", (1, 1, width)),
        "posembed_input/pos_embedding": ("vit.embeddings.position_embeddings", (1, size.token_count, width)),
        "encoder_norm/gamma": ("vit.layernorm.weight", (width,)),
        "encoder_norm/beta": ("vit.layernorm.bias", (width,)),
        "embedding/kernel": (
            "vit.embeddings.patch_embeddings.projection.weight",
            (size.patch_px, size.patch_px, 3, width),
        ),
        "embedding/bias": ("vit.embeddings.patch_embeddings.projection.bias", (width,)),
    }
    dense = {
        "query": ("attention.q_proj", width, width),
        "key": ("attention.k_proj", width, width),
        "value": ("attention.v_proj", width, width),
        "out": ("attention.o_proj", width, width),
        "Dense_0": ("mlp.fc1", width, size.mlp_size),
        "Dense_1": ("mlp.fc2", size.mlp_size, width),
    }
    for n in range(size.layer_count):
        before, ours = f"encoderblock_{n}", f"vit.layers.{n}"
        for theirs, norm in (("LayerNorm_0", "layernorm_before"), ("LayerNorm_2", "layernorm_after")):
            table[f"{before}/{theirs}/gamma"] = (f"{ours}.{norm}.weight", (width,))
            table[f"{before}/{theirs}/beta"] = (f"{ours}.{norm}.bias", (width,))
        for theirs, (name, read, made) in dense.items():
            table[f"{before}/{theirs}/kernel"] = (f"{ours}.{name}.weight", (read, made))
            table[f"{before}/{theirs}/bias"] = (f"{ours}.{name}.bias", (made,))
    return table


def _compare(found: Mapping[str, Shape], expected: Mapping[str, Shape], source: Path) -> None:
    missing = [name for name in expected if name not in found]
    extra = [name.removeprefix(_HEAD) for name in found if name not in expected]
    shapes = [
        f"{name} {found[name]} instead of {expected[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    said = [
        f"{len(names)} weights {what} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
        for what, names in (("missing", missing), ("unexpected", extra), ("of another shape", shapes))
        if names
    ]
    if said:
        raise ModelMismatch(f"{source}: not the weights of the crowd's model: {'; '.join(said)}")
