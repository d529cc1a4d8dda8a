"""A vision transformer with a student's head, from squares to logits: built from a base folder, taken apart at the end.

The class token after the final norm goes to the head, never a pooler. Knows transformers' ViT and the student's
format; trains nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sentifuse import ConfigError, ResourceError
from sentifuse.cache.files import sha256_of
from sentifuse.crowd.finetune.recipe import FinetuneRecipe
from sentifuse.extract.backbones.loading import load_model
from sentifuse.extract.backbones.student_head import build_head
from sentifuse.extract.errors import ModelMismatch

__all__ = ["Base", "VitStudent", "build_student", "read_base"]

STUDENT = "sentifuse_student"
# What of a ViTConfig fixes the numbers; written out in full, for defaults change between releases.
VIT_KEYS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps", "image_size",
    "patch_size", "num_channels", "qkv_bias",
)  # fmt: skip
PROCESSOR: Mapping[str, Any] = {  # where the base has none: -1..1, as all ViTs of the original but B/32
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}

# Shapes: B batch, P side of the square in pixels, D width of the model, K = 3 classes.


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a base folder says before its weights are loaded.

    Attributes
    ----------
    config
        ViTConfig of the network, as in the folder.
    head
        The head that a student brings; None: a new one is made.
    processor
        Of images, for squares of `side_px`.
    resize
        "processor", or "tensorflow" where a student says so: a converted original.
    digest
        SHA-256 of the weights' files, one after the other.
    """

    folder: Path
    config: Mapping[str, Any]
    head: Mapping[str, Any] | None
    processor: Mapping[str, Any]
    side_px: int
    digest: str
    resize: str = "processor"


def read_base(folder: Path, image_px: int) -> Base:
    """Look at a base folder: transformers' ViT, or a student of kind vit.

    Parameters
    ----------
    image_px
        Side of the squares that the student will see; 0: as the base.

    Raises
    ------
    ResourceError
        No such folder, no config.json, no weights.
    ModelMismatch
        Another kind of network.
    ConfigError
        A side that is no multiple of the patches'.
    """
    if not (folder / "config.json").is_file():
        raise ResourceError(
            f"{folder}: expected a folder with config.json and model.safetensors of a ViT, found no config.json. "
            "Give a local folder of transformers, or a student folder of kind vit, as the base"
        )
    document = _json(folder / "config.json")
    is_student = document.get("model_type") == STUDENT
    kind = document.get("kind") if is_student else document.get("model_type")
    if kind != "vit":
        what = f"a student of kind {kind}" if is_student else f"a network of type {kind}"
        raise ModelMismatch(
            f"{folder}: {what}, expected a vision transformer (model_type vit) or a student of kind vit"
        )
    weights = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not weights:
        raise ResourceError(f"{folder}: expected model.safetensors, found no weights. Copy the whole folder")
    config = document["vit"] if is_student else document
    patch_px, own_px = (_side(folder, config, name) for name in ("patch_size", "image_size"))
    side_px = image_px or own_px
    if side_px % patch_px:
        raise ConfigError(
            f"image_px: expected a multiple of the base's patches of {patch_px} pixels, found {side_px}. "
            f"Type: --set image_px={max(1, round(side_px / patch_px)) * patch_px}"
        )
    return Base(
        folder=folder,
        config=config,
        head=document["head"] if is_student else None,
        processor=_processor(folder) | {"size": {"height": side_px, "width": side_px}},
        side_px=side_px,
        digest=",".join(sha256_of(path) for path in weights),
        resize=str(document.get("resize", "processor")) if is_student else "processor",
    )


class VitStudent(nn.Module):
    """Squares of numbers from 0 to 255 → logits float32 (B, K)."""

    mean: Tensor
    std: Tensor

    def __init__(self, vit: Any, head: nn.Module, head_config: Mapping[str, Any], processor: Mapping[str, Any]) -> None:
        super().__init__()
        self.vit = vit
        self.head = head
        self.head_config = dict(head_config)
        self.processor = dict(processor)
        self.factor = float(processor["rescale_factor"]) if processor["do_rescale"] else 1.0
        is_normalised = bool(processor["do_normalize"])
        for name, neutral in (("mean", 0.0), ("std", 1.0)):
            values = list(processor[f"image_{name}"]) if is_normalised else [neutral] * 3
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, squares: Tensor, *, is_frozen: bool = False) -> Tensor:
        """Logits of uint8 or float32 (B, P, P, 3); with `is_frozen` no gradient goes below the head."""
        if squares.ndim != 4 or squares.shape[-1] != 3 or squares.dtype not in (torch.uint8, torch.float32):
            raise ValueError(
                f"squares: expected uint8 or float32 (B, P, P, 3), found {squares.dtype} {tuple(squares.shape)}"
            )
        pixels = (squares.permute(0, 3, 1, 2).to(torch.float32) * self.factor - self.mean) / self.std
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_frozen):
            token = self.vit(pixel_values=pixels).last_hidden_state[:, 0]  # (B, D)
        logits: Tensor = self.head(token)[0]
        return logits.float()

    def vit_config(self) -> dict[str, Any]:
        """For config.json of a student; dropout as it was in the base."""
        return {name: getattr(self.vit.config, name) for name in VIT_KEYS}

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """`vit.*` and `head.*`, float32, on the CPU."""
        return {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}


def build_student(base: Base, recipe: FinetuneRecipe) -> VitStudent:
    """The base's network with its own or a new head, all of it open to training, on the CPU.

    A new head draws from torch's global generator. Position embeddings are stretched as transformers does it (bicubic)
    where the squares are of another size than the base's.

    Raises
    ------
    ModelMismatch
        Weights are missing, or of another shape.
    """
    vit = _stretched(_load_vit(base), base.side_px)
    for module in vit.modules():
        if isinstance(module, nn.Dropout):
            module.p = recipe.dropout
    head_config = dict(base.head) if base.head is not None else _head_config(recipe, vit.config.hidden_size)
    head = build_head(head_config)
    if base.head is not None:
        _fill(head, _student_tensors(base.folder, "head."), base.folder)
    student = VitStudent(vit, head, head_config, base.processor)
    return student.requires_grad_(True)


def _load_vit(base: Base) -> Any:
    from transformers import ViTModel

    if base.head is None:
        return load_model(ViTModel, base.folder, torch.device("cpu"), without_pooler=True)
    vit = _blank_vit(base.config)
    _fill(vit, _student_tensors(base.folder, "vit."), base.folder)
    return vit


def _stretched(vit: Any, side_px: int) -> Any:
    config = vit.config.to_dict()
    if config["image_size"] in (side_px, [side_px, side_px], (side_px, side_px)):
        return vit
    tokens = torch.empty(1, (side_px // vit.config.patch_size) ** 2 + 1, vit.config.hidden_size)
    state = vit.state_dict()
    positions = vit.embeddings.interpolate_pos_encoding(tokens, side_px, side_px)
    state["embeddings.position_embeddings"] = positions.detach().clone()
    larger = _blank_vit(config | {"image_size": side_px})
    larger.load_state_dict(state, strict=True, assign=True)
    return larger


def _blank_vit(config: Mapping[str, Any]) -> Any:
    """Without numbers, for a state to be assigned to."""
    from transformers import ViTConfig, ViTModel

    with torch.device("meta"):
        return ViTModel(ViTConfig.from_dict(dict(config)), add_pooling_layer=False)


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    try:
        module.load_state_dict(dict(tensors), strict=True, assign=True)
    except RuntimeError as error:
        raise ModelMismatch(
            f"{folder}: its weights do not fit its config.json: {' '.join(str(error).split())[:300]}"
        ) from error


def _student_tensors(folder: Path, prefix: str) -> dict[str, Tensor]:
    path = folder / "model.safetensors"
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelMismatch(f"{path}: cannot be read as weights: {error}") from error
    return {name.removeprefix(prefix): value.float() for name, value in tensors.items() if name.startswith(prefix)}


def _head_config(recipe: FinetuneRecipe, width: int) -> dict[str, Any]:
    shapes: dict[str, dict[str, Any]] = {
        "two_layer": {"width": 32, "gelu": recipe.gelu},
        "mlp": {"width": 256, "dropout": 0.2},
        "linear": {},
    }
    return {"kind": recipe.head, "in": width, **shapes[recipe.head]}


def _processor(folder: Path) -> dict[str, Any]:
    """The base's scaling and filter; its crop, if any, is not taken over."""
    found: dict[str, Any] = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            document = _json(folder / name)
            found |= document.get("image_processor", document)
    return {key: found.get(key, value) for key, value in PROCESSOR.items() if key != "image_processor_type"} | {
        "image_processor_type": PROCESSOR["image_processor_type"],
        "do_resize": True,
    }


def _side(folder: Path, config: Mapping[str, Any], name: str) -> int:
    """Of a square in pixels; transformers' own default where the config is silent."""
    value = config.get(name, {"patch_size": 16, "image_size": 224}[name])
    sides = {*value} if isinstance(value, list | tuple) else {value}
    if len(sides) != 1:
        raise ModelMismatch(f"{folder / 'config.json'}: {name} is {value}, expected a square")
    return int(sides.pop())


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelMismatch(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelMismatch(f"{path}: expected a JSON object, found {type(document).__name__}")
    return document
