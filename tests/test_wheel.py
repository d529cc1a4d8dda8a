"""The wheel holds the rooms and nothing else, and what is installed from it works away from the clone."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("cache", "commands", "crowd", "data", "engines", "extract", "fuse")
ROOT_FILES = {"__init__.py", "cli.py", "doctor.py", "py.typed"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources: a build in place would keep files that were deleted long ago."""
    source = tmp_path_factory.mktemp("source")
    for room in ROOMS:
        shutil.copytree(REPOSITORY / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*sorted(ROOT_FILES), "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def shipped_files() -> set[str]:
    kinds = {".py", ".toml", ".md", ".npz", ".png", ".html"}
    files = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ROOMS
        for path in (REPOSITORY / room).rglob("*")
        if path.suffix in kinds and "__pycache__" not in path.parts
    }
    return {f"sentifuse/{name}" for name in files | ROOT_FILES}


def test_the_wheel_lists_the_rooms_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == shipped_files()


def test_every_root_file_is_known() -> None:
    assert {path.name for path in REPOSITORY.glob("*.py")} == ROOT_FILES - {"py.typed"}


def test_the_installed_wheel_works_away_from_the_clone(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(place)}

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "sentifuse.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
        return done.stdout

    code = "import sentifuse; print(sentifuse.__file__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert found.stdout.strip() == str(place / "sentifuse" / "__init__.py")
    assert "extract" in run("--help")
    assert "offline" in run("profiles", "list")
    assert "itin" in run("heads", "list")
