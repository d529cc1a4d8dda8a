"""`sentifuse doctor` as a person or a program types it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse.commands.doctor import _lines
from sentifuse.doctor import Finding
from sentifuse.extract.detector import proposals

GOLDEN = Path(__file__).parents[1] / "golden"
DETECTOR = GOLDEN / "frcnn" / "smooth_s101_img_0_400x300.npz"
HEADS = GOLDEN / "heads" / "itin_paper_s1.npz"

Type = Callable[..., Any]


@pytest.mark.slow
def test_all_is_well_here(type_command: Type, tmp_path: Path) -> None:
    typed = type_command("doctor", "--profile", "tiny", "--artifacts", tmp_path / "artifacts")
    assert typed.code == 0, typed.out
    for area in ("environment", "weights", "encoders", "cache"):
        assert area in typed.out.splitlines()
    assert "FAILED" not in typed.out
    assert typed.err.splitlines()[0] == "profile tiny (--profile)"
    assert "checking: encoders" in typed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_json_is_one_object_with_every_check(type_command: Type, tmp_path: Path) -> None:
    typed = type_command("doctor", "--json", "--artifacts", tmp_path)
    document = typed.document
    assert (typed.code, document["ok"], document["exit_code"], document["profile"]) == (0, True, 0, "paper")
    assert sum(document["counts"].values()) == len(document["checks"]) > 20
    for check in document["checks"]:
        assert set(check) == {"area", "check", "state", "found", "advice", "seconds"}
        assert check["state"] in ("ok", "warning", "skipped")
    missing = {check["check"] for check in document["checks"] if check["state"] == "warning"}
    assert "regions of paper" in missing


@pytest.mark.slow
def test_something_wrong_exits_with_5_and_the_whole_report(
    type_command: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "OVERLAP", 0.5)
    words = ("doctor", "--profile", "tiny", "--artifacts", tmp_path)
    typed = type_command(*words)
    assert typed.code == 5
    assert "FAILED   detector, exact" in typed.out
    assert "a turned bit" in typed.out
    assert "checks failed: encoders: detector, plain, encoders: detector, exact" in typed.err.splitlines()[-1]
    document = type_command(*words, "--json").document
    assert (document["ok"], document["exit_code"], document["error"]["type"]) == (False, 5, "Unwell")
    states = {check["check"]: check["state"] for check in document["checks"]}
    assert states["detector, exact"] == "failed"
    assert states["a turned bit"] == "ok"


@pytest.mark.slow
def test_a_golden_file_is_verified_and_a_changed_one_is_not(type_command: Type, tmp_path: Path) -> None:
    typed = type_command("doctor", "--golden", DETECTOR, "--device", "cpu")
    assert typed.code == 0, typed.out
    lines = typed.out.splitlines()
    assert lines[0].startswith("smooth_s101_img_0_400x300.npz: ok (seed 101, smooth; img_0_400x300.png; exact on cpu")
    assert len(lines) > 25
    assert "making the weights of seed 101" in typed.err
    import numpy as np

    with np.load(DETECTOR, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    values["val_res2"] = values["val_res2"] + 1e-3
    np.savez(tmp_path / "changed.npz", **values)
    images = ("--images", DETECTOR.parent)
    typed = type_command("doctor", "--json", "--float64", *images, "--golden", tmp_path / "changed.npz")
    document = typed.document
    assert (typed.code, document["ok"], document["exit_code"]) == (5, False, 5)
    (file,) = document["files"]
    assert (file["ok"], file["first_beyond"], file["seed"], file["arithmetic"]) == (False, "res2", 101, "float64")
    wrong = [deviation for deviation in file["deviations"] if not deviation["ok"]]
    assert [deviation["stage"] for deviation in wrong] == ["res2"]
    assert wrong[0]["value"] == pytest.approx(1e-3, rel=0.01)


def test_the_same_advice_is_told_once() -> None:
    def finding(name: str, advice: str) -> Finding:
        return Finding(area="weights", check=name, state="warning", found="-", advice=advice)

    lines = _lines([finding("tokens", "fetch it"), finding("context", "fetch it"), finding("crowd", "make it")])
    assert [line.partition("→ ")[2] for line in lines if "→" in line] == ["fetch it", "as for tokens", "make it"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--golden", "none.npz"), 3, "none.npz: no such file"),
        (("--golden", DETECTOR, "none.npz"), 3, "none.npz: no such file"),
        (("--golden", GOLDEN / "frcnn" / "img_0_400x300.png"), 3, "is no .npz file"),
        (("--golden", DETECTOR, "--images", GOLDEN), 3, "--images DIR"),
        (("--golden", DETECTOR, "--precision", "quick"), 2, "unknown precision 'quick'"),
        (("--golden", DETECTOR, "--precision", "fast", "--float64"), 2, "--float64"),
        (("--golden", DETECTOR, "--device", "tpu"), 2, "tpu"),
        (("--golden", DETECTOR, "--images", "nodir"), 3, "--images nodir: no such folder"),
        (("--golden", DETECTOR, "--profile", "tiny"), 2, "--profile and --weights are for the checks without --golden"),
        (("--golden", DETECTOR.parent), 3, "is a folder; name golden files in it (it has "),
        ((DETECTOR,), 2, "sentifuse doctor --golden"),
        (("--float64",), 2, "--golden FILE"),
        (("--precision", "fast"), 2, "--golden FILE"),
        (("--profile", "tinyy"), 2, "did you mean 'tiny'"),
    ],
)
def test_mistakes_have_their_exit_code_and_a_message_to_act_on(
    words: tuple[str | Path, ...], code: int, message: str, type_command: Type, tmp_path: Path
) -> None:
    typed = type_command("doctor", *words, "--artifacts", tmp_path)
    assert typed.code == code, typed.err
    assert message in typed.err
    assert "Traceback" not in typed.err
    document = type_command("doctor", *words, "--artifacts", tmp_path, "--json").document
    assert document["error"]["exit_code"] == code


def test_a_sharp_file_in_reduced_precision_is_refused_at_once(type_command: Type, tmp_path: Path) -> None:
    import numpy as np

    with np.load(DETECTOR, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    np.savez(tmp_path / "sharp.npz", **{**values, "seed": np.array(1)})
    shutil.copy(DETECTOR.with_name("img_0_400x300.png"), tmp_path)
    typed = type_command("doctor", "--golden", tmp_path / "sharp.npz", "--precision", "fast")
    assert typed.code == 2
    assert "sharp golden file (seed 1)" in typed.err
    assert "making the weights" not in typed.err
