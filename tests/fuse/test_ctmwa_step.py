"""CTMWA's bi-level step against the golden runs, and proof that these see each of the typical mistakes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sentifuse.fuse.golden import ctmwa as ctmwa_golden
from sentifuse.fuse.golden import ctmwa_run as ctmwa_golden_run
from sentifuse.fuse.golden.ctmwa import check_steps
from sentifuse.fuse.golden.file import read_golden
from sentifuse.fuse.heads import ctmwa_network, ctmwa_step
from sentifuse.fuse.heads.ctmwa_network import WEIGHT_NETS, CtmwaNetwork, TranslationWeights
from sentifuse.fuse.heads.ctmwa_step import (
    BilevelStep,
    NotFiniteLoss,
    StepSettings,
    Vectors,
    parameters_of,
    plain_step,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "heads"
CLIP = GOLDEN / "ctmwa_clip_s1.npz"

Patch = Callable[[pytest.MonkeyPatch], None]


def without_meta_gradient(patch: pytest.MonkeyPatch) -> None:
    true = ctmwa_step.virtual_point
    patch.setattr(
        ctmwa_step, "virtual_point", lambda theta, g, rate: true(theta, [d.detach() + 0 * d for d in g], rate)
    )


def wrong_sign(patch: pytest.MonkeyPatch) -> None:
    true = ctmwa_step.virtual_point
    patch.setattr(
        ctmwa_step, "virtual_point", lambda theta, g, rate: true(theta, [2 * d.detach() - d for d in g], rate)
    )


def sum_instead_of_mean(patch: pytest.MonkeyPatch) -> None:
    true = ctmwa_step.training_loss
    patch.setattr(
        ctmwa_step,
        "training_loss",
        lambda signals, losses, weights, w_t, w_v: true(signals, losses, weights, len(w_t) * w_t, len(w_v) * w_v),
    )


def outer_rate_inside(patch: pytest.MonkeyPatch) -> None:
    with_hyper(patch, lambda hyper: hyper | {"inner_lr": hyper["lr"]})


def old_weights_in_the_real_pass(patch: pytest.MonkeyPatch) -> None:
    true, kept = ctmwa_step.weigh, []

    def weigh(*arguments: Any) -> Any:
        kept.append(true(*arguments))
        return kept[-1] if len(kept) % 2 else kept[-2]

    patch.setattr(ctmwa_step, "weigh", weigh)


def joint_labels_in_the_meta_loss(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ctmwa_step, "labels_of", lambda meta: (meta.labels, meta.labels, meta.labels))


def meta_batches_not_cyclic(patch: pytest.MonkeyPatch) -> None:
    true = ctmwa_golden.meta_batch
    patch.setattr(ctmwa_golden, "meta_batch", lambda seed, place, sizes, scale: true(seed, 0, sizes, scale))


def probabilities_into_the_weight_nets(patch: pytest.MonkeyPatch) -> None:
    true = ctmwa_step.weight_inputs
    names = ("joint_logits", "text_logits", "image_logits")
    patch.setattr(
        ctmwa_step,
        "weight_inputs",
        lambda signals, labels: true(
            replace(signals, **{name: getattr(signals, name).softmax(-1) for name in names}), labels
        ),
    )


def target_cut_from_the_graph(patch: pytest.MonkeyPatch) -> None:
    true = ctmwa_network.translation_losses
    patch.setattr(
        ctmwa_network, "translation_losses", lambda signals: true(replace(signals, text=signals.text.detach()))
    )


def squared_error(patch: pytest.MonkeyPatch) -> None:
    def squares(signals: Any) -> dict[str, torch.Tensor]:
        return {
            "text_from_image": (signals.text - signals.text_from_image).square().mean(-1),
            "image_from_text": (signals.image - signals.image_from_text).square().mean(-1),
            "text_cycle": (signals.text - signals.text_cycle).square().mean(-1),
            "image_cycle": (signals.image - signals.image_cycle).square().mean(-1),
        }

    patch.setattr(ctmwa_network, "translation_losses", squares)


def swapped_directions(patch: pytest.MonkeyPatch) -> None:
    with_hyper(patch, lambda hyper: hyper | {"trans_it": hyper["trans_ti"], "trans_ti": hyper["trans_it"]})


def one_clip_for_all(patch: pytest.MonkeyPatch) -> None:
    with_limits(patch, part_clip=0.0, gradient_clip=2.0)


def no_clip(patch: pytest.MonkeyPatch) -> None:
    with_limits(patch, part_clip=0.0, gradient_clip=0.0)


def no_weight_decay(patch: pytest.MonkeyPatch) -> None:
    with_optimiser(patch, weight_decay=0.0)


def nesterov(patch: pytest.MonkeyPatch) -> None:
    with_optimiser(patch, nesterov=True)


def another_beta(patch: pytest.MonkeyPatch) -> None:
    with_hyper(patch, lambda hyper: hyper | {"beta1": 0.9})


def decoupled_decay(patch: pytest.MonkeyPatch) -> None:
    true = ctmwa_golden.build_step

    def build(step_class: Any, network: CtmwaNetwork, hyper: Any) -> BilevelStep:
        step = true(step_class, network, hyper)
        weights = list(parameters_of(network, WEIGHT_NETS).values())
        step.weight_optimiser = torch.optim.AdamW(
            weights, lr=hyper["wnet_lr"], betas=(hyper["beta1"], 0.999), weight_decay=hyper["weight_decay"]
        )
        return step

    patch.setattr(ctmwa_golden, "build_step", build)


def with_hyper(patch: pytest.MonkeyPatch, change: Callable[[dict[str, float]], dict[str, float]]) -> None:
    true = ctmwa_golden_run.build_step
    patch.setattr(ctmwa_golden, "build_step", lambda kind, network, hyper: true(kind, network, change(dict(hyper))))


def with_limits(patch: pytest.MonkeyPatch, **limits: float) -> None:
    true = ctmwa_step.real_step
    patch.setattr(
        ctmwa_step,
        "real_step",
        lambda network, optimiser, gradients, **_: true(network, optimiser, gradients, **limits),
    )


def with_optimiser(patch: pytest.MonkeyPatch, **options: Any) -> None:
    true = ctmwa_golden.build_step

    def build(*arguments: Any) -> BilevelStep:
        step = true(*arguments)
        step.optimiser.param_groups[0].update(options)
        return step

    patch.setattr(ctmwa_golden, "build_step", build)


MISTAKES: tuple[Patch, ...] = (
    without_meta_gradient,
    wrong_sign,
    sum_instead_of_mean,
    outer_rate_inside,
    old_weights_in_the_real_pass,
    joint_labels_in_the_meta_loss,
    meta_batches_not_cyclic,
    probabilities_into_the_weight_nets,
    target_cut_from_the_graph,
    squared_error,
    swapped_directions,
    one_clip_for_all,
    no_clip,
    no_weight_decay,
    nesterov,
    another_beta,
    decoupled_decay,
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_the_golden_run_sees_a_mistake(mistake: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    rows = check_steps(read_golden(CLIP), versions=["readable"])
    broken = [row for row in rows if not row.is_within]
    assert len(rows) > 15
    assert max(row.value / row.limit for row in broken) > 100


@pytest.mark.parametrize("version", ["readable", "fast"])
@pytest.mark.parametrize("case", ["clip", "noclip", "dropout"])
def test_three_steps_equal_the_golden_run(case: str, version: str) -> None:
    rows = check_steps(read_golden(GOLDEN / f"ctmwa_{case}_s1.npz"), versions=[version])
    stages = [row.stage for row in rows]
    assert {f"{version} 1", f"{version} 2", f"{version} 3"} <= set(stages)
    quantities = " ".join(row.quantity for row in rows)
    for group in ("virtual.", "meta.", "real.", "meta_grad.", "meta_grad_norm.", "grad_norm_before_clip.", "params."):
        assert group in quantities
    assert all(row.is_within for row in rows), "\n".join(map(str, rows))


def step_on(settings: StepSettings, *, scale: float = 1.0) -> tuple[CtmwaNetwork, BilevelStep, Vectors, Vectors]:
    torch.manual_seed(0)
    network = CtmwaNetwork(5, 4, embedding=3, class_count=3, weight_net_width=6).double()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    step = BilevelStep(network, settings, optimiser, torch.optim.Adam(parameters_of(network, WEIGHT_NETS).values()))

    def vectors(n: int) -> Vectors:
        labels = [torch.randint(3, (n,)) for _ in range(3)]
        text, image = torch.randn(n, 5).double(), torch.randn(n, 4).double()
        return Vectors(text=text * scale, image=image, labels=labels[0], text_labels=labels[1], image_labels=labels[2])

    return network, step, vectors(6), vectors(4)


SETTINGS = StepSettings(
    translation=TranslationWeights(text_cycle=1.0, image_cycle=1.0, text_from_image=1.0, image_from_text=1.0),
    inner_learning_rate=0.1,
)


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    network, step, batch, meta = step_on(SETTINGS, scale=float("inf"))
    before = [p.detach().clone() for p in network.parameters()]
    with pytest.raises(NotFiniteLoss) as refused:
        step(batch, meta)
    assert not refused.value.is_meta  # where both are not finite, the training loss is the one to look at
    with pytest.raises(NotFiniteLoss):
        plain_step(network, SETTINGS, step.optimiser, batch)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_meta_batch_without_labels_of_its_modalities_is_refused() -> None:
    _, step, batch, meta = step_on(SETTINGS)
    with pytest.raises(ValueError, match="labels of text and image"):
        step(batch, replace(meta, image_labels=None))


def test_a_plain_step_is_gradient_descent_with_weights_one() -> None:
    network, step, batch, _ = step_on(SETTINGS)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    theta = parameters_of(network, ctmwa_network.BACKBONE)
    signals = ctmwa_network.run_network(ctmwa_step.layers_of(theta), batch.text, batch.image, {})
    losses = ctmwa_network.pair_losses(signals, batch.labels)
    ones = torch.ones(len(batch)).double()
    total = ctmwa_network.training_loss(signals, losses, SETTINGS.translation, ones, ones)
    gradients = torch.autograd.grad(total, list(theta.values()))
    assert plain_step(network, SETTINGS, step.optimiser, batch) == total.item()
    for (name, value), gradient in zip(theta.items(), gradients, strict=True):
        torch.testing.assert_close(value.detach(), before[name] - 0.1 * gradient)
    for name, value in parameters_of(network, WEIGHT_NETS).items():
        assert torch.equal(value, before[name])


def test_one_limit_for_all_parts_applies_after_that_of_each() -> None:
    network, step, batch, meta = step_on(replace(SETTINGS, part_clip=1e-2))
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    step(batch, meta, gradient_clip=1e-3)
    moved = [
        (value.detach() - before[name]).flatten()
        for name, value in parameters_of(network, ctmwa_network.BACKBONE).items()
    ]
    assert torch.cat(moved).norm().item() == pytest.approx(0.1 * 1e-3, rel=1e-2)


def test_a_shared_mask_is_the_virtual_one_again() -> None:
    for share in (True, False):
        _, step, batch, meta = step_on(replace(SETTINGS, dropout=0.5, share_masks=share))
        masks = step.draw_masks(batch, meta)
        assert (masks.real is masks.virtual) == share
        assert len(masks.virtual) == 4
        assert len(masks.meta) == 2  # the meta loss has no cycles
