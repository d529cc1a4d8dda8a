"""The frozen base of a probe: what its folder says about it, its files, and the network built from them again."""

import shutil
from pathlib import Path
from typing import Any

from sentifuse import ConfigError
from sentifuse.data.files import is_file, read_json, write_json
from sentifuse.extract.encoder import Encoder, EncoderPlan
from sentifuse.extract.encoders import encoder_class
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.gold_seen import ELSEWHERE, read_gold_seen
from sentifuse.extract.models.located import LocatedModel, read_base, read_file_model, read_folder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.seen_images import HELD_OUT, HINT, STUDENT, find_home, read_seen, write_seen
from sentifuse.extract.settings import all_settings, read_settings
from sentifuse.extract.students import BASE_FIELDS, MODEL_TYPE, StudentConfig, read_student

__all__ = ["build_base", "copy_base", "describe_base"]

# Beside the files that the digest is of: other things a processor or a tokenizer may want, and what a student saw.
COMPANION_SUFFIXES = frozenset({".json", ".txt", ".model", ".parquet"})


def describe_base(plan: EncoderPlan) -> dict[str, Any]:
    """`base` of a probe's config.json, for a probe over the features of this encoder.

    Raises
    ------
    ConfigError
        An encoder that is no base of a probe, or one that runs a probe itself.
    """
    model = plan.backbone.model
    if plan.name not in BASE_FIELDS:
        raise ConfigError.unknown("base of a probe", plan.name, BASE_FIELDS)
    if model.architecture == MODEL_TYPE and model.path is not None and read_student(model.path).kind == "probe":
        raise ConfigError(f"{model.source}: a probe, expected a network of its own as the base of a probe")
    with model.opened() as path:
        source = ModelSource(kind="path", name=str(path), architecture=model.architecture)
        # A tiny network's digest stands for its seed; that of its files is another one.
        digest = (read_file_model(source, path) if path.is_file() else read_folder(source, path)).digest
        file = path.name if path.is_file() else ""
    return {
        "encoder": plan.name,
        "version": plan.encoder.version,
        "settings": all_settings(plan.settings),
        "field": BASE_FIELDS[plan.name],
        "model": {
            "kind": model.source.kind,
            "name": Path(model.source.name).name if model.source.kind == "path" else model.source.name,
            "architecture": model.architecture,
            "digest": digest,
            "file": file,
        },
    }


def copy_base(model: LocatedModel, folder: Path) -> None:
    """Put a model's files into a folder: what its digest is of, and small files beside them; nothing from below it."""
    with model.opened() as path:
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
            return
        wanted = set(read_folder(model.source, path).files)
        for file in sorted(path.iterdir()):
            if file.is_file() and (file.name in wanted or file.suffix in COMPANION_SUFFIXES):
                shutil.copyfile(file, folder / file.name)
        if find_home(path)[1]:
            _tell_what_is_known(path, folder)


def _tell_what_is_known(path: Path, folder: Path) -> None:
    """The student of a fold leaves its folder behind, which alone says what it saw and what its teacher knew."""
    write_seen(folder, read_seen(path))
    document = read_json(folder / STUDENT, hint=HINT) if is_file(folder / STUDENT) else {}
    document.pop(HELD_OUT, None)
    write_json(folder / STUDENT, document | {ELSEWHERE: read_gold_seen(path)})


def build_base(folder: Path, student: StudentConfig, precision: str, device: str) -> Encoder:
    """The encoder whose features a probe reads, made of the probe's folder alone (imports torch).

    Raises
    ------
    ModelMismatch
        The base is not the one the probe was trained on, or this release computes its features in another way.
    """
    model = read_base(folder, student)
    name, given = student.base["encoder"], student.base["settings"]
    where = f"{folder / 'config.json'}: base.settings"
    try:
        made = encoder_class(name, given, where=where)
        settings: Any = read_settings(made.Settings, given, where=where)
        spec = made.backbone_spec(settings, model, precision)
    except ConfigError as error:
        raise ModelMismatch(str(error)) from error
    if made.version != student.base["version"]:
        raise ModelMismatch(
            f"{folder}: trained on features of {name} version {student.base['version']}, this release computes version "
            f"{made.version}. Train the student again"
        )
    return made(settings, spec.build(device), model)
