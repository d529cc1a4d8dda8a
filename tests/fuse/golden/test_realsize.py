"""Golden numbers at real widths, from JSON: they hold, one that is off is seen, and what is no such file is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse import DataError
from sentifuse.fuse.golden import realsize as golden_realsize
from sentifuse.fuse.golden.check import check_golden_files
from sentifuse.fuse.golden.kinds import check_heads_golden, read_known
from sentifuse.fuse.golden.realsize import check_ctmwa

GOLDEN = Path(__file__).parents[2] / "golden" / "heads"
ITIN, CTMWA = GOLDEN / "itin_realsize_s1.json", GOLDEN / "ctmwa_realsize_s1.json"


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def small_ctmwa() -> dict[str, Any]:
    """One case at widths that take no time; its numbers are those of the real one."""
    case = json.loads(CTMWA.read_text(encoding="utf-8"))["text512_image512_hidden128"]
    return {"small": case | {"text_dim": 6, "image_dim": 5, "hidden": 4, "batch": 3, "meta_batch": 2}}


def small_itin() -> dict[str, Any]:
    said = json.loads(ITIN.read_text(encoding="utf-8"))
    said["inputs"] |= {"region_dim": 6, "word_dim": 5, "context_dim": 4}
    cases = {"code_d8": "code_d1024", "paper_d8_k6_scalar": "paper_d256_k256_scalar"}
    return {"inputs": said["inputs"]} | {name: said[case] for name, case in cases.items()}


@pytest.mark.slow  # 79 million parameters
@pytest.mark.parametrize(("path", "count"), [(ITIN, 12), (CTMWA, 316)], ids=["itin", "ctmwa"])
def test_numbers_at_real_widths_are_golden(path: Path, count: int) -> None:
    rows = check_heads_golden(path)
    assert len(rows) == count
    assert [str(row) for row in rows if not row.is_within] == []


@pytest.mark.slow
def test_the_readable_step_gives_them_too() -> None:
    rows = check_ctmwa(read_known(CTMWA)[1], version="readable")
    assert [str(row) for row in rows if not row.is_within] == []


@pytest.mark.parametrize("make", [small_itin, small_ctmwa])
def test_numbers_of_other_widths_are_compared_one_by_one(make: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    """What is stored is of other widths: all is off but the step's number and one bias."""
    (verdict,) = check_golden_files([write(tmp_path / "x.json", make())])
    right = {row.quantity for row in verdict.deviations if row.is_within}
    assert right <= {"step", "params.image_weight_net.linear2.bias"}
    assert len(verdict.deviations) == (8 if make is small_itin else 158)


@pytest.mark.parametrize("make", [small_itin, small_ctmwa])
def test_own_numbers_of_other_widths_are_kept_and_one_that_is_off_is_named(
    make: Callable[[], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = make()
    found: list[tuple[str, str, Any]] = []
    true = golden_realsize.compare

    def watched(stage: str, quantity: str, ours: Any, stored: Any) -> Any:
        found.append((stage, quantity, getattr(ours, "tolist", lambda: ours)()))
        return true(stage, quantity, ours, stored)

    monkeypatch.setattr(golden_realsize, "compare", watched)
    check_heads_golden(write(tmp_path / "wrong.json", document))
    monkeypatch.undo()
    for stage, quantity, value in found:
        case, _, step = stage.partition(" ")
        place = document[case]["steps"][int(step) - 1] if step else document[case]
        group, _, name = quantity.partition(".")
        (place[group] if name else place)[name or group] = value
    assert all(row.is_within for row in check_heads_golden(write(tmp_path / "right.json", document)))
    stage, quantity, value = found[-1]
    place = document[stage.partition(" ")[0]]
    place = place["steps"][-1]["params"] if "steps" in place else place
    name = quantity.removeprefix("params.")
    place[name] = [value[0] + 1e-6, *value[1:]] if isinstance(value, list) else value + 1e-6
    rows = check_heads_golden(write(tmp_path / "off.json", document))
    assert [(row.stage, row.quantity) for row in rows if not row.is_within] == [(stage, quantity)]


def without(*keys: Any) -> Callable[[Any], Any]:
    def change(document: Any) -> Any:
        place = document
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]
        return document

    return change


def with_value(value: Any, *keys: Any) -> Callable[[Any], Any]:
    def change(document: Any) -> Any:
        place = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        return document

    return change


REFUSED: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], str]] = {
    "no object": (small_itin, lambda document: [1, 2], "expected numbers under names, found .* the whole is list"),
    "text": (small_itin, with_value("much", "code_d8", "gate"), "code_d8.gate is str"),
    "uneven rows": (small_itin, with_value([[1.0], [1.0, 2.0]], "code_d8", "gate"), "found something else"),
    "neither": (small_itin, without("inputs"), "expected 'inputs' or cases with 'steps', found neither"),
    "no logits": (small_itin, without("code_d8", "logits"), "expected an array 'code_d8.logits', found none"),
    "more": (small_itin, with_value(1.0, "code_d8", "other"), "found code_d8.other"),
    "unknown case": (small_itin, with_value({"logits": 1.0}, "code_k8"), "expected cases named .*, found 'code_k8'"),
    "width that is none": (small_itin, with_value(0, "inputs", "word_dim"), "'inputs.word_dim' from 1 to 100,000"),
    "lengths of others": (small_itin, with_value([11, 6], "inputs", "lengths_for_paper"), "2 lengths from 1 to 10"),
    "other bound": (small_itin, with_value(1.0, "inputs", "bound"), "expected 'inputs.bound' 1.5, found 1.0"),
    "no seed": (small_ctmwa, without("small", "seed"), "expected an array 'small.seed' of 0 dimensions, found none"),
    "no rate": (small_ctmwa, without("small", "hyper", "lr"), "expected an array 'small.hyper.lr'"),
    "dropout": (small_ctmwa, with_value(0.3, "small", "hyper", "dropout"), "expected dropout 0 in small, found 0.3"),
    "no sum": (small_ctmwa, without("small", "steps", 1, "meta_total"), "'small.steps.1.meta_total', found none"),
    "a parameter left out": (
        small_ctmwa,
        without("small", "steps", 2, "params", "text_neck.linear1.bias"),
        "'small.steps.2.params.text_neck.linear1.bias', found none",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_such_file_is_refused(fault: str, tmp_path: Path) -> None:
    make, change, said = REFUSED[fault]
    with pytest.raises(DataError, match=rf"x\.json: .*{said}"):
        check_heads_golden(write(tmp_path / "x.json", change(make())))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, None], ids=str)
def test_what_is_no_json_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.json: expected (JSON, cannot be read|a golden file, found nothing)"):
        read_known(path)
