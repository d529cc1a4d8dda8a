"""`sentifuse cache`: what a person sees of the store, what parts become, what may be removed and what not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sentifuse
from sentifuse.cache.current import read_current
from sentifuse.cache.reader import FeatureReader

Type = Callable[..., Any]


@pytest.fixture
def own_project(project: Path, tmp_path: Path) -> Path:
    """A copy of the project that a test may change."""
    return Path(shutil.copytree(project, tmp_path / "artifacts"))


def shorter_texts(folder: Path, length: int) -> Path:
    """The tiny profile with other settings for its texts."""
    shipped = (Path(sentifuse.__file__).parent / "extract" / "profiles" / "tiny.toml").read_text(encoding="utf-8")
    assert "max_length = 64" in shipped
    profile = folder / "mine.toml"
    profile.write_text(shipped.replace("max_length = 64", f"max_length = {length}"), encoding="utf-8")
    return profile


def test_info_shows_every_set_and_recipes_when_asked(type_command: Type, project: Path) -> None:
    typed = type_command("cache", "info", "--artifacts", project)
    assert typed.code == 0
    assert typed.out.count("in use") == 3
    assert "recipe " not in typed.out
    typed = type_command("cache", "info", "mvsa_single", "--encoders", "tokens", "--artifacts", project)
    assert "recipe      model.architecture = " in typed.out
    assert "field       states: " in typed.out
    assert "context" not in typed.out


def test_info_as_json_adds_up(type_command: Type, project: Path) -> None:
    document = type_command("cache", "info", "--json", "--artifacts", project).document
    assert [one["encoder"] for one in document["feature_sets"]] == ["context", "regions", "tokens"]
    for one in document["feature_sets"]:
        assert sum(one["counts"].values()) == one["rows"] == 90
        assert one["problem"] == ""
        assert one["details"]["profile"] == "tiny"


def test_info_of_nothing_says_what_to_type(type_command: Type, tmp_path: Path) -> None:
    typed = type_command("cache", "info", "--artifacts", tmp_path)
    assert typed.code == 4
    assert "found none. Run: sentifuse extract" in typed.err


def test_diff_prints_the_settings_that_differ_with_both_values(type_command: Type, own_project: Path) -> None:
    profile = shorter_texts(own_project, 8)
    here = ("--artifacts", own_project)
    first = read_current(own_project / "cache" / "mvsa_single").encoders["tokens"]
    assert type_command("extract", "--profile", profile, "--encoders", "tokens", *here).code == 0
    second = read_current(own_project / "cache" / "mvsa_single").encoders["tokens"]
    assert first != second
    typed = type_command("cache", "diff", first, second, "--json", *here)
    assert typed.document["differences"] == [{"key": "recipe.settings.max_length", "left": 64, "right": 8}]
    assert typed.document["rows"] == {
        "shared": 90,
        "only_left": 0,
        "only_right": 0,
        "other_input": 0,
        "other_status": 0,
    }
    typed = type_command("cache", "diff", first, second, *here)
    assert "recipe.settings.max_length  64" in typed.out
    typed = type_command("cache", "diff", first, first, *here)
    assert "the same recipe" in typed.out
    typed = type_command("cache", "diff", first, "tok", *here)
    assert typed.code == 4
    assert "it is the beginning of" in typed.err


def test_commit_takes_parts_in_and_training_finds_them(type_command: Type, own_project: Path) -> None:
    here = ("--artifacts", own_project)
    cache_dir = own_project / "cache" / "mvsa_single"
    whole = {folder: FeatureReader(cache_dir / folder).shards for folder in read_current(cache_dir).encoders.values()}
    shutil.rmtree(cache_dir)
    assert type_command("cache", "commit", *here).code == 4
    for part in ("0/2", "1/2"):
        assert type_command("extract", "--shards", part, "--device", "cpu", *here).code == 0
    assert not (cache_dir / "current.json").exists()
    typed = type_command("cache", "commit", "--json", *here)
    assert typed.code == 0
    assert {one["rows"] for one in typed.document["feature_sets"].values()} == {90}
    assert {folder: FeatureReader(cache_dir / folder).shards for folder in whole} == whole
    assert read_current(cache_dir).profile == "tiny"
    assert type_command("train", "--head", "logreg", *here).code == 0
    assert "no part has anything to commit" in type_command("cache", "commit", *here).out


def test_compact_drops_replaced_rows_and_training_still_works(type_command: Type, own_project: Path) -> None:
    here = ("--artifacts", own_project)
    assert "tidy already" in type_command("cache", "compact", *here).out
    manifest = own_project / "datasets" / "mvsa_single"
    root = Path(json.loads((manifest / "card.json").read_text(encoding="utf-8"))["root"])
    changed = sorted(root.rglob("*.txt"))[3]
    copied = own_project / "MVSA_Single"
    shutil.copytree(root, copied)
    (copied / changed.relative_to(root)).write_text("another text altogether", encoding="utf-8")
    assert type_command("data", "prepare", "mvsa_single", "--root", copied, *here).code == 0
    assert type_command("extract", "--device", "cpu", *here).code == 0
    tokens = read_current(own_project / "cache" / "mvsa_single").directory("tokens")
    assert len(FeatureReader(tokens).shards) == 2
    planned = type_command("cache", "compact", "--dry-run", "--json", *here).document["feature_sets"][tokens.name]
    assert (planned["superseded"], planned["shards_after"], planned["is_needed"]) == (1, 1, True)
    assert len(FeatureReader(tokens).shards) == 2
    typed = type_command("cache", "compact", "--encoders", "tokens", *here)
    assert "2 shards became 1" in typed.out
    reader = FeatureReader(tokens)
    assert (len(reader), len(reader.shards)) == (90, 1)
    assert type_command("extract", "--device", "cpu", "--json", *here).document["computed"] == 0
    assert type_command("train", "--head", "logreg", *here).code == 0


def test_prune_asks_spares_what_is_used_and_removes_the_rest(type_command: Type, own_project: Path) -> None:
    here = ("--artifacts", own_project)
    assert "every feature set is used" in type_command("cache", "prune", *here).out
    cache_dir = own_project / "cache" / "mvsa_single"
    for length in (8, 16):
        profile = shorter_texts(own_project, length)
        assert type_command("extract", "--profile", profile, "--encoders", "tokens", *here).code == 0
    assert len(list(cache_dir.glob("tokens-*"))) == 3  # of a run, of nothing, and the one in use
    typed = type_command("cache", "prune", *here)
    assert typed.code == 2
    assert "Give --yes" in typed.err
    assert typed.err.count("not used by anything") == 1
    assert len(list(cache_dir.glob("tokens-*"))) == 3
    typed = type_command("cache", "prune", "--yes", "--json", *here)
    assert len(typed.document["removed"]) == 1
    assert typed.document["freed_bytes"] > 0
    assert len(list(cache_dir.glob("tokens-*"))) == 2
    assert type_command("evaluate", *here).code == 0  # the run's features are still there
