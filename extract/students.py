"""The student folder: a visual sentiment student as the encoder `crowd` loads it, written whole or not at all.

Knows files and shapes. Imports no torch and runs no network; which images a student saw is in `seen_images`.
"""

import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError, ResourceError
from sentifuse.cache.files import fsync_directory
from sentifuse.data.source import SENTIMENT
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.seen_images import SeenImage, write_seen

__all__ = [
    "BASE_FIELDS",
    "MODEL_TYPE",
    "StudentConfig",
    "StudentParts",
    "base_folder",
    "check_head",
    "head_shapes",
    "read_student",
    "write_student",
]

MODEL_TYPE = "sentifuse_student"
FORMAT = 1
CLASSES = SENTIMENT
KINDS = ("probe", "vit")
BASE_FIELDS: Mapping[str, str] = {"context": "vector", "crowd": "embedding", "clip": "image"}  # encoder -> its field
RESIZES = ("processor", "tensorflow")
HEADS: Mapping[str, frozenset[str]] = {  # kind -> keys beside kind and in
    "two_layer": frozenset({"width", "gelu"}),
    "mlp": frozenset({"width", "dropout"}),
    "linear": frozenset(),
}
CONFIG, WEIGHTS, PROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
STUDENT = "student.json"
BASE = "base"
FOLD = "fold-"

Tensors = Mapping[str, npt.NDArray[np.float32]]

# Shapes: D width of what the head reads, W hidden width, K = 3 classes.


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """config.json of a student.

    Attributes
    ----------
    kind
        "probe": a head over the features of a frozen base that lies in the folder; "vit": a fine-tuned transformer.
    head
        `{"kind": "two_layer", "in": D, "width": W, "gelu": "exact" or "tanh"}`,
        `{"kind": "mlp", "in": D, "width": W, "dropout": share}` or `{"kind": "linear", "in": D}`.
    temperature
        Logits are divided by it.
    vit
        ViTConfig of transformers, for kind vit.
    base
        For kind probe `encoder` ("context", "crowd" or "clip"), its `version`, its `settings`, the `field` the head
        reads, and `model` with `kind` and `name` (where it came from; not hashed), `architecture`, `digest` and `file`
        ("" for a folder of transformers).
    resize
        "processor": as preprocessor_config.json says; "tensorflow": bilinear without antialias, for kind vit.
    """

    kind: str
    head: Mapping[str, Any]
    temperature: float = 1.0
    vit: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    resize: str = "processor"

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; `ConfigError`."""
        if self.kind not in KINDS:
            raise ConfigError.unknown("kind of student", str(self.kind), KINDS)
        check_head(self.head)
        if not (_is_number(self.temperature) and math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(f"temperature is {self.temperature!r}, expected a number above 0")
        if self.resize not in RESIZES:
            raise ConfigError.unknown("resize", str(self.resize), RESIZES)
        if bool(self.vit) != (self.kind == "vit") or bool(self.base) != (self.kind == "probe"):
            raise ConfigError(f"a student of kind {self.kind} has {'vit' if self.kind == 'vit' else 'base'} alone")
        if self.kind == "probe":
            if self.resize != "processor":
                raise ConfigError("resize is for students of kind vit; the base of a probe prepares the images")
            _check_base(self.base)
        elif self.vit.get("hidden_size") != self.head["in"]:
            raise ConfigError(
                f"the head reads {self.head['in']} numbers, expected vit's hidden_size {self.vit.get('hidden_size')}"
            )

    def to_json(self) -> dict[str, Any]:
        """The document of config.json."""
        document: dict[str, Any] = {
            "model_type": MODEL_TYPE,
            "format": FORMAT,
            "kind": self.kind,
            "id2label": {str(i): name for i, name in enumerate(CLASSES)},
            "head": dict(self.head),
            "temperature": float(self.temperature),
            **({"vit": dict(self.vit)} if self.kind == "vit" else {"base": dict(self.base)}),
        }
        return document if self.resize == "processor" else {**document, "resize": self.resize}

    @property
    def hashed(self) -> dict[str, Any]:
        """What of config.json changes numbers: all but where the base came from."""
        document = self.to_json()
        if self.kind == "probe":
            model = {key: self.base["model"][key] for key in ("architecture", "digest")}
            document["base"] = {**self.base, "model": model}
        return document


@dataclass(frozen=True, kw_only=True)
class StudentParts:
    """What the folder of one student is made of.

    Attributes
    ----------
    tensors
        float32; `head.*` as `head_shapes` says, and for kind vit `vit.*`: a ViTModel of transformers without pooler.
    processor
        preprocessor_config.json, for kind vit.
    notes
        student.json: what a person wants to know. Not hashed.
    """

    config: StudentConfig
    tensors: Tensors
    processor: Mapping[str, Any] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


def write_student(
    folder: Path,
    parts: StudentParts,
    *,
    base: Callable[[Path], object] | None = None,
    seen: Sequence[SeenImage] = (),
    folds: Sequence[StudentParts] = (),
) -> Path:
    """Write a student folder; it appears under its name when all of it is there, and nothing is written over.

    Parameters
    ----------
    base
        Fills the folder given to it with the frozen base, for probes; see `student_base.copy_base`. The folds share it.
    seen
        The images of the training. What a base saw stands in its own folder.
    folds
        The students that were trained without the images of fold 1, 2, …

    Raises
    ------
    ConfigError
        Something of this name is there; parts that do not fit each other.
    ResourceError
        It cannot be written; nothing is left behind.
    """
    if folder.exists():
        raise ConfigError(f"{folder}: something of this name is there, and students are never written over")
    if (parts.config.kind == "probe") != (base is not None):
        raise ConfigError(
            f"{folder}: a student of kind {parts.config.kind} {'needs a' if base is None else 'has no'} base"
        )
    if strange := sorted({image.fold for image in seen} - set(range(len(folds) + 1))):
        raise ConfigError(f"{folder}: seen images of fold {strange[0]}, expected the folds of {len(folds)} students")
    for student in (parts, *folds):
        _check_parts(folder, student)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        if base is not None:
            (temporary / BASE).mkdir()
            base(temporary / BASE)
        for k, student in enumerate((parts, *folds)):
            _write_parts(temporary if k == 0 else temporary / f"{FOLD}{k}", student)
        if seen:
            write_seen(temporary, seen)
        _sync(temporary)
        temporary.rename(folder)
        fsync_directory(folder.parent)
    except OSError as error:
        raise ResourceError(
            f"{folder}: cannot be written ({error}); make room, mend the rights or name another"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_student(folder: Path) -> StudentConfig:
    """config.json of a student folder, checked.

    Raises
    ------
    ModelMismatch
        No config.json, another kind of model, another format, or values that cannot be.
    """
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelMismatch(f"{path}: cannot be read as JSON ({error}); copy the whole student folder") from error
    if not isinstance(document, dict) or document.get("model_type") != MODEL_TYPE:
        raise ModelMismatch(f"{path}: not a student's, expected model_type {MODEL_TYPE!r}")
    if document.get("format") != FORMAT:
        raise ModelMismatch(f"{path}: format {document.get('format')!r}, expected {FORMAT}. Made by a later release?")
    if document.get("id2label") != {str(i): name for i, name in enumerate(CLASSES)}:
        raise ModelMismatch(f"{path}: id2label is {document.get('id2label')!r}, expected {', '.join(CLASSES)}")
    known = ("kind", "head", "temperature", "vit", "base", "resize")
    unknown = sorted(document.keys() - {*known, "model_type", "format", "id2label"})
    if unknown:
        raise ModelMismatch(f"{path}: unknown key {unknown[0]!r}, expected {', '.join(known)}")
    try:
        return StudentConfig(**{key: document[key] for key in known if key in document})
    except (ConfigError, TypeError) as error:
        raise ModelMismatch(f"{path}: {error}") from error


def base_folder(folder: Path) -> Path:
    """Where the frozen base of a probe lies; the students of folds share that of the folder they lie in."""
    if not (folder / BASE).is_dir() and folder.name.startswith(FOLD):
        return folder.parent / BASE
    return folder / BASE


def head_shapes(head: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a head, by their names in model.safetensors.

    >>> head_shapes({"kind": "linear", "in": 4})
    {'head.classifier.weight': (3, 4), 'head.classifier.bias': (3,)}
    """
    read = int(head["in"])
    width = int(head.get("width", read))
    shapes: dict[str, tuple[int, ...]] = {}
    if head["kind"] == "mlp":
        shapes |= {"head.norm.weight": (read,), "head.norm.bias": (read,)}
    if head["kind"] != "linear":
        shapes |= {"head.hidden.weight": (width, read), "head.hidden.bias": (width,)}
    return shapes | {"head.classifier.weight": (len(CLASSES), width), "head.classifier.bias": (len(CLASSES),)}


def check_head(head: Mapping[str, Any]) -> None:
    """Refuse a `head` of config.json that cannot be (`ConfigError`)."""
    if not isinstance(head, Mapping) or head.get("kind") not in HEADS:
        kind = head.get("kind") if isinstance(head, Mapping) else head
        raise ConfigError.unknown("kind of head", str(kind), HEADS)
    expected = {"kind", "in", *HEADS[head["kind"]]}
    if head.keys() != expected:
        raise ConfigError(f"head has {', '.join(sorted(head))}, expected {', '.join(sorted(expected))}")
    for key in ("in", "width"):
        if key in head and not (isinstance(head[key], int) and not isinstance(head[key], bool) and head[key] > 0):
            raise ConfigError(f"head.{key} is {head[key]!r}, expected a whole number above 0")
    if "gelu" in head and head["gelu"] not in ("exact", "tanh"):
        raise ConfigError.unknown("head.gelu", str(head["gelu"]), ("exact", "tanh"))
    if "dropout" in head and not (_is_number(head["dropout"]) and 0 <= head["dropout"] < 1):
        raise ConfigError(f"head.dropout is {head['dropout']!r}, expected 0 to 1")


def _check_base(base: Mapping[str, Any]) -> None:
    expected = {"encoder": str, "version": int, "settings": Mapping, "field": str, "model": Mapping}
    if not isinstance(base, Mapping) or base.keys() != expected.keys():
        found = ", ".join(sorted(base)) if isinstance(base, Mapping) else repr(base)
        raise ConfigError(f"base has {found}, expected {', '.join(sorted(expected))}")
    for key, kind in expected.items():
        if not isinstance(base[key], kind):
            raise ConfigError(f"base.{key} is {base[key]!r}, expected a {kind.__name__.lower()}")
    if base["encoder"] not in BASE_FIELDS:
        raise ConfigError.unknown("base of a probe", str(base["encoder"]), BASE_FIELDS)
    if base["field"] != BASE_FIELDS[base["encoder"]]:
        raise ConfigError.unknown("field of the base", str(base["field"]), [BASE_FIELDS[base["encoder"]]])
    for key in ("kind", "name", "architecture", "digest", "file"):
        if not isinstance(base["model"].get(key), str):
            raise ConfigError(f"base.model.{key} is {base['model'].get(key)!r}, expected a text")
    if Path(base["model"]["file"]).name != base["model"]["file"]:
        raise ConfigError(f"base.model.file is {base['model']['file']!r}, expected a name without a folder")


def _check_parts(folder: Path, parts: StudentParts) -> None:
    kind, tensors, wanted = parts.config.kind, parts.tensors, head_shapes(parts.config.head)
    found = {name: tuple(value.shape) for name, value in tensors.items() if name.startswith("head.")}
    if found != wanted:
        raise ConfigError(f"{folder}: a head of {found}, expected {wanted}")
    others = sorted(name for name in tensors if not name.startswith("head."))
    if any(not name.startswith("vit.") for name in others) or bool(others) != (kind == "vit"):
        raise ConfigError(f"{folder}: tensors {', '.join(others[:3])} …, expected head.* and, for kind vit, vit.*")
    for name, value in tensors.items():
        if value.dtype != np.float32 or not np.isfinite(value).all():
            raise ConfigError(f"{folder}: {name} is {value.dtype}, expected finite float32")
    if (parts.processor is None) == (kind == "vit"):
        raise ConfigError(f"{folder}: a student of kind vit has an image processor, a probe has none of its own")


def _write_parts(folder: Path, parts: StudentParts) -> None:
    from safetensors.numpy import save_file  # reading a config needs no such thing

    folder.mkdir(exist_ok=True)
    ordered = {name: np.ascontiguousarray(parts.tensors[name]) for name in sorted(parts.tensors)}
    save_file(ordered, folder / WEIGHTS, metadata={"format": "pt"})
    # safetensors makes its files private; a folder made here tells what others may see.
    (folder / WEIGHTS).chmod(0o666 & folder.stat().st_mode)
    documents = {CONFIG: parts.config.to_json(), STUDENT: dict(parts.notes)}
    if parts.processor is not None:
        documents[PROCESSOR] = dict(parts.processor)
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sync(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        fsync_directory(path)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
