"""Finding detectron2: installed, or as a folder of sources that nobody compiled; and what tells its code apart.

It is on no package index, so no list of dependencies can name it. Imports nothing of it.
"""

import hashlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from sentifuse import ConfigError
from sentifuse.cache.files import sha256_of
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.extract.errors import MissingModel

__all__ = ["NEEDS", "Detectron2Package", "find_detectron2"]

# What it imports on the way to a detector, beside torch and Pillow; each is a package of the same name.
NEEDS = (
    "cloudpickle",
    "fvcore",
    "iopath",
    "omegaconf",
    "portalocker",
    "pycocotools",
    "tabulate",
    "termcolor",
    "tqdm",
    "yacs",
)
SOURCES = "https://github.com/facebookresearch/detectron2"
COMMIT = re.compile(r"[0-9a-f]{40}")
BASE = re.compile(r"^_BASE_:\s*[\"']?([^\"'\s]+)", re.MULTILINE)
VERSION = re.compile(r"^__version__\s*=\s*[\"']([^\"']+)", re.MULTILINE)
MAX_BASES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectron2Package:
    """A detectron2 on this machine.

    Attributes
    ----------
    root
        The folder that has the package `detectron2` in it.
    revision
        The commit of the checkout (the version where there is none), a plus sign, and 12 digits of the SHA-256 over
        its Python files: sources that were edited after the checkout are told apart too.
    is_compiled
        Whether its own C++ operations are there. Without them RoIAlign and NMS are torchvision's, and nothing here
        needs any other.
    """

    root: Path
    revision: str
    is_compiled: bool

    def config_file(self, name: str) -> Path:
        """The file of a configuration of its zoo, such as "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml".

        Raises
        ------
        ConfigError
            There is no such file in its folder of configurations.
        """
        folders = [self.root / "configs", self.root / "detectron2" / "model_zoo" / "configs"]
        for folder in folders:
            file = (folder / name).resolve()
            if file.is_file() and file.is_relative_to(folder.resolve()):
                return file
        known = sorted({file.relative_to(folder).as_posix() for folder in folders for file in folder.rglob("*.yaml")})
        if not known:
            raise ConfigError(f"config is {name!r}, but {self.root} has no folder configs; take a whole checkout")
        raise ConfigError.unknown("config", name, get_close_matches(name, known, n=8, cutoff=0.0), where=str(self.root))

    def config_digest(self, name: str) -> str:
        """SHA-256 over a configuration and those it starts from."""
        files = _with_bases(self.config_file(name))
        return hashlib.sha256(canonical_json([sha256_of(file) for file in files])).hexdigest()


def find_detectron2(source: str) -> Detectron2Package:
    """The package in the folder `source`, or the installed one if that is empty.

    Raises
    ------
    MissingModel
        It is not there, or packages are missing that it imports; names the ways to have them.
    """
    root = _source_root(Path(source)) if source else _installed_root()
    package = root / "detectron2"
    missing = [name for name in NEEDS if not _is_there(name)]
    if missing:
        raise MissingModel(
            f"detectron2 is in {root}, but it imports {', '.join(missing)}, not installed here: "
            f"pip install {' '.join(missing)}"
        )
    version = VERSION.search((package / "__init__.py").read_text(encoding="utf-8"))
    name = _commit(root) or (version.group(1) if version else "unknown")
    return Detectron2Package(
        root=root,
        revision=f"{name}+{_digest(package)[:12]}",
        is_compiled=any((package / f"_C{suffix}").is_file() for suffix in EXTENSION_SUFFIXES),
    )


def _source_root(folder: Path) -> Path:
    if not (folder / "detectron2" / "__init__.py").is_file():
        raise MissingModel(
            f"source is {folder}, where no detectron2/__init__.py is; expected a checkout, which need not be compiled: "
            f"git clone {SOURCES} {folder}"
        )
    return folder.resolve()


def _installed_root() -> Path:
    try:
        spec = importlib.util.find_spec("detectron2")
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise MissingModel(
            "detectron2 is not installed, and no package index has it. Ways to have it: its sources, not compiled "
            f'(git clone {SOURCES}, then source = "that/folder" in the profile, and pip install {" ".join(NEEDS)}); '
            f"a build of your own (pip install --no-build-isolation git+{SOURCES}.git, some minutes of compiling); a "
            'wheel that others offer for your torch. Without it: backend = "vg" is the same network for the weights '
            "of Visual Genome"
        )
    return Path(spec.origin).parents[1].resolve()


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _commit(root: Path) -> str:
    """HEAD of a checkout, read from its files: git may not be installed, or may mistrust the folder's owner."""
    git = root / ".git"
    try:
        if git.is_file():  # a worktree or submodule: "gitdir: …"
            git = root / git.read_text(encoding="utf-8").partition(":")[2].strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref: "):
            head = _read_reference(git, head.removeprefix("ref: "))
    except (OSError, UnicodeDecodeError):
        return ""
    return head if COMMIT.fullmatch(head) else ""


def _read_reference(git: Path, name: str) -> str:
    shared = git / "commondir"
    folders = [git, git / shared.read_text(encoding="utf-8").strip()] if shared.is_file() else [git]
    for folder in folders:
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8").strip()
        if (folder / "packed-refs").is_file():
            for line in (folder / "packed-refs").read_text(encoding="utf-8").splitlines():
                if line.endswith(f" {name}"):
                    return line.partition(" ")[0]
    return ""


def _digest(package: Path) -> str:
    zoo = package / "model_zoo" / "configs"  # copied there when it is installed
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py") if zoo not in path.parents}
    return hashlib.sha256(canonical_json({name: sha256_of(files[name]) for name in sorted(files)})).hexdigest()


def _with_bases(file: Path) -> Iterator[Path]:
    for _ in range(MAX_BASES):
        yield file
        base = BASE.search(file.read_text(encoding="utf-8"))
        if base is None or not (file.parent / base.group(1)).is_file():
            return
        file = file.parent / base.group(1)
