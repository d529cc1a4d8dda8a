"""The commands of the first page as they are typed, on the embedded sample in MVSA-Multiple's layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse.data.readers.sample import COMBINATIONS, generate

Type = Callable[..., Any]


@pytest.fixture(scope="module")
def multiple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 pairs of each combination; the first two annotators agree, the third says neutral throughout."""
    root = tmp_path_factory.mktemp("multiple") / "MVSA"
    generate(root, dict.fromkeys(COMBINATIONS, 14))
    file = root / "labelResultAll.txt"
    header, *rows = file.read_text(encoding="ascii").splitlines()
    assert header.split("\t")[0] == "ID"
    lines = ["ID\ttext,image\ttext,image\ttext,image"]
    lines += ["\t".join([row.split("\t")[0], *[row.split("\t")[1]] * 2, "neutral,neutral"]) for row in rows if row]
    file.write_text("\n".join(lines) + "\n", encoding="ascii")
    return root


@pytest.mark.slow
def test_extract_train_and_evaluate_work_as_typed(type_command: Type, multiple: Path, tmp_path: Path) -> None:
    here = ("--artifacts", tmp_path / "artifacts")
    extracted = type_command(
        "extract", "--dataset", "mvsa_multiple", "--root", multiple, "--profile", "tiny", "--device", "cpu", *here
    )
    assert extracted.code == 0, extracted.err
    trained = type_command("train", "--head", "ctmwa", *here)
    assert trained.code == 0, trained.err
    first, *others = trained.err.splitlines()
    assert "on mvsa_multiple (last extracted" in first
    assert [line for line in others if line.startswith("meta: on; meta_pairs: ")] == others[3:4]  # split, leaks, head
    evaluated = type_command("evaluate", "--split", "test", "--json", *here)
    assert evaluated.code == 0, evaluated.err
    assert evaluated.document["head"] == "ctmwa"
    assert evaluated.document["dataset"] == "mvsa_multiple"
    run = json.loads((Path(evaluated.document["run"]) / "run.json").read_text(encoding="utf-8"))
    held_out = run["held_out"]
    assert held_out["n"] == run["notes"]["meta_pairs"] == sum(held_out["classes"].values())
    assert min(held_out["classes"].values()) >= 1
    assert run["samples"]["train"]["n"] > 5 * held_out["n"]

    missing = type_command("evaluate", "--missing", "random", "--rates", "0,0.5", "--json", *here)
    assert missing.code == 0, missing.err
    rows = missing.document["rows"]
    assert [(row["rate"], row["filling"]) for row in rows] == [
        (rate, filling) for rate in (0.0, 0.5) for filling in ("own", "zero", "mean", "unimodal")
    ]
    assert rows[0]["accuracy"] == evaluated.document["accuracy"]
    table = type_command("evaluate", "--missing", "text", "--rates", "0.5", *here)
    assert "0.5000" in table.out
    assert "unimodal" in table.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rates", "0.5"), "--rates: expected --missing text, image or random beside it"),
        (("--missing", "text", "--rates", "half"), "--rates half: expected numbers with commas between them"),
        (("--missing", "txet"), "unknown kind 'txet'; did you mean 'text'"),
    ],
)
def test_wrong_questions_about_missing_modalities_exit_2(
    type_command: Type, project: Path, words: tuple[str, ...], message: str
) -> None:
    done = type_command("evaluate", *words, "--artifacts", project)
    assert done.code == 2
    assert message in done.err
