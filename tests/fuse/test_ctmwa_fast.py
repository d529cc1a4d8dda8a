"""The fast bi-level step computes the numbers of the readable one."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from sentifuse.fuse.heads.ctmwa_fast import FastBilevelStep, has_same_masks
from sentifuse.fuse.heads.ctmwa_network import BACKBONE, WEIGHT_NETS, CtmwaNetwork, TranslationWeights
from sentifuse.fuse.heads.ctmwa_step import BilevelStep, StepMasks, StepSettings, Vectors, parameters_of, weigh
from sentifuse.fuse.precision import rounded_products

TOLERANCE = {"atol": 1e-11, "rtol": 1e-9}


def vectors(n: int, text: int, image: int, classes: int) -> Vectors:
    labels = [torch.randint(classes, (n,)) for _ in range(3)]
    return Vectors(
        text=torch.randn(n, text).double(),
        image=torch.randn(n, image).double(),
        labels=labels[0],
        text_labels=labels[1],
        image_labels=labels[2],
    )


def narrow(of: Vectors) -> Vectors:
    return replace(of, text=of.text.float(), image=of.image.float())


def build(step_class: type[BilevelStep], network: CtmwaNetwork, settings: StepSettings) -> BilevelStep:
    optimiser = torch.optim.SGD(
        list(parameters_of(network, BACKBONE).values()), lr=0.05, momentum=0.9, weight_decay=1e-3
    )
    weights = list(parameters_of(network, WEIGHT_NETS).values())
    return step_class(network, settings, optimiser, torch.optim.Adam(weights, lr=1e-2, weight_decay=1e-3))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("dropout", "share"), [(0.0, False), (0.4, False), (0.4, True)])
@pytest.mark.parametrize("part_clip", [0.0, 0.5])
def test_both_steps_give_the_same_numbers(seed: int, dropout: float, share: bool, part_clip: float) -> None:
    torch.manual_seed(seed)
    text, image, embedding, classes = torch.randint(2, 9, (4,)).tolist()
    network = CtmwaNetwork(text, image, embedding=embedding, class_count=classes, weight_net_width=5).double()
    weights = torch.rand(4).tolist()
    settings = StepSettings(
        translation=TranslationWeights(
            text_cycle=weights[0], image_cycle=weights[1], text_from_image=weights[2], image_from_text=weights[3]
        ),
        inner_learning_rate=0.2,
        dropout=dropout,
        share_masks=share,
        part_clip=part_clip,
    )
    readable = build(BilevelStep, network, settings)
    fast = build(FastBilevelStep, deepcopy(network), settings)
    for pairs, meta_pairs in ((7, 5), (3, 8), (1, 1)):  # batches of one, and incomplete ones
        batch, meta = vectors(pairs, text, image, classes), vectors(meta_pairs, text, image, classes)
        masks = readable.draw_masks(batch, meta)
        # The readable meta pass runs the cycles too, though its loss has none: any mask will do for them.
        full = {name: torch.ones(meta_pairs, 2).double() for name in masks.virtual} | dict(masks.meta)
        one, other = readable(batch, meta, masks=replace(masks, meta=full)), fast(batch, meta, masks=masks)
        for name in ("virtual", "real"):
            torch.testing.assert_close(getattr(other, name).total, getattr(one, name).total, **TOLERANCE)
            torch.testing.assert_close(getattr(other, name).text_weight, getattr(one, name).text_weight, **TOLERANCE)
        torch.testing.assert_close(other.meta_total, one.meta_total, **TOLERANCE)
        for name, gradient in one.weight_gradients.items():
            torch.testing.assert_close(other.weight_gradients[name], gradient, **TOLERANCE)
        for name, norm in one.norms.items():
            torch.testing.assert_close(other.norms[name], norm, **TOLERANCE)
        for (name, theirs), ours in zip(network.named_parameters(), fast.network.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, **TOLERANCE, msg=name)


def test_the_meta_gradient_is_the_slope_of_the_meta_loss() -> None:
    """Central differences along random directions of the weight nets, through the whole virtual step."""
    torch.manual_seed(1)
    network = CtmwaNetwork(6, 5, embedding=4, class_count=3, weight_net_width=5).double()
    translation = TranslationWeights(text_cycle=0.1, image_cycle=0.1, text_from_image=1.0, image_from_text=0.3)
    settings = StepSettings(translation=translation, inner_learning_rate=0.3)
    batch, meta = vectors(8, 6, 5, 3), vectors(6, 6, 5, 3)
    gradient = build(FastBilevelStep, deepcopy(network), settings)(batch, meta).weight_gradients
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        direction = {
            name: torch.randn(value.shape, generator=generator, dtype=value.dtype) for name, value in gradient.items()
        }
        totals = []
        for h in (1e-4, -1e-4):
            moved = deepcopy(network)
            with torch.no_grad():
                for name, value in parameters_of(moved, WEIGHT_NETS).items():
                    value.add_(h * direction[name])
            totals.append(build(FastBilevelStep, moved, settings)(batch, meta).meta_total.item())
        slope = (totals[0] - totals[1]) / 2e-4
        expected = sum((gradient[name] * direction[name]).sum().item() for name in gradient)
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-9)
        assert abs(expected) > 1e-6


def test_masks_count_as_one_only_where_they_are() -> None:
    mask = {"text_to_image.call0": torch.ones(2, 2)}
    assert has_same_masks(StepMasks())
    assert has_same_masks(StepMasks(virtual=mask, real=mask))
    assert not has_same_masks(StepMasks(virtual=mask, real=dict(mask)))


def test_half_the_precision_gives_the_same_numbers_to_its_rounding() -> None:
    torch.manual_seed(0)
    network = CtmwaNetwork(40, 30, embedding=20, class_count=3, weight_net_width=16).double()
    single = deepcopy(network).float()
    translation = TranslationWeights(text_cycle=0.05, image_cycle=0.05, text_from_image=2.0, image_from_text=0.2)
    settings = StepSettings(translation=translation, inner_learning_rate=3e-3)
    batch, meta = vectors(16, 40, 30, 3), vectors(16, 40, 30, 3)
    one = build(FastBilevelStep, network, settings)(batch, meta)

    other = build(FastBilevelStep, single, settings)(narrow(batch), narrow(meta))
    assert other.meta_total.item() == pytest.approx(one.meta_total.item(), rel=1e-5)
    for name, gradient in one.weight_gradients.items():
        largest = gradient.abs().max().item()
        assert (other.weight_gradients[name].double() - gradient).abs().max().item() < 5e-5 * largest


def test_rounded_products_turn_the_gradients_by_little_and_nothing_is_stale() -> None:
    torch.manual_seed(0)
    network = CtmwaNetwork(40, 30, embedding=20, class_count=3, weight_net_width=16)
    twin = deepcopy(network)
    translation = TranslationWeights(text_cycle=0.05, image_cycle=0.05, text_from_image=2.0, image_from_text=0.2)
    settings = StepSettings(translation=translation, inner_learning_rate=3e-3)
    batch, meta = (narrow(vectors(16, 40, 30, 3)) for _ in range(2))
    exact = build(FastBilevelStep, network, settings)(batch, meta)
    step = build(FastBilevelStep, twin, settings)
    with rounded_products("bfloat16", batch.text.device):
        found = step(batch, meta)
    assert found.real.total.item() == pytest.approx(exact.real.total.item(), rel=1e-2)
    assert found.real.total.item() != exact.real.total.item()
    for name, gradient in exact.weight_gradients.items():
        assert torch.cosine_similarity(found.weight_gradients[name].flatten(), gradient.flatten(), dim=0) > 0.99
    for name, parameter in twin.named_parameters():
        assert parameter.dtype == torch.float32
        assert not torch.equal(parameter, dict(network.named_parameters())[name])
    # The real pass weighs by the weight nets after their step, in full precision.
    after = weigh(twin, found.real.signals, batch.labels)
    assert torch.equal(torch.stack(after), torch.stack([found.real.text_weight, found.real.image_weight]))
    assert not torch.equal(found.real.text_weight, found.virtual.text_weight)
