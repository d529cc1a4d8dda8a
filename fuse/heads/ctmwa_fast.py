"""CTMWA's bi-level step, exact and without a second derivative: gradients stay in factors and meet as inner products.

L(θ, w) is linear in the weights w, and w is cut from θ. So with q = ∇Q(θ')

    ∂Q/∂w_i = −(α/B) ⟨q, ∇ℓ_i(θ)⟩,

and a small backward pass through the weight nets gives ∂Q/∂ω. Of a linear layer with inputs x and gradients δ at its
outputs, the gradient is Σ_j δ_j x_jᵀ (and Σ_j δ_j for the bias), so neither side of the inner product is ever formed:

    ⟨q, ∇ℓ_i⟩ = Σ_layers Σ_j (δ_i · δ'_j)(x_i · x'_j + 1),

j over the meta batch. For the same reason a layer at the virtual point θ' = θ − α Σ_j δ_j x_jᵀ is the layer itself and
a term of low rank; θ' is not formed either. With one dropout mask for virtual and real pass, the real gradient needs
no pass of its own: δ is linear in w as well. Tested equal to `ctmwa_step`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sentifuse.fuse.heads.ctmwa_network import (
    BACKBONE,
    WEIGHT_NETS,
    meta_loss,
    run_network,
    training_loss,
    translation_loss,
)
from sentifuse.fuse.heads.ctmwa_step import (
    BilevelStep,
    PassRecord,
    StepMasks,
    StepRecord,
    Tensors,
    Vectors,
    check_finite,
    labels_of,
    parameters_of,
    real_step,
    step_with,
    weigh,
)
from sentifuse.fuse.layers.linear import as_factor, linear, product

# Shapes: B pairs, R rows of all uses of a layer together, N / M widths of a layer's input and output.

Deltas = Sequence[torch.Tensor | None]  # one per use; None where the loss does not reach
TEXT, IMAGE = SIDES = "text", "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One use of a linear layer: what went in, and the tensor that came out."""

    name: str
    x: torch.Tensor  # (B, N)
    y: torch.Tensor  # (B, M), part of the graph

    @property
    def side(self) -> str:
        """Whose loss reaches this use, if only one of ℓ_t and ℓ_v does: H(t) belongs to the text, G(v) to the image."""
        return IMAGE if self.name.startswith("image") else TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """The gradient of a layer's weight as δᵀ x, and of its bias as the sum over δ's rows."""

    x: torch.Tensor  # (R, N)
    delta: torch.Tensor  # (R, M)


class Recorded:
    """Layers at θ that remember their uses. No gradient is asked of the parameters, only of the layers' outputs."""

    def __init__(self, theta: Tensors) -> None:
        self.theta = theta
        self.uses: list[Use] = []

    def __call__(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y = self.apply(name, x)
        if not y.requires_grad:  # a layer on the inputs themselves: the graph begins at its output
            y.requires_grad_()
        self.uses.append(Use(name=name, x=x.detach(), y=y))
        return y

    def apply(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.theta[f"{name}.weight"], self.theta[f"{name}.bias"])

    def deltas(self, loss: torch.Tensor, *, keep_graph: bool = False) -> Deltas:
        """Gradient of a loss at the output of every use; None where it does not reach."""
        outputs = [use.y for use in self.uses]
        return list(torch.autograd.grad(loss, outputs, retain_graph=keep_graph, allow_unused=True))


class Displaced(Recorded):
    """Layers at θ − α g, with g in factors: (W − α δᵀX) x + b − α Σδ = W x + b − α δᵀ(X x + 1)."""

    def __init__(self, theta: Tensors, gradient: dict[str, Factors], rate: float) -> None:
        super().__init__(theta)
        self.gradient = gradient
        self.rate = rate

    def apply(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y = super().apply(name, x)
        if name not in self.gradient:
            return y
        factors = self.gradient[name]
        return y - self.rate * linear(linear(x, factors.x) + 1.0, factors.delta.T)


class FastBilevelStep(BilevelStep):
    """The numbers of `BilevelStep`; its record has no θ'."""

    def __call__(
        self, batch: Vectors, meta: Vectors, *, masks: StepMasks | None = None, gradient_clip: float = 0.0
    ) -> StepRecord:
        masks = self.draw_masks(batch, meta) if masks is None else masks
        theta = {name: as_factor(value.detach()) for name, value in parameters_of(self.network, BACKBONE).items()}
        omega = parameters_of(self.network, WEIGHT_NETS)
        settings, rate = self.settings, self.settings.inner_learning_rate

        # 1. Virtual pass. ℓ_t and ℓ_v are differentiated apart from the rest and unweighted: they reach different
        #    layers, and row i of their δ is that of ℓ_i alone.
        layers = Recorded(theta)
        virtual = self.run_pass(layers, batch, masks.virtual)
        weights = (virtual.text_weight, virtual.image_weight)
        rest = layers.deltas(
            translation_loss(virtual.signals, settings.translation) + virtual.losses.joint.mean(), keep_graph=True
        )
        own = layers.deltas(virtual.losses.text.sum() + virtual.losses.image.sum())
        # 2. Virtual step: its gradient, in factors.
        gradient = factorise(layers.uses, weighted(layers.uses, rest, own, weights))
        # 3. Meta pass at θ'. The cycles take no part in Q.
        displaced = Displaced(theta, gradient, rate)
        meta_signals = run_network(displaced, meta.text, meta.image, masks.meta, with_cycles=False)
        meta_total = meta_loss(meta_signals, *labels_of(meta))
        check_finite(virtual.total, meta_total)
        # 4. ∂Q/∂w of every pair, and from there to ω.
        q = factorise(displaced.uses, displaced.deltas(meta_total))
        slopes = [-rate / len(batch) * products for products in inner_products(layers.uses, own, q)]
        weight_gradients = dict(zip(omega, torch.autograd.grad(weights, list(omega.values()), slopes), strict=True))
        step_with(self.weight_optimiser, omega, weight_gradients)
        # 5. Real pass with the new ω: with the same masks only the weights are new.
        if has_same_masks(masks):
            real = self.reweigh(virtual, batch)
            deltas = weighted(layers.uses, rest, own, (real.text_weight, real.image_weight))
        else:
            layers = Recorded(theta)
            real = self.run_pass(layers, batch, masks.real, are_weights_constant=True)
            deltas = layers.deltas(real.total)
        # 6. Real step.
        norms = real_step(
            self.network,
            self.optimiser,
            form(factorise(layers.uses, deltas)),
            part_clip=settings.part_clip,
            gradient_clip=gradient_clip,
        )
        return StepRecord(
            virtual=virtual,
            virtual_parameters={},
            meta_signals=meta_signals,
            meta_total=meta_total,
            weight_gradients=weight_gradients,
            real=real,
            norms=norms,
        )

    @torch.no_grad()
    def reweigh(self, virtual: PassRecord, batch: Vectors) -> PassRecord:
        """The same pass with the weights of the present ω."""
        w_t, w_v = weigh(self.network, virtual.signals, batch.labels)
        total = training_loss(virtual.signals, virtual.losses, self.settings.translation, w_t, w_v)
        return PassRecord(
            signals=virtual.signals, losses=virtual.losses, text_weight=w_t, image_weight=w_v, total=total
        )


def has_same_masks(masks: StepMasks) -> bool:
    """Whether virtual and real pass drop the same, or nothing."""
    return masks.real is masks.virtual or not (masks.real or masks.virtual)


def weighted(uses: Sequence[Use], rest: Deltas, own: Deltas, weights: tuple[torch.Tensor, torch.Tensor]) -> Deltas:
    """δ of R + mean ℓ_m + mean w_t ℓ_t + mean w_v ℓ_v, from that of the first two and those of the last two alone."""
    shares = {side: (weight.detach() / len(weight))[:, None] for side, weight in zip(SIDES, weights, strict=True)}
    result: list[torch.Tensor | None] = []
    for use, common, single in zip(uses, rest, own, strict=True):
        if single is None:
            result.append(common)
        elif common is None:
            result.append(shares[use.side] * single)
        else:
            result.append(torch.addcmul(common, shares[use.side], single))
    return result


def factorise(uses: Sequence[Use], deltas: Deltas) -> dict[str, Factors]:
    """The gradient of every layer that a loss reaches, all of its uses joined."""
    found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for use, delta in zip(uses, deltas, strict=True):
        if delta is not None:
            found.setdefault(use.name, []).append((use.x, delta))
    return {
        name: Factors(x=join([x for x, _ in rows]), delta=join([delta for _, delta in rows]))
        for name, rows in found.items()
    }


def form(gradients: Mapping[str, Factors]) -> Tensors:
    """Gradients of weights and biases, multiplied out."""
    result = {}
    for name, factors in gradients.items():
        result[f"{name}.weight"] = product(factors.delta.T, factors.x.T)
        result[f"{name}.bias"] = factors.delta.sum(0)
    return result


def inner_products(uses: Sequence[Use], own: Deltas, q: Mapping[str, Factors]) -> tuple[torch.Tensor, torch.Tensor]:
    """⟨q, ∇ℓ_t⟩ and ⟨q, ∇ℓ_v⟩ of every pair, (B,) each."""
    sums: dict[str, torch.Tensor] = {}
    for use, delta in zip(uses, own, strict=True):
        if delta is not None and use.name in q:
            other = q[use.name]
            products = (product(delta, other.delta) * (product(use.x, other.x) + 1.0)).sum(1)
            sums[use.side] = sums[use.side] + products if use.side in sums else products
    return sums[TEXT], sums[IMAGE]


def join(rows: list[torch.Tensor]) -> torch.Tensor:
    """One above the other, without a copy where there is but one."""
    return rows[0] if len(rows) == 1 else torch.cat(rows)
