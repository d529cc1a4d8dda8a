"""A model that was found: its files, checked, and the digest that stands for its numbers. Loads no tensor."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sentifuse.cache.files import sha256_of
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.stand_ins import refuse_stand_in
from sentifuse.extract.models.tiny import TINY, TINY_VERSION, tiny_config, write_tiny
from sentifuse.extract.students import MODEL_TYPE, StudentConfig, base_folder, read_student

__all__ = [
    "LocatedModel",
    "check_safetensors",
    "read_base",
    "read_file_model",
    "read_folder",
    "read_tiny",
]

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# What else of a transformers folder changes numbers. The slow tokenizer's files count only without tokenizer.json.
COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "preprocessor_config.json")
SLOW_TOKENIZER = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
# Keys that say where a file came from and how it was stored. We load in float32 whatever was stored.
PROVENANCE = ("_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype", "_commit_hash")
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


@dataclass(frozen=True, kw_only=True)
class LocatedModel:
    """A model on this machine.

    Attributes
    ----------
    path
        Folder (transformers) or weights file (torchvision); None for a tiny network, which is made when it is built.
    architecture
        torchvision's name, or config.json's ``model_type``.
    digest
        SHA-256 over everything that changes numbers; no path, no hub id, no library version.
    files
        SHA-256 of each file that went into it, for people.
    """

    source: ModelSource
    path: Path | None
    architecture: str
    digest: str
    files: Mapping[str, str]

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json of a transformers folder, {} for a weights file."""
        if self.path is None:
            return tiny_config(self.source.name)
        return _read_json(self.path / "config.json") if self.path.is_dir() else {}

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """The folder or file to load from; a tiny network is written to a temporary folder for this moment."""
        if self.path is not None:
            yield self.path
            return
        with TemporaryDirectory(prefix="sentifuse-tiny-") as folder:
            yield write_tiny(self.source.name, self.source.seed, Path(folder))

    @property
    def details(self) -> dict[str, Any]:
        """What a person wants to know about the model beside the features; not part of the fingerprint."""
        return {
            "source": str(self.source),
            "path": str(self.path.absolute()) if self.path else None,
            "architecture": self.architecture,
            "digest": self.digest,
            "files": dict(self.files),
        }


def read_folder(source: ModelSource, folder: Path) -> LocatedModel:
    """Check a transformers folder and take its digest.

    Raises
    ------
    ModelMismatch
        No or torn config.json, no weights, a missing shard, a torn safetensors file.
    """
    if not (folder / "config.json").is_file():
        raise ModelMismatch(f"{folder}: no config.json, expected a folder written by save_pretrained")
    config = _read_json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ModelMismatch(f"{folder / 'config.json'}: no model_type, expected a transformers configuration")
    names = ["config.json", *_weight_files(folder), *(name for name in COMPANIONS if (folder / name).is_file())]
    if (folder / "tokenizer.json").is_file():
        names.append("tokenizer.json")
    else:
        names += [name for name in SLOW_TOKENIZER if (folder / name).is_file()]
    digests = {}
    for name in names:
        if name.endswith((".bin", ".safetensors")):
            refuse_stand_in(folder / name)
        if name.endswith(".safetensors"):
            check_safetensors(folder / name)
        if name.endswith(("config.json", ".index.json")):
            plain = {key: value for key, value in _read_json(folder / name).items() if key not in PROVENANCE}
            digests[name] = hashlib.sha256(canonical_json(plain)).hexdigest()
        else:
            digests[name] = sha256_of(folder / name)
    if config["model_type"] == MODEL_TYPE:
        student = read_student(folder)
        digests["config.json"] = hashlib.sha256(canonical_json(student.hashed)).hexdigest()
        if student.kind == "probe":
            digests["base"] = read_base(folder, student).digest
    digest = hashlib.sha256(canonical_json(digests)).hexdigest()
    return LocatedModel(source=source, path=folder, architecture=config["model_type"], digest=digest, files=digests)


def read_base(folder: Path, student: StudentConfig) -> LocatedModel:
    """Check the frozen base that lies in a probe's folder.

    Raises
    ------
    ModelMismatch
        It is not there, torn, another one than the probe was trained on, or a probe itself.
    """
    model = student.base["model"]
    path = base_folder(folder) / model["file"]
    if not (path.is_file() if model["file"] else (path / "config.json").is_file()):
        raise ModelMismatch(f"{path}: the base of the student is missing; copy the whole student folder")
    source = ModelSource(kind="path", name=str(path), architecture=model["architecture"])
    found = read_file_model(source, path) if model["file"] else read_folder(source, path)
    if found.architecture == MODEL_TYPE and read_student(path).kind != "vit":
        raise ModelMismatch(f"{path}: a probe as the base of a probe, expected a network of its own")
    if found.digest != model["digest"]:
        raise ModelMismatch(
            f"{path}: digest {found.digest}, expected {model['digest']}: not the base this student was trained on. "
            "Copy the whole student folder again"
        )
    return found


def read_file_model(source: ModelSource, file: Path) -> LocatedModel:
    """Check one weights file against the digest the profile pins, if it pins one.

    Raises
    ------
    ModelMismatch
        No weights but what stands in their place, another digest than pinned, or a torn safetensors file.
    """
    if not source.architecture:
        raise ModelMismatch(f"{file}: of which network? {source.advice}")
    refuse_stand_in(file)
    digest = sha256_of(file)
    if source.sha256 and digest != source.sha256:
        raise ModelMismatch(
            f"{file}: SHA-256 is {digest}, expected {source.sha256}. The file is damaged or another one of this name; "
            "replace it, or change sha256 in the profile if this is the file you mean"
        )
    if file.suffix == ".safetensors":
        check_safetensors(file)
    return LocatedModel(
        source=source, path=file, architecture=source.architecture, digest=digest, files={file.name: digest}
    )


def read_tiny(source: ModelSource) -> LocatedModel:
    """A seeded miniature network: its kind, seed and version stand for its numbers."""
    architecture = TINY[source.name]
    plain = {"tiny": source.name, "seed": source.seed, "version": TINY_VERSION}
    digest = hashlib.sha256(canonical_json(plain)).hexdigest()
    return LocatedModel(source=source, path=None, architecture=architecture, digest=digest, files={})


def check_safetensors(file: Path) -> dict[str, tuple[int, ...]]:
    """Read only the header of a safetensors file and compare it with the file's length.

    Returns
    -------
    dict
        Shape of each tensor.

    Raises
    ------
    ModelMismatch
        Not a safetensors file, or cut off.
    """
    size_bytes = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size_bytes < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - 8):
                raise ValueError(f"header length {length}")
            header = json.loads(stream.read(length).decode("utf-8"))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ModelMismatch(f"{file}: not a safetensors file, or a torn one ({error}); fetch it again") from error
    if 8 + length + end != size_bytes:
        raise ModelMismatch(
            f"{file}: {size_bytes:,} bytes long, its header expects {8 + length + end:,}: cut off? Fetch it again"
        )
    return shapes


def _weight_files(folder: Path) -> list[str]:
    found = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise ModelMismatch(f"{folder}: no weights, expected {WEIGHTS[0]} (or {WEIGHTS[1]} with its shards)")
    if not found.endswith(".index.json"):
        return [found]
    shards = sorted(set(_read_json(folder / found).get("weight_map", {}).values()))
    for name in shards:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelMismatch(f"{folder / name}: missing, but {found} names it; fetch the folder again")
    return [found, *shards]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelMismatch(f"{file}: cannot be read as JSON ({error}); fetch it again") from error
    if not isinstance(value, dict):
        raise ModelMismatch(f"{file}: holds a {type(value).__name__}, expected an object")
    return value
