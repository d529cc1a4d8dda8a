"""`explain` as typed: files, one JSON object, how often the test part was opened, and clear errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse.data.splits import read_split

Type = Callable[..., Any]


def ids_of(project: Path, part: str) -> tuple[str, ...]:
    return read_split(project / "datasets" / "mvsa_single", parts=(part,))[part]


def test_ids_give_figures_a_page_and_json(type_command: Type, project: Path, tmp_path: Path) -> None:
    first, second = ids_of(project, "val")[:2]
    out = tmp_path / "out"
    typed = type_command("explain", "--ids", f"{first}, {second}", "--out", out, "--artifacts", project)
    assert typed.code == 0, typed.err
    assert "(last trained)" in typed.err.splitlines()[0]
    assert {path.name for path in out.iterdir()} == {
        f"01-{first}.png",
        f"02-{second}.png",
        "explain.html",
        "explain.json",
    }
    assert "the val part was opened" in typed.out
    assert "counted in run.json" in typed.out
    assert "regions, words" in typed.out


def test_one_json_object_holds_what_the_file_holds(type_command: Type, project: Path, tmp_path: Path) -> None:
    (first, *_) = ids_of(project, "val")
    typed = type_command("explain", "--ids", first, "--out", tmp_path, "--json", "--artifacts", project)
    document = typed.document
    written = json.loads((tmp_path / "explain.json").read_text(encoding="utf-8"))
    assert document["pairs"] == written["pairs"]
    assert document["pairs"][0]["reasons"]["alignment"]["name"] == "alignment"
    assert all(Path(path).is_file() for path in [document["files"]["html"], *document["files"]["png"].values()])


def test_errors_are_of_the_test_part_and_counted(type_command: Type, project: Path) -> None:
    evaluated = type_command("evaluate", "--split", "test", "--json", "--artifacts", project).document
    typed = type_command("explain", "--errors", "500", "--json", "--artifacts", project)
    found = typed.document["pairs"]
    wrong = evaluated["n"] - sum(evaluated["confusion"][i][i] for i in range(len(evaluated["classes"])))
    assert len(found) == wrong
    confidence = [one["confidence"] for one in found]
    assert confidence == sorted(confidence, reverse=True)
    assert all(one["part"] == "test" and one["part_opened"] == evaluated["evaluations"] + 1 for one in found)
    run = json.loads((Path(evaluated["run"]) / "run.json").read_text(encoding="utf-8"))
    assert run["evaluations"]["test"] == evaluated["evaluations"] + 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "expected --ids or --errors, found none"),
        (["--ids", "1", "--errors", "2"], 2, "found both"),
        (["--ids", " , "], 2, "expected ids of pairs"),
        (["--ids", "9999"], 3, "the nearest ids"),
        (["--ids", "zzz"], 3, "its first id is 1"),
        (["--ids", "1", "--reader", "nope"], 2, "--reader: unknown reader 'nope'"),
        (["--errors", "0"], 2, "from 1 on"),
        (["--errors", "2", "--split", "tset"], 2, "did you mean 'test'?"),
        (["--ids", "1", "--run", "nowhere"], 2, "expected a run directory"),
    ],
)
def test_mistakes_are_said_and_write_nothing(
    type_command: Type, project: Path, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    typed = type_command("explain", *words, "--out", tmp_path / "out", "--artifacts", project)
    assert typed.code == code
    assert said in typed.err
    assert "Traceback" not in typed.err
    assert not (tmp_path / "out").exists()


def test_by_default_files_lie_in_the_run(type_command: Type, project: Path) -> None:
    (first, *_) = ids_of(project, "val")
    files = [
        type_command("explain", "--ids", first, "--json", "--artifacts", project).document["files"]["html"]
        for _ in range(2)
    ]
    assert files[0] == files[1]
    assert Path(files[0]).parts[-3] == "explain"
