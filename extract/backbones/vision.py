"""Vision transformers of transformers with a classification head, and image processors. Knows no class names."""

import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image, new
from torch import Tensor

from sentifuse import DataError
from sentifuse.extract.backbones.arithmetic import half_precision
from sentifuse.extract.backbones.loading import LOAD_ERRORS, first_lines, load_model, quiet_transformers
from sentifuse.extract.encoder import BackboneSpec, Outputs
from sentifuse.extract.errors import ModelMismatch

__all__ = ["ImageClassifier", "Pixels", "PreparedPixels"]

MAX_ASPECT = 32  # of longer to shorter side

# Shapes: B batch, S patches and the class token, D width of the model, K classes.


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPixels:
    """An image resized and cropped by its model's own processor: (3, H, W), bytes wherever the processor allows it."""

    pixels: npt.NDArray[Any]


class Pixels:
    """A folder's image processor, in its Pillow form so that caches do not depend on the torchvision release.

    Resizing and cropping happen in loader threads on bytes; scaling and normalising on the device.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        from transformers import AutoImageProcessor

        if not (folder / "preprocessor_config.json").is_file() and not (folder / "processor_config.json").is_file():
            raise ModelMismatch(f"{folder}: no preprocessor_config.json, so nothing says how images are to be prepared")
        try:
            with quiet_transformers():
                self.processor = AutoImageProcessor.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, backend="pil"
                )
        except LOAD_ERRORS as error:
            raise ModelMismatch(f"{folder}: no image processor that can be loaded: {first_lines(error)}") from error
        self.device = device
        self.factor: float = self.processor.rescale_factor if self.processor.do_rescale else 1.0
        is_normalised = bool(self.processor.do_normalize)
        self.mean = self._column(self.processor.image_mean if is_normalised else [0.0] * 3)
        self.std = self._column(self.processor.image_std if is_normalised else [1.0] * 3)

    def prepare(self, image: Image | None) -> PreparedPixels:
        """Resize and crop."""
        if image is None:
            raise DataError("no image")
        found = self.processor(images=self._middle(image), do_rescale=False, do_normalize=False, return_tensors="np")
        return PreparedPixels(pixels=np.ascontiguousarray(found["pixel_values"][0]))

    def _middle(self, image: Image) -> Image:
        """An extreme strip without its ends, which the centre crop would cut off after a resize to gigabytes."""
        short, long = min(image.size), max(image.size)
        is_cropped = getattr(self.processor, "do_center_crop", False) and "shortest_edge" in self.processor.size
        if not is_cropped or long <= MAX_ASPECT * short:
            return image
        width, height = (min(side, MAX_ASPECT * short) for side in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))

    def batch(self, rows: Sequence[PreparedPixels]) -> Tensor:
        """float32 (B, 3, H, W) on the device, scaled and normalised."""
        pixels = torch.from_numpy(np.stack([row.pixels for row in rows])).to(self.device)
        return (pixels.to(torch.float32) * self.factor - self.mean) / self.std

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.float32, device=self.device).view(3, 1, 1)


class ImageClassifier:
    """Images → {"logits": (B, K), "embedding": (B, D)} float32; embedding: the class token after the last norm."""

    inputs = ("image",)

    def __init__(self, spec: BackboneSpec, device: str) -> None:
        from transformers import AutoModelForImageClassification

        self.device = torch.device(device)
        self.precision = spec.precision
        with spec.model.opened() as folder:
            self.net: Any = load_model(AutoModelForImageClassification, folder, self.device)
            self.pixels = Pixels(folder, self.device)
        self.options = {"interpolate_pos_encoding": True} if spec.options["interpolate_positions"] else {}
        self._caught = threading.local()  # several threads run this network at once, each on a batch of its own
        base: Any = getattr(self.net, self.net.base_model_prefix, None)
        if base is None or not hasattr(getattr(base, "embeddings", None), "cls_token"):
            raise ModelMismatch(
                f"{spec.model.source}: a {spec.model.architecture} has no class token, expected e.g. vit"
            )
        # The head sees only the class token's logits; the states below it are caught on their way, not computed twice.
        base.register_forward_hook(self._catch)
        self.width = self._try(str(spec.model.source))

    def prepare(self, image: Image | None, text: str | None) -> PreparedPixels:
        """Resize and crop as the model's own processor does."""
        return self.pixels.prepare(image)

    def batch_key(self, prepared: PreparedPixels) -> Hashable:
        """Images of one size."""
        return prepared.pixels.shape

    def forward(self, batch: Sequence[PreparedPixels]) -> Outputs:
        """One pass over a batch; see the class for the shapes."""
        with torch.inference_mode(), half_precision(self.device, self.precision):
            logits = self.net(pixel_values=self.pixels.batch(batch), **self.options).logits
        states: Tensor = self._caught.states  # (B, S, D)
        del self._caught.states
        return {"logits": logits.float().cpu().numpy(), "embedding": states[:, 0].float().cpu().numpy()}

    def _catch(self, module: Any, inputs: Any, output: Any) -> None:
        self._caught.states = output.last_hidden_state

    def _try(self, what: str) -> int:
        """Width of the embedding, from one grey image; a size that does not fit is refused now."""
        try:
            outputs = self.forward([self.prepare(new("RGB", (64, 48), (128, 128, 128)), None)])
        except (ValueError, RuntimeError) as error:
            raise ModelMismatch(
                f"{what}: {first_lines(error)}. Does its preprocessor_config.json give another size than config.json? "
                "interpolate_positions = true accepts that"
            ) from error
        return int(outputs["embedding"].shape[1])
