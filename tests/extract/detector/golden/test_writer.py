"""Golden files of our own making are like those of others: read, checked and reproduced in the same way."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.arithmetic import build_stages
from sentifuse.extract.detector.golden.comparison import compare
from sentifuse.extract.detector.golden.file import MAPS, read_golden
from sentifuse.extract.detector.golden.rule import is_smooth, synthetic_weights

THEIRS = Path(__file__).resolve().parents[3] / "golden" / "frcnn" / "smooth_s101_img_0_400x300.npz"


@pytest.mark.parametrize("seed", [7, 8, 104])
@pytest.mark.parametrize("arithmetic", ["plain", "exact"])
def test_other_arithmetics_reproduce_what_float64_gave(
    seed: int, arithmetic: str, golden_files: dict[int, Path], small: Architecture
) -> None:
    golden = read_golden(golden_files[seed], sizes=small)
    state = {key: torch.from_numpy(value) for key, value in synthetic_weights(seed, small).items()}
    stages = build_stages(state, small, device=torch.device("cpu"), arithmetic=arithmetic)
    assert [str(one) for one in compare(stages, golden, golden.limits()) if not one.is_within] == []


def test_the_fields_are_those_of_the_files_in_circulation(golden_files: dict[int, Path]) -> None:
    with np.load(THEIRS, allow_pickle=False) as theirs, np.load(golden_files[104], allow_pickle=False) as ours:
        assert set(theirs.files) - set(ours.files) == {"row_f64"}  # ours are of one precision
        assert set(ours.files) <= set(theirs.files)
        for name in ours.files:
            assert (ours[name].dtype.kind, ours[name].ndim) == (theirs[name].dtype.kind, theirs[name].ndim), name


@pytest.mark.parametrize("seed", [8, 104])
def test_only_smooth_files_say_what_survives_half_precision(seed: int, golden_files: dict[int, Path]) -> None:
    with np.load(golden_files[seed], allow_pickle=False) as values:
        assert ("prop_robust" in values.files) is is_smooth(seed)


def test_borders_are_sampled_where_padding_shows_first(golden_files: dict[int, Path]) -> None:
    with np.load(golden_files[104], allow_pickle=False) as values:
        for name in MAPS:
            height, width = values[f"stat_{name}"][1:3]
            places = values[f"at_{name}"]
            assert (places[:, 2] == width - 1).sum() >= 20, name
            assert (places[:, 1] == height - 1).sum() >= 20, name


def test_noise_of_half_precision_leaves_fewer_decisions_than_rounding(golden_files: dict[int, Path]) -> None:
    with np.load(golden_files[104], allow_pickle=False) as values:
        assert 0 < values["prop_robust"].sum() < values["prop_in_stable"].sum()
