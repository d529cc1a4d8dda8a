"""`compare` as one types it: plan, table, files, exit codes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse.fuse.comparison import compare as module
from sentifuse.fuse.comparison.jobs import Outcome

Type = Callable[..., Any]
QUICK = ("--heads", "text_only,ccr_like", "--seeds", "2", "--set", "epochs=1", "--workers", "1", "--device", "cpu")


def test_a_plan_trains_nothing_and_writes_nothing(type_command: Type, project: Path) -> None:
    before = sorted(project.rglob("*"))
    typed = type_command("compare", *QUICK, "--seeds", "71,72", "--dry-run", "--json", "--artifacts", project)
    assert typed.code == 0
    assert (typed.document["to_train"], len(typed.document["runs"])) == (4, 4)
    assert sorted(project.rglob("*")) == before


def test_the_table_is_printed_written_and_used_again(type_command: Type, project: Path) -> None:
    here = ("--artifacts", project)
    typed = type_command("compare", *QUICK, *here)
    assert typed.code == 0, typed.err
    assert "comparing on mvsa_single (last extracted)" in typed.err
    assert "4 runs: 0 there already, 4 to train" in typed.err
    assert re.search(r"^ccr_like +2 +[\d.]+ ± [\d.]+  ", typed.out, re.MULTILINE)
    assert "no interval from fewer than 3 runs" in typed.out
    assert "ccr_like and text_only are not distinguishable" in typed.out or "is better than" in typed.out
    files = re.findall(r"^\w+: (/.+)$", typed.out, re.MULTILINE)
    assert len(files) == 5
    assert all(Path(file).is_file() for file in files)
    again = type_command("compare", *QUICK, "--json", *here)
    assert "4 runs: 4 there already, 0 to train" in again.err
    assert again.document["failed"] == {}
    runs = [run["run"] for run in again.document["runs"]]
    named = type_command("compare", "--runs", *runs, "--json", *here)
    assert [run["run"] for run in named.document["runs"]] == runs


def test_failed_runs_are_exit_code_6_and_the_table_is_there(
    type_command: Type, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = module.run_jobs

    def fail(jobs: Any, **options: Any) -> Any:
        kept = [job for job in jobs if job.head != "gmu"]
        return do(kept, **options) | {
            j.number: Outcome(number=j.number, error="broke") for j in jobs if j.head == "gmu"
        }

    monkeypatch.setattr(module, "run_jobs", fail)
    words = ("--heads", "text_only,gmu", *QUICK[2:], "--json", "--artifacts", project)
    typed = type_command("compare", *words)
    assert typed.code == 6
    assert typed.document["failed"] == {"gmu, seed 0": "broke", "gmu, seed 1": "broke"}
    assert Path(typed.document["files"]["markdown"]).is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--heads", ""), "expected heads with commas between them, found none"),
        (("--heads", "itni"), "--heads: unknown head 'itni'; did you mean 'itin'"),
        (("--heads", "itin:papre"), "did you mean 'paper'"),
        (("--heads", "itin", "--seeds", "many"), "--seeds many"),
        (("--heads", "itin", "--claim", "gmu"), "--claim"),
        (("--sweep", "region_count"), "--sweep region_count"),
        (("--runs", "no-such-run"), "no-such-run"),
        (("no-such-run",), "expected --runs before"),
        (("--runs", "a", "--heads", "itin"), "no --heads"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_meant_is_exit_code_2(
    type_command: Type, project: Path, words: tuple[str, ...], message: str
) -> None:
    typed = type_command("compare", *words, "--artifacts", project)
    assert typed.code == 2
    assert message in typed.err
    assert "Traceback" not in typed.err


def test_an_out_folder_with_files_is_refused_before_training(type_command: Type, project: Path) -> None:
    typed = type_command("compare", *QUICK, "--out", project, "--artifacts", project)
    assert typed.code == 2
    assert "to train" not in typed.err


def test_logging_without_the_package_names_the_extra(
    type_command: Type, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    typed = type_command("train", "--head", "text_only", "--log", "tensorboard", "--artifacts", project)
    assert (typed.code, "sentifuse[tensorboard]" in typed.err) == (5, True)
    assert type_command("train", "--head", "text_only", "--log", "wandb", "--artifacts", project).code == 2
