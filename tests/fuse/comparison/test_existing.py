"""A finished run counts when it is exactly the wanted one, wherever it was trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sentifuse.fuse.comparison.compare import prepare
from sentifuse.fuse.comparison.existing import find_runs, version_notes


def rewrite(run: Path, **changes: Any) -> None:
    document = json.loads((run / "run.json").read_text("utf-8"))
    (run / "run.json").write_text(json.dumps(document | changes), "utf-8")


@pytest.fixture
def elsewhere(compared: Any, tmp_path: Path) -> Path:
    """The artefacts copied to another folder, as to another machine."""
    copied = tmp_path / "artifacts"
    shutil.copytree(compared.world.artifacts, copied, ignore=shutil.ignore_patterns("comparisons"))
    return copied


def missing_at(compared: Any, artifacts: Path, **options: Any) -> list[str]:
    request = compared.request(**options)
    moved = type(request)(**{f: getattr(request, f) for f in request.__dataclass_fields__} | {"artifacts": artifacts})
    return [entry.name for entry in prepare(moved).missing]


def test_copied_runs_count_as_if_trained_here(compared: Any, elsewhere: Path) -> None:
    assert missing_at(compared, elsewhere) == []


@pytest.mark.parametrize(
    "options",
    [{"overrides": {"epochs": "2", "batch_size": "16"}}, {"target": "text_label"}, {"seeds": "2,3"}],
    ids=["setting", "target", "seed"],
)
def test_what_differs_in_anything_does_not_count(compared: Any, elsewhere: Path, options: dict[str, Any]) -> None:
    assert len(missing_at(compared, elsewhere, **options)) == 6


@pytest.mark.parametrize(
    "changes", [{"rule": "other"}, {"target": "text_label"}, {"fold": 1}, {"split_digest": "0"}, {"head": "gone"}]
)
def test_a_run_of_another_kind_is_trained_again(compared: Any, elsewhere: Path, changes: dict[str, Any]) -> None:
    first = next(iter(sorted((elsewhere / "runs").glob("*text_only*-s0-*"))))
    rewrite(first, **changes)
    assert missing_at(compared, elsewhere) == ["text_only, seed 0"]


def test_other_features_do_not_count(compared: Any, elsewhere: Path) -> None:
    first = next(iter(sorted((elsewhere / "runs").glob("*text_only*-s0-*"))))
    sets = json.loads((first / "run.json").read_text("utf-8"))["feature_sets"]
    sets["tokens"]["fingerprint"] = "0" * 64
    rewrite(first, feature_sets=sets)
    assert missing_at(compared, elsewhere) == ["text_only, seed 0"]


def test_another_version_counts_and_is_told(compared: Any, elsewhere: Path) -> None:
    first = next(iter(sorted((elsewhere / "runs").glob("*text_only*-s0-*"))))
    rewrite(first, versions={"sentifuse": "0.0.1"})
    assert missing_at(compared, elsewhere) == []
    runs = [runs[-1] for runs in find_runs(elsewhere / "runs").by_identity.values()]
    assert version_notes(runs)[0].startswith(f"1 of {len(runs)} runs were trained by version 0.0.1")


def test_a_run_that_cannot_be_read_is_told_and_trained_again(compared: Any, elsewhere: Path) -> None:
    first = next(iter(sorted((elsewhere / "runs").glob("*text_only*-s0-*"))))
    (first / "run.json").write_text("{", "utf-8")
    assert missing_at(compared, elsewhere) == ["text_only, seed 0"]
    assert list(find_runs(elsewhere / "runs").unreadable) == [first.name]


def test_an_unfinished_run_is_none(compared: Any, elsewhere: Path) -> None:
    first = next(iter(sorted((elsewhere / "runs").glob("*text_only*-s0-*"))))
    first.rename(first.with_name(f".tmp-{first.name}"))
    assert missing_at(compared, elsewhere) == ["text_only, seed 0"]
