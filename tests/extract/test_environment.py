"""What this machine has, judged: versions that belong together, libraries that do what they must."""

import sys
from importlib import metadata
from typing import Any

import pytest
import torchvision.ops

from sentifuse.extract import environment
from sentifuse.extract.environment import BrokenLibrary, judge_torch


@pytest.mark.parametrize(
    ("torch", "torchvision", "state"),
    [
        ("2.11.0", "0.26.0", "ok"),
        ("2.12.1+cu128", "0.27.1+cu128", "ok"),
        ("2.13.0+cpu", "0.28.0+cpu", "ok"),
        ("2.14.1", "0.29.1", "ok"),
        ("2.15.0", "0.30.0", "warning"),
        ("2.13.0", "0.29.1", "failed"),
        ("2.14.1", "0.26.0", "failed"),
        ("2.10.0", "0.25.0", "failed"),
        ("1.13.1", "0.14.1", "failed"),
    ],
)
def test_torch_and_torchvision_are_judged_as_a_pair(torch: str, torchvision: str, state: str) -> None:
    seen = judge_torch(torch, torchvision)
    assert seen.state == state
    assert torch in seen.found
    assert bool(seen.advice) is (state != "ok")


def test_the_advice_is_the_pair_that_goes_with_the_torch_there_is() -> None:
    assert '"torch==2.13.*" "torchvision==0.28.*"' in judge_torch("2.13.0", "0.29.1").advice
    assert '"torch==2.14.*" "torchvision==0.29.*"' in judge_torch("2.9.0", "0.24.0").advice


def test_what_is_installed_here_is_right() -> None:
    for look in (
        environment.see_python,
        environment.see_torch,
        environment.see_packages,
        environment.see_processor,
    ):
        assert look().state in ("ok", "warning")
    assert environment.see_operators() == "nms and roi_pool run and are right"
    assert "HDF5 " in environment.see_hdf5()
    assert environment.see_gpu()


def test_a_missing_operator_names_the_pair_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nand a long story")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    with pytest.raises(BrokenLibrary, match=r"^operator torchvision::nms does not exist: .*torchvision==0\.\d+\.\*"):
        environment.see_operators()


def test_an_operator_that_gives_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    true = torchvision.ops.roi_pool
    monkeypatch.setattr(torchvision.ops, "roi_pool", lambda *words: true(*words) + 1)
    with pytest.raises(BrokenLibrary, match="roi_pool gave"):
        environment.see_operators()


def test_a_package_that_is_missing_or_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    true = metadata.version

    def version(name: str) -> str:
        if name == "scipy":
            raise metadata.PackageNotFoundError(name)
        return "3.15.9" if name == "h5py" else true(name)

    monkeypatch.setattr(metadata, "version", version)
    seen = environment.see_packages()
    assert seen.state == "failed"
    assert "scipy is missing" in seen.found
    assert "h5py 3.15.9, at least 3.16 is needed" in seen.found


def test_an_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert environment.see_python().state == "failed"


@pytest.mark.parametrize(("free_bytes", "state"), [(1_500_000_000, "warning"), (8_000_000_000, "ok"), (None, "ok")])
def test_little_memory_is_a_warning(free_bytes: Any, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "free_memory_bytes", lambda: free_bytes)
    assert environment.see_processor().state == state
