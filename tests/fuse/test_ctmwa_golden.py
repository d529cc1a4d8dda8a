"""Golden files of CTMWA: all of a right one is within its limits, any damaged number is seen, any seed is found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import DataError
from sentifuse.fuse.heads.ctmwa_fast import FastBilevelStep
from sentifuse.fuse.heads.ctmwa_golden import check_realsize
from sentifuse.fuse.heads.ctmwa_golden_run import Sizes, build_network, build_step, meta_batch, train_batch
from sentifuse.fuse.heads.ctmwa_step import StepMasks
from sentifuse.fuse.heads.golden import check_heads_golden
from sentifuse.fuse.heads.golden_file import read_golden
from sentifuse.fuse.heads.golden_rule import mask

GOLDEN = Path(__file__).parents[1] / "golden" / "heads"
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


@pytest.mark.parametrize("case", ["init", "clip", "noclip", "dropout"])
def test_a_golden_file_is_within_its_limits(case: str) -> None:
    rows = check_heads_golden(GOLDEN / f"ctmwa_{case}_s1.npz")
    assert len(rows) >= 29
    assert all(row.is_within for row in rows), "\n".join(map(str, rows))


def test_missing_modalities_are_in_the_golden_file() -> None:
    rows = check_heads_golden(GOLDEN / "ctmwa_init_s1.npz")
    assert {(row.stage, row.quantity) for row in rows} >= {
        (f"{side} missing", way) for side in ("text", "image") for way in ("translate", "unimodal")
    }


@pytest.mark.slow
@pytest.mark.parametrize("version", ["readable", "fast"])
def test_sums_at_real_widths_are_golden(version: str) -> None:
    rows = check_realsize(GOLDEN / "ctmwa_realsize_s1.json", version=version)
    assert len(rows) == 306
    assert all(row.is_within for row in rows), "\n".join(str(row) for row in rows if not row.is_within)


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


def add_an_unknown_number(arrays: Arrays) -> None:
    arrays["step1.meta.ce_other"] = np.array(1.0)


@pytest.mark.parametrize(
    "damage",
    [
        damage_meta_gradient,
        damage_parameter,
        damage_norm,
        damage_first_logits,
        forget_a_weight,
        add_an_unknown_number,
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_number_is_seen(damage: Callable[[Arrays], None], tmp_path: Path) -> None:
    arrays = {name: np.array(value) for name, value in read_golden(GOLDEN / "ctmwa_clip_s1.npz").values.items()}
    damage(arrays)
    assert not all(row.is_within for row in check_heads_golden(write(tmp_path, arrays)))


def golden_run(seed: int) -> Arrays:
    """A file in the format of the golden ones, of another seed and other sizes, computed by ourselves."""
    network = build_network(seed, SIZES)
    step = build_step(FastBilevelStep, network, HYPER)
    arrays: Arrays = {f"hyper.{name}": np.array(value) for name, value in HYPER.items()}
    calls = ("text_to_image.call0", "image_to_text.call0", "image_to_text.call1", "text_to_image.call1")
    for which, pairs in (("virtual", SIZES.batch), ("meta", SIZES.meta_batch), ("real", SIZES.batch)):
        for call in calls:
            name = f"mask.step0.{which}.{call}"
            arrays[name] = mask(seed, f"ctmwa.{name}", (pairs, 2), 0.7)
    masks = {
        which: {call: torch.from_numpy(arrays[f"mask.step0.{which}.{call}"]).double() / 0.7 for call in calls}
        for which in ("virtual", "meta", "real")
    }
    record = step(train_batch(seed, 0, SIZES, 1.5), meta_batch(seed, 0, SIZES, 1.5), masks=StepMasks(**masks))
    for which, signals in (("virtual", record.virtual.signals), ("meta", record.meta_signals)):
        for side in ("joint", "text", "image"):
            arrays[f"step1.{which}.logits_{side}"] = getattr(signals, f"{side}_logits").detach().numpy()
    for name, value in record.weight_gradients.items():
        arrays[f"step1.meta_grad.{name}"] = value.numpy()
    for name, value in network.named_parameters():
        arrays[f"step1.params.{name}"] = value.detach().numpy()
    return arrays


@pytest.mark.parametrize("name", ["ctmwa_dropout_s7.npz", "run.npz"])
def test_any_seed_and_any_size_is_recomputed(name: str, tmp_path: Path) -> None:
    rows = check_heads_golden(write(tmp_path, golden_run(7), name))
    assert all(row.is_within for row in rows), "\n".join(map(str, rows))
    assert {row.stage for row in rows} == {"inputs", "readable 1", "fast 1"}


def test_numbers_of_no_seed_are_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentifuse.fuse.heads.golden_file.SEEDS_TRIED", 3)
    arrays = golden_run(7)
    for side in ("joint", "text", "image"):
        arrays[f"step1.virtual.logits_{side}"] += 1.0
    rows = check_heads_golden(write(tmp_path, arrays))
    assert [row.quantity for row in rows if not row.is_within][-1] == "no seed gives the first pass"


def test_parameters_of_another_network_are_refused(tmp_path: Path) -> None:
    arrays = {name: np.array(value) for name, value in read_golden(GOLDEN / "ctmwa_init_s1.npz").values.items()}
    arrays["param.text_neck.linear1.weight"] = arrays["param.text_neck.linear1.weight"][:, :-1]
    with pytest.raises(DataError, match="the parameters are not those of CTMWA"):
        check_heads_golden(write(tmp_path, arrays))
