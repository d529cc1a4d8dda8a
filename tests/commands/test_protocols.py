"""Protocols as one types them: lists are given once, a fold is named, the leak is said before training."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse import cli
from sentifuse.data.splits import read_split

TypeCommand = Callable[..., "object"]
QUICK = ("--head", "text_only", "--set", "epochs=1")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, write_small_mvsa: Callable[..., Path]) -> Path:
    """An artefacts folder with 45 pairs, prepared and extracted; beside it `lists` of 40 of them and an unknown id."""
    folder = tmp_path_factory.mktemp("small")
    root = write_small_mvsa(folder / "MVSA_Single", 45)
    here = ["--artifacts", str(folder / "artifacts")]
    assert cli.run(["data", "prepare", "mvsa_single", "--root", str(root), "--folds", "3", *here]) == 0
    assert cli.run(["extract", "--dataset", "mvsa_single", "--profile", "tiny", "--encoders", "tokens", *here]) == 0
    lists = folder / "lists" / "clmlf"
    lists.mkdir(parents=True)
    parts = {"train": range(1, 29), "dev": range(29, 35), "test": [*range(35, 41), 999]}
    for name, ids in parts.items():
        (lists / f"{name}.txt").write_text("".join(f"{id_}\n" for id_ in ids), encoding="utf-8")
    return folder


def test_published_lists_from_the_missing_option_to_a_run(small: Path, type_command: TypeCommand) -> None:
    here = ("--artifacts", small / "artifacts")
    refused = type_command("train", *QUICK, "--dataset", "mvsa_single", "--protocol", "clmlf", *here)
    assert refused.code == 3
    assert "Type: sentifuse data prepare mvsa_single --lists DIR" in refused.err
    lists = ("data", "prepare", "mvsa_single", "--lists", small / "lists")
    refused = type_command(*lists, *here)
    assert refused.code == 3
    assert "found 1 of 41 that the manifest lacks: 999" in refused.err
    card = type_command(*lists, "--allow-missing", "--json", *here).document
    assert (card["protocols"]["clmlf"]["missing"], card["folds"]) == (1, 3)
    done = type_command("train", *QUICK, "--dataset", "mvsa_single", "--protocol", "clmlf", "--json", *here)
    assert done.document["missing_listed"] == 1
    assert done.document["split_digest"] == card["protocols"]["clmlf"]["digest"]
    assert "1 listed ids are not here: no figure of this split is the published one" in done.err
    assert re.search(r"leak: \d+ of \d+ test pairs \(.*%\) have a near-duplicate in training", done.err)
    assert "999" not in done.out


def test_a_fold_is_named_or_refused_with_its_range(small: Path, type_command: TypeCommand) -> None:
    here = ("--dataset", "mvsa_single", "--protocol", "folds", "--artifacts", small / "artifacts")
    refused = type_command("train", *QUICK, *here)
    assert (refused.code, "--fold: expected 1 to 3" in refused.err) == (2, True)
    done = type_command("train", *QUICK, *here, "--fold", "2", "--json")
    assert done.code == 0
    assert (done.document["fold"], done.document["folds"]) == (2, 3)
    assert "split folds, fold 2 of 3, seed 0" in done.err
    measured = type_command("evaluate", "--split", "test", "--json", "--artifacts", small / "artifacts").document
    folder = small / "artifacts" / "datasets" / "mvsa_single"
    assert measured["n"] == len(read_split(folder, protocol="folds", fold=2, parts=("test",))["test"])


def test_audit_shows_groups_and_the_leak_of_every_prepared_split(small: Path, type_command: TypeCommand) -> None:
    shown = type_command("data", "audit", "mvsa_single", "--artifacts", small / "artifacts").out
    assert "45 of 45 images could be compared" in shown
    assert re.search(r"^text, normalised +0 +0 +1", shown, re.MULTILINE)
    assert re.search(r"^folds-s0 +test +3 ", shown, re.MULTILINE)
    assert "random 8:1:1 over seeds 0 to 19, test part:" in shown
