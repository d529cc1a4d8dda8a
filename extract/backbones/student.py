"""Students of the crowd: a fine-tuned vision transformer, or a head over a frozen base, from one folder.

Reads the folder of `extract.students`; trains nothing.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sentifuse import DataError
from sentifuse.extract.backbones.arithmetic import half_precision
from sentifuse.extract.backbones.loading import LOAD_ERRORS, first_lines, quiet_transformers
from sentifuse.extract.backbones.student_head import build_head, hidden_width
from sentifuse.extract.backbones.tensorflow_resize import resize_like_tensorflow
from sentifuse.extract.backbones.vision import Pixels, PreparedPixels
from sentifuse.extract.encoder import BackboneSpec, Outputs
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.student_base import build_base
from sentifuse.extract.students import StudentConfig, read_student

__all__ = ["Student"]

# Shapes: B batch, S patches and the class token, D width of what the head reads, W of the embedding, K = 3 classes.


class Student:
    """Images → {"logits": (B, K), "embedding": (B, W)} float32; logits are divided by the student's temperature.

    The embedding of kind vit is the class token after the last norm, of kind probe the hidden layer of the head.
    """

    inputs = ("image",)

    def __init__(self, spec: BackboneSpec, device: str) -> None:
        if spec.model.path is None:
            raise ModelMismatch(f"{spec.model.source}: no student folder")
        folder, config = spec.model.path, read_student(spec.model.path)
        self.device = torch.device(device)
        self.temperature = config.temperature
        tensors = _read_tensors(folder)
        head = _fill(build_head(config.head), tensors, "head.", folder)
        self.head: Any = head.eval().requires_grad_(False).to(self.device)
        body = _Vit if config.kind == "vit" else _Probe
        self.body: _Body = body(folder, config, tensors, spec.precision, device)
        self.width = config.head["in"] if config.kind == "vit" else hidden_width(config.head)
        self._try(folder)

    def prepare(self, image: Image | None, text: str | None) -> Any:
        """Resize as the student's own preprocessing says."""
        if image is None:
            raise DataError("no image")
        return self.body.prepare(image)

    def batch_key(self, prepared: Any) -> Hashable:
        """Images of one size."""
        return self.body.batch_key(prepared)

    def forward(self, batch: Sequence[Any]) -> Outputs:
        """One pass over a batch; see the class for the shapes."""
        vectors = self.body.forward(batch)  # (B, D)
        with torch.inference_mode():
            logits, hidden = self.head(vectors)
        embedding = vectors if self.body.is_embedding else hidden
        return {
            "logits": (logits / self.temperature).cpu().numpy(),
            "embedding": embedding.cpu().numpy(),
        }

    def _try(self, folder: Path) -> None:
        """One grey image; sizes that do not fit each other are refused now."""
        from PIL.Image import new

        try:
            outputs = self.forward([self.prepare(new("RGB", (64, 48), (128, 128, 128)), None)])
        except (ValueError, RuntimeError) as error:
            raise ModelMismatch(f"{folder}: {first_lines(error)}. Do its files belong together?") from error
        assert outputs["embedding"].shape == (1, self.width)


class _Body(Protocol):
    """What gives the vectors that the head reads."""

    is_embedding: bool  # whether the vectors are the embedding, or the head's hidden layer is

    def __init__(
        self, folder: Path, config: StudentConfig, tensors: Mapping[str, Tensor], precision: str, device: str
    ) -> None: ...

    def prepare(self, image: Image) -> Any: ...

    def batch_key(self, prepared: Any) -> Hashable: ...

    def forward(self, batch: Sequence[Any]) -> Tensor:
        """float32 (B, D) on the device."""


class _Vit:
    is_embedding = True

    def __init__(
        self, folder: Path, config: StudentConfig, tensors: Mapping[str, Tensor], precision: str, device: str
    ) -> None:
        self.device, self.precision = torch.device(device), precision
        self.pixels = Pixels(folder, self.device)
        self.side = _side(config, folder) if config.resize == "tensorflow" else None
        net = _fill(_blank_vit(config.vit, folder), tensors, "vit.", folder)
        self.net: Any = net.eval().requires_grad_(False).to(self.device)

    def prepare(self, image: Image) -> PreparedPixels:
        if self.side is None:
            return self.pixels.prepare(image)
        square = resize_like_tensorflow(np.asarray(image.convert("RGB")), self.side, self.side)
        return PreparedPixels(pixels=np.ascontiguousarray(square.transpose(2, 0, 1)))

    def batch_key(self, prepared: PreparedPixels) -> Hashable:
        return prepared.pixels.shape

    def forward(self, batch: Sequence[PreparedPixels]) -> Tensor:
        with torch.inference_mode(), half_precision(self.device, self.precision):
            states: Tensor = self.net(pixel_values=self.pixels.batch(batch)).last_hidden_state  # (B, S, D)
        return states[:, 0].float()


class _Probe:
    is_embedding = False

    def __init__(
        self, folder: Path, config: StudentConfig, tensors: Mapping[str, Tensor], precision: str, device: str
    ) -> None:
        self.device = torch.device(device)
        self.base = build_base(folder, config, precision, device)
        self.field: str = config.base["field"]
        self.width: int = config.head["in"]

    def prepare(self, image: Image) -> Any:
        # CLIP reads pairs; the text of none changes nothing about the image's vector.
        return self.base.backbone.prepare(image, "" if "text" in self.base.backbone.inputs else None)

    def batch_key(self, prepared: Any) -> Hashable:
        return self.base.backbone.batch_key(prepared)

    def forward(self, batch: Sequence[Any]) -> Tensor:
        vectors = torch.full((len(batch), self.width), float("nan"))  # a row that cannot be used stays so
        for i, values in enumerate(self.base.read(self.base.backbone.forward(batch), batch)):
            if not isinstance(values, DataError):
                vectors[i] = torch.from_numpy(values[self.field])
        return vectors.to(self.device)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    file = folder / "model.safetensors"
    try:
        return {name: value.float() for name, value in load_file(file).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelMismatch(f"{file}: cannot be read as weights ({error}); copy the student folder again") from error


def _fill(net: nn.Module, tensors: Mapping[str, Tensor], prefix: str, folder: Path) -> nn.Module:
    """Give a network its tensors, strictly."""
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        net.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise ModelMismatch(
            f"{folder}: the tensors {prefix}* of model.safetensors do not fit config.json: {first_lines(error)}"
        ) from error
    return net


def _blank_vit(config: Mapping[str, Any], folder: Path) -> nn.Module:
    """Without numbers, for a state dict to be assigned to."""
    from transformers import ViTConfig, ViTModel

    try:
        with quiet_transformers(), torch.device("meta"):
            net: nn.Module = ViTModel(ViTConfig.from_dict(dict(config)), add_pooling_layer=False)
    except LOAD_ERRORS as error:
        raise ModelMismatch(f"{folder / 'config.json'}: vit is no ViTConfig: {first_lines(error)}") from error
    return net


def _side(config: StudentConfig, folder: Path) -> int:
    side = config.vit.get("image_size")
    if not isinstance(side, int):
        raise ModelMismatch(f"{folder / 'config.json'}: vit.image_size is {side!r}, expected the side of a square")
    return side
