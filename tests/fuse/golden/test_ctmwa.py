"""Golden files of CTMWA: all of a right one is within its limits, any damaged number is seen, any seed is found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import DataError
from sentifuse.fuse.golden import ctmwa as ctmwa_golden
from sentifuse.fuse.golden.ctmwa_run import Sizes, build_network, build_step, meta_batch, train_batch
from sentifuse.fuse.golden.file import read_golden
from sentifuse.fuse.golden.kinds import check_heads_golden
from sentifuse.fuse.golden.rule import mask
from sentifuse.fuse.heads import ctmwa_fast
from sentifuse.fuse.heads.ctmwa_fast import Displaced, Factors
from sentifuse.fuse.heads.ctmwa_network import CALLS
from sentifuse.fuse.heads.ctmwa_step import BilevelStep, StepMasks

GOLDEN = Path(__file__).parents[2] / "golden" / "heads"
HYPER = {
    "inner_lr": 0.004,
    "lr": 7e-4,
    "wnet_lr": 5e-4,
    "trans_ti": 0.5,
    "trans_it": 1.0,
    "trans_tit": 0.5,
    "trans_iti": 0.05,
    "weight_decay": 2e-4,
    "beta1": 0.5,
    "dropout": 0.3,
    "input_scale": 1.5,
}
SIZES = Sizes(text=7, image=6, embedding=5, class_count=4, weight_net=8, batch=5, meta_batch=4)

Arrays = dict[str, Any]
Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("case", ["init", "clip", "noclip", "dropout"])
def test_a_golden_file_is_within_its_limits(case: str) -> None:
    rows = check_heads_golden(GOLDEN / f"ctmwa_{case}_s1.npz")
    assert len(rows) >= 29
    assert all(row.is_within for row in rows), "\n".join(map(str, rows))


def test_missing_modalities_are_in_the_golden_file() -> None:
    rows = check_heads_golden(GOLDEN / "ctmwa_init_s1.npz")
    assert {(row.stage, row.quantity) for row in rows} >= {
        ("missing_text", "proposal.logits_joint"),
        ("missing_text", "unimodal.logits_image"),
        ("missing_image", "proposal.logits_joint"),
        ("missing_image", "unimodal.logits_text"),
    }


def write(tmp_path: Path, arrays: Arrays, name: str = "ctmwa_clip_s1.npz") -> Path:
    path = tmp_path / name
    np.savez_compressed(path, **arrays)
    return path


def damage_meta_gradient(arrays: Arrays) -> None:
    arrays["step3.meta_grad.text_weight_net.linear1.weight"][5, 7] += 1e-6


def damage_parameter(arrays: Arrays) -> None:
    arrays["step3.params.image_neck.linear2.bias"][2] += 1e-8


def damage_norm(arrays: Arrays) -> None:
    arrays["step2.grad_norm_before_clip.text_encoder"] += 1e-6


def damage_first_logits(arrays: Arrays) -> None:
    arrays["step1.virtual.logits_joint"][0, 0] += 1.0


def forget_a_weight(arrays: Arrays) -> None:
    arrays["step2.real.weight_text"][1] = np.nan


@pytest.mark.parametrize(
    "damage",
    [
        damage_meta_gradient,
        damage_parameter,
        damage_norm,
        damage_first_logits,
        forget_a_weight,
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_number_is_seen(damage: Callable[[Arrays], None], tmp_path: Path) -> None:
    arrays = {name: np.array(value) for name, value in read_golden(GOLDEN / "ctmwa_clip_s1.npz").values.items()}
    damage(arrays)
    assert not all(row.is_within for row in check_heads_golden(write(tmp_path, arrays)))


def golden_run(seed: int, *, steps: int = 1, meta_gradients: tuple[int, ...] = (1,)) -> Arrays:
    """A file in the format of the golden ones, of another seed and other sizes, computed by ourselves."""
    network = build_network(seed, SIZES)
    step = build_step(BilevelStep, network, HYPER)
    arrays: Arrays = {f"hyper.{name}": np.array(value) for name, value in HYPER.items()}
    for place in range(steps):
        masks: dict[str, Any] = {}
        for which, pairs in (("virtual", SIZES.batch), ("meta", SIZES.meta_batch), ("real", SIZES.batch)):
            names = {call: f"mask.step{place}.{which}.{call}" for call in CALLS}
            arrays |= {name: mask(seed, f"ctmwa.{name}", (pairs, 2), 0.7) for name in names.values()}
            masks[which] = {call: torch.from_numpy(arrays[name]).double() / 0.7 for call, name in names.items()}
        meta = meta_batch(seed, place % 2, SIZES, 1.5)
        record = step(train_batch(seed, place, SIZES, 1.5), meta, masks=StepMasks(**masks))
        groups = ctmwa_golden._of_step(record, meta) | {"params.": dict(network.named_parameters())}
        if place + 1 not in meta_gradients:
            del groups["meta_grad."]
        for group, values in groups.items():
            of_group = {f"step{place + 1}.{group}{name}": value.detach().numpy() for name, value in values.items()}
            arrays |= {name: value.copy() for name, value in of_group.items()}
    return arrays


@pytest.mark.parametrize("name", ["ctmwa_dropout_s7.npz", "run.npz"])
def test_any_seed_and_any_size_is_recomputed(name: str, tmp_path: Path) -> None:
    rows = check_heads_golden(write(tmp_path, golden_run(7), name))
    assert all(row.is_within for row in rows), "\n".join(map(str, rows))
    assert {row.stage for row in rows} == {"inputs", "readable 1", "fast 1"}


def test_meta_gradients_may_be_of_any_steps_and_steps_more_than_nine(tmp_path: Path) -> None:
    rows = check_heads_golden(write(tmp_path, golden_run(7, steps=10, meta_gradients=(2, 10)), "run_s7.npz"))
    assert all(row.is_within for row in rows), "\n".join(map(str, rows))
    with_meta_gradient = {row.stage for row in rows if row.quantity.startswith("meta_grad.")}
    assert with_meta_gradient == {"readable 2", "fast 2", "readable 10", "fast 10"}


def test_a_loss_that_overflows_fails_the_file(tmp_path: Path) -> None:
    rows = check_heads_golden(write(tmp_path, golden_run(7) | {"hyper.inner_lr": np.array(1e300)}, "run_s7.npz"))
    assert [row.quantity for row in rows if not row.is_within] == ["a loss is not finite"] * 2


def test_numbers_of_no_seed_are_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentifuse.fuse.golden.file.SEEDS_TRIED", 3)
    arrays = golden_run(7)
    for side in ("joint", "text", "image"):
        arrays[f"step1.virtual.logits_{side}"] += 1.0
    rows = check_heads_golden(write(tmp_path, arrays))
    (row,) = rows
    assert row.quantity.startswith("no seed below ")
    assert row.quantity.endswith("(…_s<seed>.npz), gives the first pass")
    assert not row.is_within


def test_parameters_of_another_network_are_refused(tmp_path: Path) -> None:
    arrays = {name: np.array(value) for name, value in read_golden(GOLDEN / "ctmwa_init_s1.npz").values.items()}
    arrays["param.text_neck.linear1.weight"] = arrays["param.text_neck.linear1.weight"][:, :-1]
    with pytest.raises(
        DataError, match=r"'param.text_neck.linear1.weight' as float64 of shape \(30, 44\), found .* \(30, 43\)"
    ):
        check_heads_golden(write(tmp_path, arrays))


# Mistakes in the fast step. Those in the algorithm itself are put into the readable one: test_ctmwa_step.py.


def other_products(change: Callable[[Any, Any], Any]) -> Patch:
    """⟨q, ∇ℓ_t⟩ and ⟨q, ∇ℓ_v⟩ as `change` would have them."""
    true = ctmwa_fast.inner_products
    return lambda patch: patch.setattr(ctmwa_fast, "inner_products", lambda *given: change(*true(*given)))


def without_biases(uses: Any, own: Any, q: Any) -> Any:
    """The inner products of the weights alone: + Σ δ_i · δ'_j is forgotten."""
    sums: dict[str, Any] = {}
    for use, delta in zip(uses, own, strict=True):
        if delta is not None and use.name in q:
            products = (delta @ q[use.name].delta.T * (use.x @ q[use.name].x.T)).sum(1)
            sums[use.side] = sums.get(use.side, 0.0) + products
    return sums["text"], sums["image"]


def one_use_of_each_layer(uses: Any, deltas: Any) -> dict[str, Factors]:
    return {
        use.name: Factors(x=use.x, delta=delta) for use, delta in zip(uses, deltas, strict=True) if delta is not None
    }


def meta_pass_at_theta(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Displaced, "apply", ctmwa_fast.Recorded.apply)


def biases_not_displaced(patch: pytest.MonkeyPatch) -> None:
    def apply(self: Displaced, name: str, x: torch.Tensor) -> torch.Tensor:
        y, factors = ctmwa_fast.Recorded.apply(self, name, x), self.gradient.get(name)
        return y if factors is None else y - self.rate * (x @ factors.x.T) @ factors.delta

    patch.setattr(Displaced, "apply", apply)


def unweighted_virtual_step(patch: pytest.MonkeyPatch) -> None:
    true = ctmwa_fast.weighted
    patch.setattr(
        ctmwa_fast,
        "weighted",
        lambda uses, rest, own, w: true(uses, rest, own, (torch.ones_like(w[0]), torch.ones_like(w[1]))),
    )


def real_pass_as_if_masks_were_shared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ctmwa_fast, "has_same_masks", lambda masks: True)


def weights_swapped(patch: pytest.MonkeyPatch) -> None:
    true = ctmwa_fast.weighted
    patch.setattr(ctmwa_fast, "weighted", lambda uses, rest, own, w: true(uses, rest, own, (w[1], w[0])))


FAST: dict[str, Patch] = {
    "meta gradient of the wrong sign": other_products(lambda text, image: (-text, -image)),
    "not divided by B": other_products(lambda text, image: (len(text) * text, len(image) * image)),
    "modalities swapped in the meta gradient": other_products(lambda text, image: (image, text)),
    "mean of the pairs' products": other_products(
        lambda text, image: (0 * text + text.mean(), 0 * image + image.mean())
    ),
    "biases out of the inner products": lambda patch: patch.setattr(ctmwa_fast, "inner_products", without_biases),
    "last use of a layer only": lambda patch: patch.setattr(ctmwa_fast, "factorise", one_use_of_each_layer),
    "meta pass at θ": meta_pass_at_theta,
    "biases not displaced": biases_not_displaced,
    "virtual step without weights": unweighted_virtual_step,
    "real pass as if masks were shared": real_pass_as_if_masks_were_shared,
    "weights of text and image swapped": weights_swapped,
}


@pytest.mark.parametrize("mistake", FAST)
def test_mistake_in_the_fast_step_is_caught(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAST[mistake](monkeypatch)
    rows = ctmwa_golden.check_steps(read_golden(GOLDEN / "ctmwa_dropout_s1.npz"), versions=["fast"])
    broken = [row for row in rows if not row.is_within]
    assert max(row.value / row.limit for row in broken) > 100
