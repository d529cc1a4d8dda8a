"""What a reader hands over: raw pairs, annotations and problems, before anything is decoded, hashed or labelled.

Holds the nouns shared by the readers and `prepare`. Reads nothing itself.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

MODALITIES = ("text", "image", "pair", "row")
SPLITS = ("train", "val", "test")
MAX_ID_BYTES = 1024  # in UTF-8; the feature store has no room for longer ones
SENTIMENT = ("negative", "neutral", "positive")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One label word as one annotator gave it.

    `modality` is "text", "image" or "pair"; "row" marks a row of the label file that could not be read, and then
    `label` says what is wrong with it.
    """

    id: str
    modality: str
    annotator: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPair:
    """One pair as the source names it; text as bytes is still to be decoded, None means that there is no text."""

    id: str
    image_path: str
    text: bytes | str | None
    text_problem: str = ""
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something odd in the source, with its place; `is_failure` counts against `max_failures`."""

    where: str
    what: str
    id: str = ""
    is_failure: bool = False

    def to_json(self) -> dict[str, str]:
        return {"where": self.where, "what": self.what} | ({"id": self.id} if self.id else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """A person's own table of pairs and the names of its columns.

    A column whose name is left at its default may be absent (except the id); a column named otherwise must be there.
    `classes` fixes the class names and their order; None takes them from the labels.
    """

    path: Path
    root: Path | None = None
    id_column: str = "id"
    image_column: str = "image"
    text_column: str = "text"
    label_column: str = "label"
    text_label_column: str = "text_label"
    image_label_column: str = "image_label"
    split_column: str = "split"
    classes: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values with absolute paths, for the card."""
        paths = {name: str(value.expanduser().resolve()) for name in ("path", "root") if (value := getattr(self, name))}
        return asdict(self) | {"root": None, "classes": list(self.classes) if self.classes else None} | paths

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TableOptions":
        """The options that `to_json` wrote."""
        root, classes = values.get("root"), values.get("classes")
        plain = {key: value for key, value in values.items() if key.endswith("_column")}
        return cls(
            path=Path(values["path"]),
            root=Path(root) if root else None,
            classes=tuple(classes) if classes else None,
            **plain,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """What `prepare` was asked for; a reader takes what concerns it."""

    dataset_dir: Path
    root: Path | None = None
    encoding: str | None = None
    table: TableOptions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """All that a reader found. `pairs` are in the order of the source, ids are unique."""

    root: Path
    path: Path
    encoding: str
    classes: tuple[str, ...]
    rule: str
    protocol: str
    pairs: tuple[RawPair, ...]
    annotations: tuple[Annotation, ...]
    problems: tuple[Problem, ...] = ()
    published: Mapping[str, Any] = field(default_factory=dict)


class Reader(Protocol):
    """Reads one kind of source; `DataError` for a source that cannot be used, problems for rows that cannot."""

    def read(self, request: ReadRequest) -> Source: ...
