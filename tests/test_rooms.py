"""Laws of the house: who may import whom, and that no room is forgotten in the packaging."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "sentifuse"

# Room -> rooms it may import. The root (version and errors) may be imported by all; a room may import itself.
MAY_IMPORT: dict[str, set[str]] = {
    "data": set(),
    "cache": set(),
    "engines": set(),
    "extract": {"data", "cache", "engines"},
    "fuse": {"data", "cache", "engines"},
    "crowd": {"data", "cache", "engines", "extract", "fuse"},
    "serve": {"predict", "fuse"},
    "predict": {"data", "cache", "engines", "extract", "fuse", "crowd"},
    "doctor": {"data", "cache", "engines", "extract", "fuse", "crowd", "predict"},
    "commands": {"data", "cache", "engines", "extract", "fuse", "crowd", "serve", "predict", "doctor", "cli"},
    "cli": {"data", "cache", "engines", "extract", "fuse", "crowd", "serve", "predict", "doctor", "commands"},
    "": set(),
}
NO_ROOMS = {"tests", "build", "dist", "docs", "bench", "artifacts"}


def rooms() -> list[Path]:
    """Folders of the package at the top level."""
    return sorted(
        path.parent
        for path in ROOT.glob("*/__init__.py")
        if path.parent.name not in NO_ROOMS and not path.parent.name.startswith(".")
    )


def modules() -> list[Path]:
    """All files of the package."""
    return sorted([*ROOT.glob("*.py"), *(path for room in rooms() for path in room.rglob("*.py"))])


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports_of(source: str) -> Iterator[str]:
    """Dotted names a file imports, inside functions too; a relative import gives a name that begins with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if base == PACKAGE)


def offences(room: str, source: str) -> list[str]:
    found = []
    for name in imports_of(source):
        parts = name.split(".")
        if name.startswith("."):
            found.append(f"relative import {name}")
        elif parts[0] in MAY_IMPORT:
            found.append(f"import {name}: write {PACKAGE}.{name}")
        elif parts[0] == PACKAGE and len(parts) > 1 and parts[1] in set(MAY_IMPORT) - MAY_IMPORT[room] - {room}:
            found.append(f"room {room!r} imports {name}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    assert offences(room_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("cache", "import sentifuse.data"),
        ("cache", "from sentifuse.data.manifest import Pair"),
        ("cache", "def f():\n    from sentifuse import data"),
        ("extract", "from sentifuse.fuse import batches"),
        ("fuse", "from sentifuse.commands import train"),
        ("fuse", "import sentifuse.cli"),
        ("data", "from . import manifest"),
        ("data", "from ..cache import reader"),
        ("fuse", "import cache"),
        ("fuse", "from data.manifest import Pair"),
    ],
)
def test_a_forbidden_import_is_found(room: str, source: str) -> None:
    assert len(offences(room, source)) == 1


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("cache", "from sentifuse import CacheError\nfrom sentifuse.cache.spec import Row\nimport numpy"),
        ("extract", "import sentifuse.data.manifest\nfrom sentifuse.engines import ENGINES"),
        ("commands", "def run():\n    from sentifuse.fuse.train import train"),
    ],
)
def test_an_allowed_import_is_not(room: str, source: str) -> None:
    assert offences(room, source) == []


def test_every_room_has_its_rule() -> None:
    assert {room.name for room in rooms()} | {path.stem for path in ROOT.glob("*.py")} - {"__init__"} <= set(MAY_IMPORT)


def test_every_folder_is_packaged_and_every_room_is_checked_for_types() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    folders = {path.parent for room in rooms() for path in room.rglob("__init__.py")}
    packages = {PACKAGE} | {".".join((PACKAGE, *folder.relative_to(ROOT).parts)) for folder in folders}
    assert set(settings["setuptools"]["packages"]) == packages
    assert set(settings["mypy"]["packages"]) == {f"{PACKAGE}.{room.name}" for room in rooms()}
    at_root = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    assert set(settings["mypy"]["modules"]) == {PACKAGE} | {f"{PACKAGE}.{name}" for name in at_root}


def test_no_code_lies_in_a_folder_that_is_no_package() -> None:
    strays = [path for path in modules() if path.parent != ROOT and not (path.parent / "__init__.py").exists()]
    assert strays == []


def test_what_a_room_ships_besides_code_is_there() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    for package, patterns in settings["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package}: nothing matches {pattern}"
