"""`cache verify` and `cache repair` as typed: what is wrong in which rows, the exit code, and what to type next."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse.cache.checkup.faults import Fault
from sentifuse.cache.journal import read_journal
from sentifuse.commands.cache_check import fault_line

Type = Callable[..., Any]


@pytest.fixture
def artifacts(project: Path, tmp_path: Path) -> Path:
    """The extracted project, copied: these tests damage it."""
    folder = tmp_path / "artifacts"
    shutil.copytree(project, folder)
    return folder


def folder_of(artifacts: Path, encoder: str) -> Path:
    (found,) = (artifacts / "cache" / "mvsa_single").glob(f"{encoder}-*")
    return found


def flip_a_value(artifacts: Path, encoder: str) -> Path:
    """Turn a bit in the last byte of a shard's values."""
    shard = read_journal(folder_of(artifacts, encoder) / "journal.jsonl").shards[0]
    path = folder_of(artifacts, encoder) / shard.file
    content = bytearray(path.read_bytes())
    place = shard.proof.datasets[-1]
    content[place.offset_bytes + place.size_bytes - 1] ^= 1
    path.write_bytes(bytes(content))
    return path


def test_whole_features_are_said_to_be_whole(type_command: Type, artifacts: Path) -> None:
    typed = type_command("cache", "verify", "--artifacts", artifacts)
    assert typed.code == 0
    assert "mvsa_single (last extracted)" in typed.err.splitlines()[0]
    assert typed.out.count(": whole: 1 shard, 90 rows; ") == 3
    assert "MB/s" in typed.out
    quick = type_command("cache", "verify", "--quick", "--json", "--artifacts", artifacts)
    assert (quick.code, quick.document["whole"]) == (0, True)
    assert [one["bytes_read"] for one in quick.document["feature_sets"]] == [0, 0, 0]
    mended = type_command("cache", "repair", "--artifacts", artifacts)
    assert mended.code == 0
    assert mended.out.count("whole, nothing to repair") == 3


def test_damage_is_named_and_mended(type_command: Type, artifacts: Path) -> None:
    before = folder_of(artifacts, "tokens")
    whole = {path: path.read_bytes() for path in before.rglob("*.h5")}
    path = flip_a_value(artifacts, "tokens")
    typed = type_command("cache", "verify", "--encoders", "tokens", "--artifacts", artifacts)
    assert typed.code == 4
    assert f"shards/{path.name}, rows: 1 of 90 rows: the checksum of the row does not fit; rows " in typed.out
    assert "to mend this: sentifuse cache repair --dataset mvsa_single" in typed.out
    assert type_command("cache", "verify", "--encoders", "context", "--artifacts", artifacts).code == 0
    document = type_command("cache", "verify", "--json", "--artifacts", artifacts).document
    (fault,) = [fault for one in document["feature_sets"] for fault in one["faults"]]
    assert (fault["part"], len(fault["rows"]), fault["remedy"]) == ("rows", 1, "repair")
    dry = type_command("cache", "repair", "--dry-run", "--encoders", "tokens", "--artifacts", artifacts)
    assert (dry.code, path.read_bytes() == whole[path]) == (0, False)
    assert "shard 0 damaged: 89 of 90 rows kept, 1 to recompute in 1 batch" in dry.out
    mended = type_command("cache", "repair", "--artifacts", artifacts, "--device", "cpu", "--json")
    assert mended.code == 0
    assert "profile tiny (of the last extraction)" in mended.err.splitlines()[0]
    one = next(one for one in mended.document["feature_sets"] if one["restored"])
    assert (one["batches_recomputed"], one["rows_recomputed"], one["rows_kept"]) == (1, 1, 89)
    assert {path: path.read_bytes() for path in before.rglob("*.h5")} == whole
    assert type_command("cache", "verify", "--artifacts", artifacts).code == 0


def test_what_cannot_be_mended_now_says_why_and_leaves_with_its_code(type_command: Type, artifacts: Path) -> None:
    flip_a_value(artifacts, "tokens")
    here = ("--artifacts", artifacts, "--encoders", "tokens")
    # The paper's model is not on this machine, and no test may fetch it.
    typed = type_command("cache", "repair", "--profile", "paper", "--offline", "--json", *here)
    assert typed.code == 5
    assert (typed.document["whole"], typed.document["feature_sets"][0]["left"]) == (False, 1)
    assert "bert-base-uncased" in typed.err
    # Other precision, other numbers: nothing of it may come into these features.
    typed = type_command("cache", "repair", "--precision", "fastest", "--device", "cpu", *here)
    assert typed.code == 4
    assert "made by another recipe" in typed.err
    assert "--profile tiny --precision exact" in typed.err


def test_a_set_without_a_recipe_is_found_with_all_and_mended(type_command: Type, artifacts: Path) -> None:
    (folder_of(artifacts, "context") / "recipe.json").unlink()
    typed = type_command("cache", "verify", "--all", "--dataset", "mvsa_single", "--artifacts", artifacts)
    assert typed.code == 4
    assert "recipe.json: missing" in typed.out
    assert type_command("cache", "repair", "--all", "--artifacts", artifacts).code == 0
    assert type_command("cache", "verify", "--all", "--artifacts", artifacts).code == 0


def test_a_damaged_pointer_does_not_hide_the_features(type_command: Type, artifacts: Path) -> None:
    (artifacts / "cache" / "mvsa_single" / "current.json").write_text("{")
    typed = type_command("cache", "verify", "--artifacts", artifacts)
    assert typed.code == 0
    assert "All feature sets are looked at" in typed.err
    assert len(typed.out.splitlines()) == 3


def test_nothing_to_check_is_an_error_with_what_to_type(type_command: Type, artifacts: Path) -> None:
    shutil.rmtree(artifacts / "cache")
    for word in ("verify", "repair"):
        typed = type_command("cache", word, "--artifacts", artifacts)
        assert typed.code == 4
        assert "sentifuse extract --dataset mvsa_single" in typed.err


def test_a_line_shows_the_first_rows_and_how_many_there_are() -> None:
    fault = Fault(file="shards/x.h5", part="ids", problem="wrong", rows=tuple("abcdefgh"))
    assert fault_line(fault) == "shards/x.h5, ids: wrong; rows a, b, c, d, e … (8 in all)"
    assert fault_line(Fault(file="index.json", part="index.json", problem="missing")) == "index.json: missing"
