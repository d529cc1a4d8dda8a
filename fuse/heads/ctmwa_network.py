"""The network of CTMWA and its losses: what is computed from two vectors per pair. Knows no step, no data set, no file.

Every formula asks for a linear layer by its name, through a function that applies it. Who calls decides with which
parameters: the head with its own, the bi-level step with those of the virtual point.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

# Shapes: B pairs, Dt / Dv widths of text and image, E embedding, K classes.  G: image to text, H: text to image.

SLOPE = 0.1  # of the leaky ReLU in necks and classifiers
HEADS = 2  # of a translator
KERNEL_ROWS = 5  # of the authors' first translator layer; four of them never meet data
BACKBONE = (
    "text_encoder",
    "image_to_text",
    "text_to_image",
    "text_neck",
    "image_neck",
    "joint_classifier",
    "text_classifier",
    "image_classifier",
)
WEIGHT_NETS = ("text_weight_net", "image_weight_net")
# Every use of a translator in one pass, in order: on t, on H(t), on v, on G(v). Dropout is drawn for each.
CALLS = ("text_to_image.call0", "image_to_text.call0", "image_to_text.call1", "text_to_image.call1")
CALLS_WITHOUT_CYCLES = ("text_to_image.call0", "image_to_text.call1")

Layer = Callable[[str, torch.Tensor], torch.Tensor]  # name of a linear layer and its input -> its output
Masks = Mapping[str, torch.Tensor]  # name of a translator's use -> (B, 2) factors of its two heads; {}: no dropout


class Translator(nn.Module):
    """Three linear layers: hidden, the values of two heads, and the output that joins them.

    The authors write it as a convolution with five kernel rows and an attention, for sequences, and feed it sequences
    of length one. Four rows, the queries and the keys are then never used, and are not kept here; the initial scale
    still counts the five rows, as theirs does.
    """

    def __init__(self, width: int, translated: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, translated)
        self.value = nn.Linear(translated, HEADS * translated)
        self.output = nn.Linear(HEADS * translated, translated)


class Block(nn.Module):
    """Linear → leaky ReLU → Linear, the middle half as wide as both ends together."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        middle = (width + out) // 2
        self.linear1 = nn.Linear(width, middle)
        self.linear2 = nn.Linear(middle, out)


class WeightNet(nn.Module):
    """ω: [onehot(y) ; logits of both ; logits of one side ; its fusion input] → a weight in (0, 1) per pair."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, 1)

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        """(B, 3K + Dt + Dv) → (B,)."""
        return torch.sigmoid(self.linear2(F.relu(self.linear1(s)))).squeeze(-1)


class CtmwaNetwork(nn.Module):
    """The layers: backbone θ and weight nets ω, with Kaiming-normal weights (fan-in, gain √2) and zero biases."""

    def __init__(
        self, text_width: int, image_width: int, *, embedding: int, class_count: int, weight_net_width: int
    ) -> None:
        super().__init__()
        both = text_width + image_width
        self.text_encoder = nn.Linear(text_width, text_width)
        self.image_to_text = Translator(image_width, text_width)  # G
        self.text_to_image = Translator(text_width, image_width)  # H
        self.text_neck = Block(both, embedding)
        self.image_neck = Block(both, embedding)
        self.joint_classifier = Block(2 * embedding, class_count)
        self.text_classifier = Block(embedding, class_count)
        self.image_classifier = Block(embedding, class_count)
        self.text_weight_net = WeightNet(3 * class_count + both, weight_net_width)
        self.image_weight_net = WeightNet(3 * class_count + both, weight_net_width)
        self._initialise()

    def _initialise(self) -> None:
        translated = [self.image_to_text.hidden, self.text_to_image.hidden]
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                fan_in = layer.in_features * (KERNEL_ROWS if layer in translated else 1)
                nn.init.normal_(layer.weight, std=(2.0 / fan_in) ** 0.5)
                nn.init.zeros_(layer.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What one pass gives. The cycles are None where they were not asked for."""

    text: torch.Tensor  # (B, Dt)  t, encoded
    image: torch.Tensor  # (B, Dv)  v
    image_from_text: torch.Tensor  # (B, Dv)  H(t)
    text_from_image: torch.Tensor  # (B, Dt)  G(v)
    text_cycle: torch.Tensor | None  # (B, Dt)  G(H(t))
    image_cycle: torch.Tensor | None  # (B, Dv)  H(G(v))
    fusion_text: torch.Tensor  # (B, Dt + Dv)  f_t
    fusion_image: torch.Tensor  # (B, Dt + Dv)  f_v
    joint_logits: torch.Tensor  # (B, K)  y_m
    text_logits: torch.Tensor  # (B, K)  y_t
    image_logits: torch.Tensor  # (B, K)  y_v


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationWeights:
    """Weights of the four translation losses, and the authors' names of them."""

    text_cycle: float  # a, trans_tit
    image_cycle: float  # b, trans_iti
    text_from_image: float  # c, trans_it
    image_from_text: float  # d, trans_ti


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLosses:
    """Cross-entropies of every pair, (B,) each."""

    joint: torch.Tensor
    text: torch.Tensor
    image: torch.Tensor


def run_network(
    layer: Layer, text: torch.Tensor, image: torch.Tensor, masks: Masks, *, with_cycles: bool = True
) -> Signals:
    """Text (B, Dt) and image (B, Dv) vectors through the whole network. There is no image encoder: v is the image."""
    return run_encoded(layer, layer("text_encoder", text), image, masks, with_cycles=with_cycles)


def run_encoded(layer: Layer, t: torch.Tensor, v: torch.Tensor, masks: Masks, *, with_cycles: bool = True) -> Signals:
    """The network after the text encoder."""
    image_from_text = translate(layer, "text_to_image", t, masks.get("text_to_image.call0"))  # H(t)
    text_cycle = image_cycle = None
    if with_cycles:
        text_cycle = translate(layer, "image_to_text", image_from_text, masks.get("image_to_text.call0"))  # G(H(t))
    text_from_image = translate(layer, "image_to_text", v, masks.get("image_to_text.call1"))  # G(v)
    if with_cycles:
        image_cycle = translate(layer, "text_to_image", text_from_image, masks.get("text_to_image.call1"))  # H(G(v))
    f_t = torch.cat([t, image_from_text], -1)
    f_v = torch.cat([text_from_image, v], -1)  # the translated part first, as in the authors' program
    z_t = run_block(layer, "text_neck", f_t)
    z_v = run_block(layer, "image_neck", f_v)
    return Signals(
        text=t,
        image=v,
        image_from_text=image_from_text,
        text_from_image=text_from_image,
        text_cycle=text_cycle,
        image_cycle=image_cycle,
        fusion_text=f_t,
        fusion_image=f_v,
        joint_logits=run_block(layer, "joint_classifier", torch.cat([z_t, z_v], -1)),
        text_logits=run_block(layer, "text_classifier", z_t),
        image_logits=run_block(layer, "image_classifier", z_v),
    )


def translate(layer: Layer, name: str, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """W_o drop(W_v ReLU(W_h x + b_h) + b_v) + b_o; the dropout takes or leaves a head as a whole."""
    hidden = F.relu(layer(f"{name}.hidden", x))
    heads = layer(f"{name}.value", hidden)
    if mask is not None:
        heads = (heads.view(len(x), HEADS, -1) * mask[:, :, None]).view(len(x), -1)
    return layer(f"{name}.output", heads)


def run_block(layer: Layer, name: str, x: torch.Tensor) -> torch.Tensor:
    return layer(f"{name}.linear2", F.leaky_relu(layer(f"{name}.linear1", x), SLOPE))


def draw_masks(pairs: int, p: float, like: torch.Tensor, *, with_cycles: bool = True) -> dict[str, torch.Tensor]:
    """Dropout factors for one pass: per pair and head 0 with probability p, else 1/(1 − p)."""
    if p <= 0.0:
        return {}
    names = CALLS if with_cycles else CALLS_WITHOUT_CYCLES
    keep = torch.rand(len(names), pairs, HEADS, dtype=like.dtype, device=like.device) >= p
    return dict(zip(names, keep.to(like.dtype) / (1.0 - p), strict=True))


def translation_losses(signals: Signals) -> dict[str, torch.Tensor]:
    """Mean absolute error of every pair, (B,) each. No target is cut from the graph: t learns to be translatable."""
    pairs = {
        "text_from_image": (signals.text, signals.text_from_image),
        "image_from_text": (signals.image, signals.image_from_text),
    }
    if signals.text_cycle is not None and signals.image_cycle is not None:
        pairs["text_cycle"] = (signals.text, signals.text_cycle)
        pairs["image_cycle"] = (signals.image, signals.image_cycle)
    return {name: (target - found).abs().mean(-1) for name, (target, found) in pairs.items()}


def translation_loss(signals: Signals, weights: TranslationWeights) -> torch.Tensor:
    """R = a·|t − G(H(t))| + b·|v − H(G(v))| + c·|t − G(v)| + d·|v − H(t)|, each a mean over all elements."""
    losses = {name: values.mean() for name, values in translation_losses(signals).items()}
    return (
        weights.text_cycle * losses["text_cycle"]
        + weights.image_cycle * losses["image_cycle"]
        + weights.text_from_image * losses["text_from_image"]
        + weights.image_from_text * losses["image_from_text"]
    )


def pair_losses(signals: Signals, labels: torch.Tensor) -> PairLosses:
    """ℓ_m, ℓ_t and ℓ_v: all three against the label of the pair."""
    return PairLosses(
        joint=F.cross_entropy(signals.joint_logits, labels, reduction="none"),
        text=F.cross_entropy(signals.text_logits, labels, reduction="none"),
        image=F.cross_entropy(signals.image_logits, labels, reduction="none"),
    )


def training_loss(
    signals: Signals, losses: PairLosses, weights: TranslationWeights, w_t: torch.Tensor, w_v: torch.Tensor
) -> torch.Tensor:
    """L(θ, w) = R + mean ℓ_m + mean w_t ℓ_t + mean w_v ℓ_v."""
    own = losses.joint.mean() + (w_t * losses.text).mean() + (w_v * losses.image).mean()
    return translation_loss(signals, weights) + own


def meta_loss(
    signals: Signals, labels: torch.Tensor, text_labels: torch.Tensor, image_labels: torch.Tensor
) -> torch.Tensor:
    """Q(θ): each classifier against the label of its own modality; no weights, no translation losses."""
    return (
        F.cross_entropy(signals.joint_logits, labels)
        + F.cross_entropy(signals.text_logits, text_labels)
        + F.cross_entropy(signals.image_logits, image_labels)
    )


def weight_inputs(signals: Signals, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """s of both weight nets: [onehot(y) ; y_m ; y_t ; f_t] and [onehot(y) ; y_m ; y_v ; f_v], cut from the graph."""
    joint = signals.joint_logits
    onehot = F.one_hot(labels, joint.shape[-1]).to(joint.dtype)
    s_t = torch.cat([onehot, joint, signals.text_logits, signals.fusion_text], -1)
    s_v = torch.cat([onehot, joint, signals.image_logits, signals.fusion_image], -1)
    return s_t.detach(), s_v.detach()
