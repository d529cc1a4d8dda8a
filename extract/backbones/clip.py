"""CLIP: both towers in one pass over pairs."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from sentifuse.extract.backbones.arithmetic import half_precision
from sentifuse.extract.backbones.loading import load_model, load_tokenizer
from sentifuse.extract.backbones.text import PreparedText, Tokenizer, fit_length, pad
from sentifuse.extract.backbones.vision import Pixels, PreparedPixels
from sentifuse.extract.encoder import BackboneSpec, Outputs

__all__ = ["ImageAndText", "PreparedPair"]

# Shapes: B batch, P width of the common space.


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPair:
    """An image and its text, ready for their towers."""

    image: PreparedPixels
    text: PreparedText


class ImageAndText:
    """Pairs → {"image": (B, P), "text": (B, P)} float32, projected and not normalised."""

    inputs = ("image", "text")

    def __init__(self, spec: BackboneSpec, device: str) -> None:
        from transformers import CLIPModel

        self.device = torch.device(device)
        self.precision = spec.precision
        with spec.model.opened() as folder:
            self.net: Any = load_model(CLIPModel, folder, self.device)
            self.pixels = Pixels(folder, self.device)
            tokenizer = load_tokenizer(folder, self.net.config.text_config.vocab_size)
        length = fit_length(spec.options["max_length"], self.net.config.text_config, str(spec.model.source))
        self.tokenizer = Tokenizer(tokenizer, cleaning=spec.options["clean"], max_length=length)
        self.pad_id: int = tokenizer.pad_token_id or 0
        self.width: int = self.net.config.projection_dim

    def prepare(self, image: Image | None, text: str | None) -> PreparedPair:
        """Resize and crop; clean and tokenise."""
        return PreparedPair(image=self.pixels.prepare(image), text=self.tokenizer(text))

    def batch_key(self, prepared: PreparedPair) -> Hashable:
        """Images of one size, texts of one length."""
        return (prepared.image.pixels.shape, prepared.text.padded_length)

    def forward(self, batch: Sequence[PreparedPair]) -> Outputs:
        """One pass over a batch; see the class for the shapes."""
        ids, mask = pad([row.text for row in batch], self.pad_id, self.device)
        pixels = self.pixels.batch([row.image for row in batch])
        with torch.inference_mode(), half_precision(self.device, self.precision):
            image = as_tensor(self.net.get_image_features(pixel_values=pixels))
            text = as_tensor(self.net.get_text_features(input_ids=ids, attention_mask=mask))
        return {"image": image.float().cpu().numpy(), "text": text.float().cpu().numpy()}


def as_tensor(found: Any) -> Tensor:
    """The projected vectors: since transformers 5 they come wrapped, with the raw states beside them."""
    vectors: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return vectors
