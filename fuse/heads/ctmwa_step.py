"""CTMWA's bi-level training step, in the order in which the algorithm is stated, by differentiating twice.

This is the version to read and to test against. `ctmwa_fast` computes the same numbers several times faster.
Knows no data set and no schedule; the optimisers are given to it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from sentifuse.fuse.heads.ctmwa_network import (
    BACKBONE,
    WEIGHT_NETS,
    Layer,
    Masks,
    PairLosses,
    Signals,
    TranslationWeights,
    draw_masks,
    meta_loss,
    pair_losses,
    run_network,
    training_loss,
    weight_inputs,
)
from sentifuse.fuse.layers.linear import linear
from sentifuse.fuse.precision import full_precision

# Shapes: B pairs of a training batch, Dt / Dv widths of text and image, K classes.

Tensors = dict[str, torch.Tensor]
Apply = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # x, weight, bias -> x Wᵀ + b


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """A batch as the network wants it; the labels of one modality alone are needed in the meta batch."""

    text: torch.Tensor  # (B, Dt)
    image: torch.Tensor  # (B, Dv)
    labels: torch.Tensor  # (B,) int64
    text_labels: torch.Tensor | None = None  # (B,) int64
    image_labels: torch.Tensor | None = None  # (B,) int64
    ids: tuple[str, ...] = ()  # for messages; empty where nobody asks

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """What a step needs to know beside its batches."""

    translation: TranslationWeights
    inner_learning_rate: float  # of the virtual step
    dropout: float = 0.0
    share_masks: bool = False  # the real pass takes the dropout masks of the virtual one
    part_clip: float = 0.0  # largest norm of the gradient of each part; 0: no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMasks:
    """Dropout factors of the three passes of a step."""

    virtual: Masks = field(default_factory=dict)
    meta: Masks = field(default_factory=dict)
    real: Masks = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRecord:
    """What a virtual or a real pass came to."""

    signals: Signals
    losses: PairLosses
    text_weight: torch.Tensor  # (B,)
    image_weight: torch.Tensor  # (B,)
    total: torch.Tensor  # scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What one step computed on its way."""

    virtual: PassRecord
    virtual_parameters: Tensors  # θ'; empty where it was not formed
    meta_signals: Signals
    meta_total: torch.Tensor
    weight_gradients: Tensors  # of Q with respect to ω, before weight decay
    real: PassRecord
    norms: Tensors  # of each part's gradient, before clipping


class NotFiniteLoss(Exception):
    """A loss that is no finite number; nothing was changed. `is_meta`: it is the meta loss, and the other is finite."""

    def __init__(self, value: float, *, is_meta: bool = False) -> None:
        super().__init__(value)
        self.value = value
        self.is_meta = is_meta


class BilevelStep:
    """Virtual step, meta step, real step.

    Parameters
    ----------
    network
        A module with the parts named in `BACKBONE` and `WEIGHT_NETS`.
    optimiser, weight_optimiser
        Of the backbone θ and of the weight nets ω.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: StepSettings,
        optimiser: torch.optim.Optimizer,
        weight_optimiser: torch.optim.Optimizer,
    ) -> None:
        self.network = network
        self.settings = settings
        self.optimiser = optimiser
        self.weight_optimiser = weight_optimiser

    def __call__(
        self, batch: Vectors, meta: Vectors, *, masks: StepMasks | None = None, gradient_clip: float = 0.0
    ) -> StepRecord:
        """One step on a training batch and a meta batch; `masks` None: drawn from torch's generator.

        Raises
        ------
        NotFiniteLoss
            The virtual or the meta loss is no finite number.
        """
        masks = self.draw_masks(batch, meta) if masks is None else masks
        theta = parameters_of(self.network, BACKBONE)
        omega = parameters_of(self.network, WEIGHT_NETS)

        # 1. Virtual pass: the weights depend on ω, the inputs of the weight nets are constants.
        virtual = self.run_pass(layers_of(theta), batch, masks.virtual)
        # 2. Virtual step: plain gradient descent, no momentum, no decay, no clipping; kept differentiable in ω.
        gradients = torch.autograd.grad(virtual.total, list(theta.values()), create_graph=True)
        virtual_theta = virtual_point(theta, gradients, self.settings.inner_learning_rate)
        # 3. Meta pass at θ'. Dropout is active here, too.
        meta_signals = run_network(layers_of(virtual_theta), meta.text, meta.image, masks.meta)
        meta_total = meta_loss(meta_signals, *labels_of(meta))
        check_finite(virtual.total, meta_total)
        # 4. ω moves along the gradient of Q, which reaches it through θ' alone.
        weight_gradients = dict(zip(omega, torch.autograd.grad(meta_total, list(omega.values())), strict=True))
        step_with(self.weight_optimiser, omega, weight_gradients)
        # 5. Real pass: the untouched θ, the new ω.
        real = self.run_pass(layers_of(theta), batch, masks.real, are_weights_constant=True)
        # 6. Real step.
        real_gradients = torch.autograd.grad(real.total, list(theta.values()))
        norms = real_step(
            self.network,
            self.optimiser,
            dict(zip(theta, real_gradients, strict=True)),
            part_clip=self.settings.part_clip,
            gradient_clip=gradient_clip,
        )
        return StepRecord(
            virtual=virtual,
            virtual_parameters=virtual_theta,
            meta_signals=meta_signals,
            meta_total=meta_total,
            weight_gradients=weight_gradients,
            real=real,
            norms=norms,
        )

    def draw_masks(self, batch: Vectors, meta: Vectors) -> StepMasks:
        """Three independent sets of masks, or two where virtual and real pass share one."""
        p = self.settings.dropout
        virtual = draw_masks(len(batch), p, batch.text)
        return StepMasks(
            virtual=virtual,
            meta=draw_masks(len(meta), p, meta.text, with_cycles=False),  # Q has no cycles
            real=virtual if self.settings.share_masks else draw_masks(len(batch), p, batch.text),
        )

    def run_pass(self, layer: Layer, batch: Vectors, masks: Masks, *, are_weights_constant: bool = False) -> PassRecord:
        """L(θ, w(ω)) on a training batch."""
        signals = run_network(layer, batch.text, batch.image, masks)
        w_t, w_v = weigh(self.network, signals, batch.labels)
        if are_weights_constant:
            w_t, w_v = w_t.detach(), w_v.detach()
        losses = pair_losses(signals, batch.labels)
        total = training_loss(signals, losses, self.settings.translation, w_t, w_v)
        return PassRecord(signals=signals, losses=losses, text_weight=w_t, image_weight=w_v, total=total)


def plain_step(
    network: nn.Module,
    settings: StepSettings,
    optimiser: torch.optim.Optimizer,
    batch: Vectors,
    *,
    gradient_clip: float = 0.0,
) -> float:
    """A supervised step with all weights 1: what is left of the algorithm without a meta set. The loss before it."""
    theta = parameters_of(network, BACKBONE)
    masks = draw_masks(len(batch), settings.dropout, batch.text)
    signals = run_network(layers_of(theta, linear), batch.text, batch.image, masks)
    ones = torch.ones_like(signals.joint_logits[:, 0])
    total = training_loss(signals, pair_losses(signals, batch.labels), settings.translation, ones, ones)
    check_finite(total)
    gradients = dict(zip(theta, torch.autograd.grad(total, list(theta.values())), strict=True))
    real_step(network, optimiser, gradients, part_clip=settings.part_clip, gradient_clip=gradient_clip)
    return float(total.detach())


def parameters_of(network: nn.Module, parts: tuple[str, ...]) -> Tensors:
    """The parameters of these parts, by their names in the network."""
    return {
        f"{part}.{name}": parameter
        for part in parts
        for name, parameter in network.get_submodule(part).named_parameters()
    }


class layers_of:  # noqa: N801 (a function with a memory: the parameters that it applies)
    """Linear layers with the parameters given; `apply` may be `layers.linear.linear` for who differentiates once."""

    def __init__(self, parameters: Mapping[str, torch.Tensor], apply: Apply = F.linear) -> None:
        self.parameters = parameters
        self.apply = apply

    def __call__(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self.apply(x, self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"])


def weigh(network: nn.Module, signals: Signals, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of text and image loss of every pair, (B,) each, by the nets' present parameters."""
    s_t, s_v = weight_inputs(signals, labels)
    with full_precision(s_t.device):  # autocast keeps rounded parameters, and ω changes within a step
        return network.get_submodule("text_weight_net")(s_t), network.get_submodule("image_weight_net")(s_v)


def virtual_point(theta: Tensors, gradients: tuple[torch.Tensor, ...], rate: float) -> Tensors:
    """θ' = θ − α ∇L."""
    return {name: value - rate * gradient for (name, value), gradient in zip(theta.items(), gradients, strict=True)}


def labels_of(meta: Vectors) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Label, text label and image label of a meta batch."""
    if meta.text_labels is None or meta.image_labels is None:
        raise ValueError("a meta batch needs the labels of text and image")
    return meta.labels, meta.text_labels, meta.image_labels


def check_finite(total: torch.Tensor, meta_total: torch.Tensor | None = None) -> None:
    """Refuse a training or a meta loss that is not finite before anything is changed."""
    losses = [total] if meta_total is None else [total, meta_total]
    values: list[float] = torch.stack([loss.detach() for loss in losses]).tolist()  # together: they wait for a GPU once
    for place, value in enumerate(values):
        if not math.isfinite(value):
            raise NotFiniteLoss(value, is_meta=place > 0)


def step_with(optimiser: torch.optim.Optimizer, parameters: Tensors, gradients: Mapping[str, torch.Tensor]) -> None:
    """One step of an optimiser along these gradients; leaves none behind."""
    for name, parameter in parameters.items():
        parameter.grad = gradients[name].detach()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def real_step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    gradients: Tensors,
    *,
    part_clip: float,
    gradient_clip: float,
) -> Tensors:
    """Clip each part's gradient by itself, then all of them together, and step; the parts' norms before that."""
    parts = {part: [gradients[name] for name in parameters_of(network, (part,))] for part in BACKBONE}
    norms = {part: norm_of(values) for part, values in parts.items()}
    if part_clip > 0:
        for part, values in parts.items():
            clip_(values, norms[part], part_clip)
    if gradient_clip > 0:
        values = list(gradients.values())
        clip_(values, norm_of(values), gradient_clip)
    step_with(optimiser, parameters_of(network, BACKBONE), gradients)
    return norms


def norm_of(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Euclidean norm of all numbers together."""
    norms: list[torch.Tensor] = list(torch._foreach_norm(tensors))
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


def clip_(tensors: list[torch.Tensor], norm: torch.Tensor, limit: float) -> None:
    """Scale down in place to this norm, as torch's own clipping does (its 1e-6 in the divisor included)."""
    factor = float(limit / (norm + 1e-6))
    if factor < 1.0:
        torch._foreach_mul_(tensors, factor)
