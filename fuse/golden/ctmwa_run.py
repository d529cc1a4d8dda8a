"""A golden run of CTMWA from its seed: network, optimisers and batches by the rule, as the authors' program takes them.

Reads no golden file and compares nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sentifuse.fuse.golden.rule import integers, parameter, reals
from sentifuse.fuse.heads.ctmwa_network import BACKBONE, WEIGHT_NETS, CtmwaNetwork, TranslationWeights
from sentifuse.fuse.heads.ctmwa_step import BilevelStep, StepSettings, Vectors, parameters_of

MATRIX_GAIN = 6.0
INPUT_BOUND = 1.0
PART_CLIP = 2.0
META_BATCHES = 2

Hyper = Mapping[str, float]  # inner_lr, lr, wnet_lr, trans_*, weight_decay, beta1, dropout, input_scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Widths and numbers of pairs of a golden run."""

    text: int
    image: int
    embedding: int
    class_count: int
    weight_net: int
    batch: int
    meta_batch: int


def build_network(seed: int, sizes: Sizes) -> CtmwaNetwork:
    """The network in float64 with the parameters of the rule."""
    network = CtmwaNetwork(
        sizes.text,
        sizes.image,
        embedding=sizes.embedding,
        class_count=sizes.class_count,
        weight_net_width=sizes.weight_net,
    ).double()
    set_parameters(network, seed, (*BACKBONE, *WEIGHT_NETS))
    return network


@torch.no_grad()
def set_parameters(network: CtmwaNetwork, seed: int, parts: tuple[str, ...]) -> None:
    """Give these parts the parameters of the rule."""
    for name, value in parameters_of(network, parts).items():
        value.copy_(torch.from_numpy(parameter(seed, f"ctmwa.param.{name}", value.shape, gain=MATRIX_GAIN)))


def build_step(step_class: type[BilevelStep], network: CtmwaNetwork, hyper: Hyper) -> BilevelStep:
    """A step with the optimisers of the authors' program."""
    optimiser = torch.optim.SGD(
        list(parameters_of(network, BACKBONE).values()),
        lr=hyper["lr"],
        momentum=0.9,
        weight_decay=hyper["weight_decay"],
    )
    weight_optimiser = torch.optim.Adam(
        list(parameters_of(network, WEIGHT_NETS).values()),
        lr=hyper["wnet_lr"],
        betas=(hyper["beta1"], 0.999),
        weight_decay=hyper["weight_decay"],
    )
    settings = StepSettings(
        translation=TranslationWeights(
            text_cycle=hyper["trans_tit"],
            image_cycle=hyper["trans_iti"],
            text_from_image=hyper["trans_it"],
            image_from_text=hyper["trans_ti"],
        ),
        inner_learning_rate=hyper["inner_lr"],
        dropout=hyper["dropout"],
        part_clip=PART_CLIP,
    )
    return step_class(network, settings, optimiser, weight_optimiser)


def train_batch(seed: int, place: int, sizes: Sizes, scale: float) -> Vectors:
    """The training batch of a step, by the rule."""
    return _batch(seed, f"ctmwa.train{place}", sizes.batch, sizes, scale, is_meta=False)


def meta_batch(seed: int, place: int, sizes: Sizes, scale: float) -> Vectors:
    """The meta batch at a place of the cycle, by the rule."""
    return _batch(seed, f"ctmwa.meta{place}", sizes.meta_batch, sizes, scale, is_meta=True)


def _batch(seed: int, name: str, pairs: int, sizes: Sizes, scale: float, *, is_meta: bool) -> Vectors:
    def labels(which: str) -> torch.Tensor:
        return torch.from_numpy(integers(seed, f"{name}.{which}", (pairs,), sizes.class_count))

    return Vectors(
        text=scale * torch.from_numpy(reals(seed, f"{name}.text", (pairs, sizes.text), INPUT_BOUND)),
        image=scale * torch.from_numpy(reals(seed, f"{name}.image", (pairs, sizes.image), INPUT_BOUND)),
        labels=labels("label"),
        text_labels=labels("text_label") if is_meta else None,
        image_labels=labels("image_label") if is_meta else None,
    )
