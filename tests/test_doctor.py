"""The doctor: every check gives one finding whatever happens; golden files go to who can verify them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision.ops
from safetensors.numpy import save_file

from sentifuse import CacheError, DataError, doctor
from sentifuse.doctor import Check, Finding, Seen, all_checks, examine, golden_kind, verify_golden
from sentifuse.extract.detector import proposals
from sentifuse.extract.detector.golden import self_test
from sentifuse.extract.environment import BrokenLibrary

GOLDEN = Path(__file__).parent / "golden"
DETECTOR = GOLDEN / "frcnn" / "smooth_s101_img_0_400x300.npz"
HEADS = GOLDEN / "heads" / "itin_paper_s1.npz"


def look_at(name: str, *, artifacts: Path, profile: str | Path = "tiny") -> Finding:
    """The finding of one check, without the others."""
    checks = all_checks(artifacts=artifacts, profile=profile)
    (check,) = [check for check in checks if check.name == name]
    (finding,) = examine([check])
    return finding


# How checks become findings ------------------------------------------------------------------------------------------


def broken() -> str:
    raise OSError("libcudart.so.12: cannot open shared object file\nmore")


def refused() -> str:
    raise BrokenLibrary("where, what, and what to do")


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (lambda: "all is well", ("ok", "all is well", "")),
        (lambda: Seen(found="full", state="warning", advice="make room"), ("warning", "full", "make room")),
        (broken, ("failed", "OSError: libcudart.so.12: cannot open shared object file", "reinstall")),
        (refused, ("failed", "where, what, and what to do", "reinstall")),
        (lambda: 1 / 0, ("failed", "ZeroDivisionError: division by zero", "reinstall")),
    ],
)  # fmt: skip
def test_whatever_a_check_does_is_a_finding(look: Callable[[], Seen | str], expected: tuple[str, str, str]) -> None:
    (finding,) = examine([Check(area="a", name="b", look=look, advice="reinstall")])
    assert (finding.area, finding.check) == ("a", "b")
    assert (finding.state, finding.found, finding.advice) == expected


def test_what_needs_something_that_failed_is_skipped_and_so_is_what_needs_that() -> None:
    checks = [
        Check(area="a", name="first", look=broken),
        Check(area="a", name="second", look=lambda: "never", needs=("first",)),
        Check(area="a", name="third", look=lambda: "never", needs=("second",)),
        Check(area="a", name="fourth", look=lambda: "fine"),
    ]
    assert [finding.state for finding in examine(checks)] == ["failed", "skipped", "skipped", "ok"]


def test_the_names_of_checks_are_all_different_and_needs_are_names(tmp_path: Path) -> None:
    checks = all_checks(artifacts=tmp_path, profile="tiny")
    names = [check.name for check in checks]
    assert len(set(names)) == len(names) > 20
    assert {check.area for check in checks} == {"environment", "weights", "encoders", "cache"}
    for i, check in enumerate(checks):
        assert set(check.needs) <= set(names[:i])


BLOCKED = """
import sys
sys.modules["{package}"] = None
from sentifuse import cli
sys.exit(cli.run(["doctor", "--profile", "tiny", "--artifacts", "artifacts", "--json"]))
"""


@pytest.mark.parametrize(
    "package",
    ["numpy", "PIL", *(pytest.param(name, marks=pytest.mark.slow) for name in ("h5py", "torch", "transformers"))],
)
def test_an_environment_without_a_package_ends_in_a_report(package: str, tmp_path: Path) -> None:
    code = BLOCKED.format(package=package)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    assert (document["exit_code"], document["error"]["type"]) == (5, "Unwell")
    checks = document["checks"]
    assert list(dict.fromkeys(check["area"] for check in checks)) == ["environment", "weights", "encoders", "cache"]
    failed = [check for check in checks if check["state"] == "failed"]
    assert all(package in check["found"] for check in failed)
    assert all(check["advice"] for check in failed)
    if package in ("numpy", "PIL"):  # without them the rest cannot even be listed
        assert [check["check"] for check in failed] == ["numpy and Pillow"]
        assert {check["state"] for check in checks if check["area"] in ("weights", "encoders")} == {"skipped"}


def test_a_library_that_breaks_the_list_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(name: object) -> None:
        raise ImportError("libjpeg.so.62: cannot open shared object file")

    monkeypatch.setattr("sentifuse.extract.profile.load_profile", torn)
    for name in ("all weights", "all encoders"):
        finding = look_at(name, artifacts=tmp_path)
        assert (finding.state, finding.found) == (
            "failed",
            "ImportError: libjpeg.so.62: cannot open shared object file",
        )
        assert "make setup" in finding.advice


def test_torch_without_its_operators_skips_the_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", missing)
    checks = all_checks(artifacts=tmp_path, profile="tiny")
    some = [check for check in checks if check.area == "encoders" or check.name == "torchvision's operators"]
    first, *others = examine(some)
    assert first.state == "failed"
    assert "torchvision==" in first.found
    assert {finding.state for finding in others} == {"skipped"}


# The checks themselves -----------------------------------------------------------------------------------------------


def test_the_artifacts_folder_is_not_made_and_nothing_stays(tmp_path: Path) -> None:
    finding = look_at("artifacts folder", artifacts=tmp_path / "a" / "b")
    assert finding.state in ("ok", "warning")
    assert "is not there yet" in finding.found
    assert list(tmp_path.iterdir()) == []


def test_an_artifacts_folder_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    finding = look_at("artifacts folder", artifacts=tmp_path / "a")
    assert (finding.state, "is a file" in finding.found) == ("failed", True)


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_DISK_GB", 1e9)
    assert look_at("artifacts folder", artifacts=tmp_path).state == "warning"


def own_profile(folder: Path, model: str) -> Path:
    (folder / "own.toml").write_text(f"[encoders.context]\nmodel = {model}\n", encoding="utf-8")
    return folder / "own.toml"


def test_a_missing_model_is_a_warning_and_says_how_to_place_it(tmp_path: Path) -> None:
    profile = own_profile(tmp_path, '{ file = "net.safetensors", architecture = "resnet18" }')
    finding = look_at("context of own", artifacts=tmp_path, profile=profile)
    assert finding.state == "warning"
    assert "missing" in finding.found
    assert "weights add" in finding.advice


def test_a_model_that_a_run_would_fetch_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    profile = own_profile(tmp_path, '{ torchvision = "resnet18", weights = "IMAGENET1K_V1" }')
    finding = look_at("context of own", artifacts=tmp_path, profile=profile)
    assert finding.state == "warning"
    assert "not on this machine yet" in finding.found


def test_a_torn_model_fails_and_a_whole_one_shows_its_digest(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "net.safetensors"
    save_file({"x": np.zeros(1000, dtype=np.float32)}, file)
    profile = own_profile(tmp_path, '{ file = "net.safetensors", architecture = "resnet18" }')
    finding = look_at("context of own", artifacts=tmp_path, profile=profile)
    assert (finding.state, "digest" in finding.found) == ("ok", True)
    file.write_bytes(file.read_bytes()[:-100])
    finding = look_at("context of own", artifacts=tmp_path, profile=profile)
    assert (finding.state, "cut off?" in finding.found) == ("failed", True)


@pytest.mark.parametrize("name", ["detector, exact", "detector, fast", "tiny context", "rows", "a turned bit"])
def test_the_rooms_pass_here(name: str, tmp_path: Path) -> None:
    finding = look_at(name, artifacts=tmp_path)
    assert finding.state == "ok", finding.found
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_detector_fails_with_the_stage_where_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "OVERLAP", 0.5)
    finding = look_at("detector, exact", artifacts=tmp_path)
    assert finding.state == "failed"
    assert finding.found.startswith("proposals: ")
    assert "report it" in finding.advice


def test_numbers_that_were_lost_from_the_package_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "FILE", tmp_path / "none.npz")
    self_test.miniature_golden.cache_clear()
    finding = look_at("detector, exact", artifacts=tmp_path)
    self_test.miniature_golden.cache_clear()
    assert (finding.state, "no such file" in finding.found) == ("failed", True)


def test_a_cache_that_is_not_right_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(folder: Path) -> str:
        raise CacheError(f"{folder}: two writers got in")

    monkeypatch.setattr("sentifuse.cache.checkup.self_test.check_rows", wrong)
    assert look_at("rows", artifacts=tmp_path).state == "failed"


# Golden files --------------------------------------------------------------------------------------------------------


def test_kinds_are_recognised_by_their_arrays(tmp_path: Path) -> None:
    assert golden_kind(DETECTOR) == "detector"
    assert golden_kind(HEADS) == "heads"
    np.savez(tmp_path / "x_feats.npz", rows=np.arange(3), feat=np.ones((3, 5)))
    with pytest.raises(DataError, match=r"give the golden file it belongs to, x\.npz"):
        golden_kind(tmp_path / "x_feats.npz")
    np.savez(tmp_path / "y.npz", size_table=np.arange(3))
    with pytest.raises(DataError, match="no golden file of a known kind"):
        golden_kind(tmp_path / "y.npz")
    np.savez(tmp_path / "z.npz")
    with pytest.raises(DataError, match="no array"):
        golden_kind(tmp_path / "z.npz")


def test_every_kind_has_its_checker() -> None:
    from importlib import import_module

    for place in doctor.CHECKERS.values():
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(module), function))


def test_one_bad_file_stops_before_anything_is_computed(tmp_path: Path) -> None:
    notes: list[str] = []
    with pytest.raises(DataError, match="no such file"):
        list(verify_golden([DETECTOR, tmp_path / "none.npz"], note=notes.append))
    assert notes == []


def test_features_beside_their_file_are_read_with_it(tmp_path: Path) -> None:
    """Left out only where that file is given too; here that file is no golden file, which is what is said."""
    (tmp_path / "x.npz").write_bytes(b"")
    np.savez(tmp_path / "x_feats.npz", rows=np.arange(3), feat=np.ones((3, 5)))
    notes: list[str] = []
    with pytest.raises(DataError, match=r"x\.npz: is no \.npz file"):
        list(verify_golden([tmp_path / "x_feats.npz", tmp_path / "x.npz"], note=notes.append))
    assert notes == ["x_feats.npz: read together with the file it belongs to"]


@pytest.mark.slow
def test_a_fault_is_noticed_on_the_golden_file_of_the_repository_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "OVERLAP", 0.5)
    (verdict,) = verify_golden([DETECTOR])
    assert not verdict.is_right
    assert verdict.to_json()["first_beyond"] == "proposals"
