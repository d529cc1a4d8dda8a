"""The card of a dataset: what a paper's data section needs, as one small JSON file.

Written last by `prepare`, so a card means a whole dataset. Counts nothing itself.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sentifuse import DataError
from sentifuse.data.files import read_json, write_json
from sentifuse.data.manifest import prepare_hint
from sentifuse.data.protocols import DEFAULT_FOLDS

FILE_NAME = "card.json"
NEWER_KEYS = {"folds", "protocols"}  # a card from before them is still good


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Where a dataset comes from, how it is labelled and split by default, and how much of it there is.

    `counts`: "pairs", "image_status", "text_status" (status -> n, each adding up to the pairs), "labelled", "classes"
    (class -> n, adding up to "labelled"), "removed" (reason -> n, with "labelled" adding up to the pairs), "split"
    (part -> n), "failures". `problems`: what was odd in the source, row by row. `published`: counts of papers to
    stand beside ours. `options`: what is needed to read the same source again. `folds`: the k of the protocols with
    folds of our own. `protocols`: those there are -> "seed", "k", "digest" of the id lists, "missing" (listed ids that
    the manifest lacks), "folds" (digest, sizes and leak of each), and for published lists "source" and "lists" (counts
    of what did not fit); or "unusable" with the reason.
    """

    name: str
    reader: str
    source: str
    root: str
    encoding: str
    classes: tuple[str, ...]
    rule: str
    protocol: str
    seed: int
    counts: Mapping[str, Any]
    problems: tuple[Mapping[str, str], ...] = ()
    published: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    folds: int = DEFAULT_FOLDS
    protocols: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"classes": list(self.classes), "problems": [dict(problem) for problem in self.problems]}


def write_card(dataset_dir: Path, card: Card) -> bool:
    """Write `card.json` atomically; False when nothing changed."""
    return write_json(dataset_dir / FILE_NAME, card.to_json())


def read_card(dataset_dir: Path) -> Card:
    """The card of a prepared dataset; `DataError` when it is not prepared or the card is damaged."""
    hint = prepare_hint(dataset_dir)
    path = dataset_dir / FILE_NAME
    values = read_json(path, hint=hint)
    names = {one.name for one in fields(Card)}
    odd = sorted((set(values) ^ names) - NEWER_KEYS | (set(values) - names))
    if odd:
        raise DataError(
            f"{path}: expected the keys {sorted(names)}, these are missing or unknown: {odd}. Delete it. {hint}"
        )
    return Card(**values | {"classes": tuple(values["classes"]), "problems": tuple(values["problems"])})
