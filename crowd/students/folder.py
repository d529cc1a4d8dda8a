"""Student folders below artifacts/crowd/students: written with their folds, found again by name or path.

The format is `extract.students`'; this room adds what a training knows. Trains nothing and loads no network.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import ConfigError
from sentifuse.crowd.students.makers import Made, Maker
from sentifuse.crowd.students.out_of_fold import ALL
from sentifuse.data import files
from sentifuse.extract.seen_images import SeenImage
from sentifuse.extract.students import CONFIG, STUDENT, StudentConfig, StudentParts, read_student, write_student

__all__ = ["StudentFolder", "find_student", "students_folder", "write_students"]

HISTORY = "history.csv"
HINT = "Train one: sentifuse distil train --student probe"


@dataclass(frozen=True, slots=True)
class StudentFolder:
    """A student on disk; `document` is its student.json."""

    path: Path
    config: StudentConfig
    document: Mapping[str, Any]

    @property
    def fold_folders(self) -> dict[int, Path]:
        """0: the folder itself; k: the student that did not see fold k."""
        found = {ALL: self.path}
        while (path := self.path / f"fold-{len(found)}").is_dir():
            found[len(found)] = path
        return found


def students_folder(artifacts: Path) -> Path:
    """Where students lie.

    >>> students_folder(Path("artifacts")).as_posix()
    'artifacts/crowd/students'
    """
    return artifacts / "crowd" / "students"


def find_student(artifacts: Path, name_or_path: Path) -> StudentFolder:
    """A student by its folder, or by its name below `artifacts`.

    Raises
    ------
    ConfigError
        None is there; the message names those that are.
    """
    for path in (Path(name_or_path), students_folder(artifacts) / name_or_path):
        if (path / CONFIG).is_file():
            return _open(path.resolve())
    place = students_folder(artifacts)
    known = sorted(path.name for path in place.iterdir() if (path / CONFIG).is_file()) if place.is_dir() else []
    raise ConfigError(
        f"--student {name_or_path}: expected a student folder or the name of one in {place}, found none "
        f"(there are: {', '.join(known) or 'none'}). {HINT}"
    )


def write_students(
    students: Path,
    name: str,
    *,
    made: Sequence[Made],
    maker: Maker,
    document: Mapping[str, Any],
    seen: Sequence[SeenImage],
) -> StudentFolder:
    """Write the student of all pairs with those of the folds inside, whole or not at all; then the logs beside them."""
    own = [{"kind": document["kind"], "held_out_fold": fold} for fold in range(len(made))]
    parts = [_parts(one, maker, document if fold == ALL else own[fold]) for fold, one in enumerate(made)]
    base = None if maker.base is None else maker.base.copy
    student = _open(write_student(students / name, parts[ALL], base=base, seen=seen, folds=parts[ALL + 1 :]))
    for fold, folder in student.fold_folders.items():
        for file, content in {HISTORY: _csv(made[fold].history), **made[fold].logs}.items():
            files.write_bytes(folder / file, content)
    return student


def _parts(made: Made, maker: Maker, notes: Mapping[str, Any]) -> StudentParts:
    config = StudentConfig(
        kind="vit" if made.vit_config else "probe",
        head=made.head_config,
        temperature=made.temperature,
        vit=made.vit_config,
        base={} if maker.base is None else maker.base.config,
        resize=made.resize,
    )
    return StudentParts(config=config, tensors=made.tensors, processor=made.processor, notes=notes)


def _open(path: Path) -> StudentFolder:
    has_document = (path / STUDENT).is_file()
    document = files.read_json(path / STUDENT, hint=HINT) if has_document else {}
    return StudentFolder(path, read_student(path), document)


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode()
