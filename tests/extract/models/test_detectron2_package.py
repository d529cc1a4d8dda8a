"""detectron2 is found where the user has it, told apart by its code, and its absence says how to have it."""

import importlib.util
import shutil
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from sentifuse import ConfigError
from sentifuse.extract.errors import MissingModel
from sentifuse.extract.models.detectron2_package import NEEDS, find_detectron2

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty files in the place of the packages that it imports."""
    folder = tmp_path / "needs"
    folder.mkdir()
    for name in NEEDS:
        (folder / f"{name}.py").touch()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with a package, two configurations and no history."""
    folder = tmp_path / "checkout"
    (folder / "detectron2" / "layers").mkdir(parents=True)
    (folder / "detectron2" / "__init__.py").write_text('__version__ = "0.6"\n', encoding="utf-8")
    (folder / "detectron2" / "layers" / "__init__.py").write_text("NUMBER = 1\n", encoding="utf-8")
    (folder / "configs" / "COCO").mkdir(parents=True)
    (folder / "configs" / "Base.yaml").write_text("MODEL: {}\n", encoding="utf-8")
    (folder / "configs" / "COCO" / "one.yaml").write_text('_BASE_: "../Base.yaml"\n', encoding="utf-8")
    return folder


def write_head(git: Path, head: str) -> None:
    git.mkdir(parents=True)
    (git / "HEAD").write_text(f"{head}\n", encoding="utf-8")


def test_without_a_history_the_version_stands_for_the_commit(source: Path, needs: Path) -> None:
    found = find_detectron2(str(source))
    name, _, digest = found.revision.partition("+")
    assert (name, len(digest), found.is_compiled) == ("0.6", 12, False)


def test_a_detached_head_is_the_commit(source: Path, needs: Path) -> None:
    write_head(source / ".git", COMMIT)
    assert find_detectron2(str(source)).revision.startswith(f"{COMMIT}+")


def test_a_branch_leads_to_the_commit(source: Path, needs: Path) -> None:
    write_head(source / ".git", "ref: refs/heads/main")
    (source / ".git" / "refs" / "heads").mkdir(parents=True)
    (source / ".git" / "refs" / "heads" / "main").write_text(f"{COMMIT}\n", encoding="utf-8")
    assert find_detectron2(str(source)).revision.startswith(f"{COMMIT}+")


def test_a_packed_branch_leads_to_the_commit(source: Path, needs: Path) -> None:
    write_head(source / ".git", "ref: refs/heads/main")
    packed = f"# pack-refs with: peeled\n{'f' * 40} refs/heads/other\n{COMMIT} refs/heads/main\n"
    (source / ".git" / "packed-refs").write_text(packed, encoding="utf-8")
    assert find_detectron2(str(source)).revision.startswith(f"{COMMIT}+")


def test_a_worktree_leads_to_the_commit_of_its_repository(source: Path, needs: Path, tmp_path: Path) -> None:
    own = tmp_path / "repository" / ".git" / "worktrees" / "checkout"
    write_head(own, "ref: refs/heads/main")
    (own / "commondir").write_text("../..\n", encoding="utf-8")
    (tmp_path / "repository" / ".git" / "packed-refs").write_text(f"{COMMIT} refs/heads/main\n", encoding="utf-8")
    (source / ".git").write_text(f"gitdir: {own}\n", encoding="utf-8")
    assert find_detectron2(str(source)).revision.startswith(f"{COMMIT}+")


def test_a_damaged_history_is_no_history(source: Path, needs: Path) -> None:
    write_head(source / ".git", "ref: refs/heads/nowhere")
    assert find_detectron2(str(source)).revision.startswith("0.6+")


def test_edited_sources_are_told_apart_and_other_files_are_not(source: Path, needs: Path) -> None:
    write_head(source / ".git", COMMIT)
    before = find_detectron2(str(source)).revision
    (source / "detectron2" / "README.md").touch()
    (source / "detectron2" / "__pycache__").mkdir()
    assert find_detectron2(str(source)).revision == before
    (source / "detectron2" / "layers" / "__init__.py").write_text("NUMBER = 2\n", encoding="utf-8")
    assert find_detectron2(str(source)).revision != before


def test_the_same_code_elsewhere_is_the_same(source: Path, needs: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "moved")
    assert find_detectron2(str(tmp_path / "moved")).revision == find_detectron2(str(source)).revision


def test_compiled_operations_are_seen(source: Path, needs: Path) -> None:
    (source / "detectron2" / f"_C{EXTENSION_SUFFIXES[0]}").touch()
    assert find_detectron2(str(source)).is_compiled


def test_an_installed_one_is_found_without_a_source(source: Path, needs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(source))
    monkeypatch.delitem(sys.modules, "detectron2", raising=False)
    found = find_detectron2("")
    assert found.root == source
    assert "detectron2" not in sys.modules


def test_its_absence_names_the_ways_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)  # as if it were not installed, wherever this runs
    with pytest.raises(MissingModel) as caught:
        find_detectron2("")
    message = str(caught.value)
    for way in ("git clone", 'source = "', "not compiled", "--no-build-isolation", "wheel", 'backend = "vg"', *NEEDS):
        assert way in message


def test_a_folder_without_it_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match=r"source is .*, where no detectron2/__init__.py is.*git clone"):
        find_detectron2(str(tmp_path))


def test_what_it_imports_is_missed_by_name(source: Path, needs: Path) -> None:
    here = [name for name in NEEDS if importlib.util.find_spec(name).origin == str(needs / f"{name}.py")]
    for name in ("fvcore", "yacs"):
        assert name in here
        (needs / f"{name}.py").unlink()
    importlib.invalidate_caches()
    with pytest.raises(MissingModel, match=r"but it imports fvcore, yacs, not installed here: pip install fvcore yacs"):
        find_detectron2(str(source))


def test_a_configuration_is_told_apart_with_those_it_starts_from(source: Path, needs: Path) -> None:
    found = find_detectron2(str(source))
    assert found.config_file("COCO/one.yaml") == source / "configs" / "COCO" / "one.yaml"
    before = found.config_digest("COCO/one.yaml")
    (source / "configs" / "Base.yaml").write_text("MODEL: {DEVICE: cpu}\n", encoding="utf-8")
    assert found.config_digest("COCO/one.yaml") != before


@pytest.mark.parametrize("name", ["COCO/two.yaml", "../detectron2/__init__.py", "/etc/hostname"])
def test_only_its_own_configurations_are_known(name: str, source: Path, needs: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown config .*There are: Base.yaml, COCO/one.yaml"):
        find_detectron2(str(source)).config_file(name)


def test_a_tree_without_configurations_says_so(source: Path, needs: Path) -> None:
    shutil.rmtree(source / "configs")
    with pytest.raises(ConfigError, match="has no folder configs"):
        find_detectron2(str(source)).config_file("COCO/one.yaml")
