"""`sentifuse report` as typed: the file under `html`, defaults said aloud, errors in the house's form."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Type = Callable[..., Any]


def test_json_names_the_file_under_html(type_command: Type, project: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.html"
    typed = type_command("report", "--out", out, "--json", "--device", "cpu", "--artifacts", project)
    assert typed.code == 0, typed.err
    assert typed.document["html"] == str(out)
    assert typed.document["size_bytes"] == out.stat().st_size
    assert typed.document["split"] == "test"
    assert "(last trained) on test" in typed.err.splitlines()[0]


@pytest.mark.slow
def test_a_person_is_told_the_file_and_how_often_the_part_was_opened(
    type_command: Type, project: Path, tmp_path: Path
) -> None:
    here = ("--artifacts", project, "--device", "cpu")
    typed = type_command("report", "--split", "val", "--out", tmp_path / "val.html", *here)
    assert typed.code == 0, typed.err
    assert typed.out.startswith(f"html: {tmp_path / 'val.html'} (")
    assert "the val part was opened" in typed.out


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("--run", "nowhere"), 2, "expected a run directory with run.json, found none"),
        (("--comparison", "nowhere"), 2, "expected a comparison with comparison.json, found none"),
        (("--comparison", "a", "--run", "b"), 2, "--comparison: expected no --run beside it"),
        (("--comparison", "a", "--split", "val"), 2, "--comparison: expected no --split beside it"),
        (("--split", "tset"), 2, "unknown part of the split 'tset'"),
        (("--out", "."), 2, "expected a file, found a folder"),
    ],
)
def test_what_cannot_be_meant_is_said(
    type_command: Type, project: Path, words: tuple[str, ...], code: int, what: str
) -> None:
    typed = type_command("report", *words, "--artifacts", project)
    assert typed.code == code
    assert what in typed.err
    assert "Traceback" not in typed.err


def test_an_error_is_one_object_too(type_command: Type, project: Path, tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text('{"format": 1', encoding="utf-8")
    typed = type_command("report", "--comparison", tmp_path, "--json", "--artifacts", project)
    assert typed.code == 3
    error = json.loads(typed.out)["error"]
    assert error["type"] == "DataError"
    assert "not JSON" in error["message"]
