"""The miniature `doctor` checks the detector with: right as it is, and each known fault is noticed where it arises."""

import shutil
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sentifuse.extract.detector import detector
from sentifuse.extract.detector.architecture import VISUAL_GENOME
from sentifuse.extract.detector.arithmetic import build_stages
from sentifuse.extract.detector.golden import comparison, self_test
from sentifuse.extract.detector.golden.file import read_golden
from sentifuse.extract.detector.golden.rule import synthetic_weights

Patch = pytest.MonkeyPatch
GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "frcnn" / "smooth_s101_img_0_400x300.npz"


def known_faults() -> dict[str, Any]:
    """The table of `faults.py` beside this file."""
    spec = spec_from_file_location("faults", Path(__file__).with_name("faults.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    table: dict[str, Any] = module.FAULTS
    return table


FAULTS = known_faults()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


BEFORE_CROPS = ("input", "stem", "res2", "res3", "proposals", "pooling")


# The first fault of every stage and arithmetic; the others are slow tests.
QUICK = {(injected.stage, injected.arithmetic): name for name, injected in reversed(FAULTS.items())}.values()


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAULTS]
)
def test_a_fault_is_noticed_in_the_stage_where_it_arises(name: str, monkeypatch: Patch) -> None:
    injected = FAULTS[name]
    injected.fault(monkeypatch)
    with_regions = injected.stage not in BEFORE_CROPS  # which take most of the time
    found = comparison.first_beyond(self_test.check_stages(injected.arithmetic, with_regions=with_regions))
    assert found is not None
    assert found.stage == injected.stage, str(found)


FULL_SIZE = {  # the least conspicuous ones, and where a file that samples no borders shows them
    "stem pool rounded down": "stem",
    "epsilon 1e-3": "res2",
    "zeros beside the image": "res2",
    "one pixel more": "proposals",
    "clipped one pixel earlier": "proposals",
    "RoIAlign, half a cell less": "pooling",
    "boxes in bfloat16": "pooling",
}


@pytest.fixture(scope="module")
def full_weights() -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in synthetic_weights(101, VISUAL_GENOME).items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_it_is_noticed_in_the_real_size_too(name: str, full_weights: dict[str, Tensor], monkeypatch: Patch) -> None:
    file = read_golden(GOLDEN)
    FAULTS[name].fault(monkeypatch)
    stages = build_stages(full_weights, VISUAL_GENOME, device=torch.device("cpu"), arithmetic="plain")
    found = comparison.first_beyond(comparison.compare(stages, file, file.limits(), with_regions=False))
    assert found is not None
    assert found.stage == FULL_SIZE[name], str(found)


@pytest.mark.parametrize(
    "arithmetic", [pytest.param("float64", marks=pytest.mark.slow), "plain", "exact", "fast", "fastest"]
)
def test_the_network_keeps_the_numbers_in_the_package(arithmetic: str) -> None:
    assert [str(one) for one in self_test.check_stages(arithmetic) if not one.is_within] == []


@pytest.mark.parametrize("arithmetic", ["exact", "fast"])
def test_the_detector_keeps_them_alone_and_behind_another_picture(arithmetic: str) -> None:
    found = self_test.check_regions(arithmetic)
    assert {one.stage for one in found} == {"regions", "in a batch"}
    assert [str(one) for one in found if not one.is_within] == []


def test_a_detector_that_confuses_the_pictures_of_a_batch_is_noticed(monkeypatch: Patch) -> None:
    true = detector.Detector.detect
    monkeypatch.setattr(detector.Detector, "detect", lambda self, batch: true(self, batch)[::-1])
    found = comparison.first_beyond(self_test.check_regions("exact"))
    assert found is not None
    assert found.stage == "in a batch"


def test_a_detector_that_gives_boxes_in_its_own_pixels_is_noticed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(detector, "scale_boxes", lambda some, net_hw, original_hw: some)
    found = comparison.first_beyond(self_test.check_regions("exact"))
    assert found is not None
    assert (found.stage, found.quantity) == ("regions", "boxes in the image, px")


@pytest.mark.slow
def test_the_numbers_in_the_package_are_those_that_are_computed_anew(tmp_path: Path) -> None:
    shutil.copy(self_test.PICTURE, tmp_path)
    anew = read_golden(self_test.write_miniature(tmp_path), sizes=self_test.MINIATURE).values
    kept = self_test.miniature_golden().values
    assert anew.keys() == kept.keys()
    for name, value in kept.items():
        if value.dtype.kind == "f":
            assert np.allclose(anew[name], value, rtol=1e-6, atol=1e-9), name
        elif not name.endswith(("_stable", "_robust")):  # these hang on the rounding of the processor
            assert np.array_equal(anew[name], value), name


def test_the_numbers_in_the_package_are_small_and_demand_much() -> None:
    values = self_test.miniature_golden().values
    assert self_test.FILE.stat().st_size <= 100_000
    assert len(values["prop_anchor"]) == 300
    for name, least in (("prop_in_stable", 300), ("f36_stable", 30), ("ada_stable", 30), ("attr_stable", 290)):
        assert values[name].sum() >= least, name
    assert len(set(values["f36_cls"].tolist())) >= 4
    assert 50 <= (values["argmax_all"] == self_test.MINIATURE.class_count).sum() <= 250
