"""Labels: named rules turn what annotators said into one label per pair, or into the reason why there is none.

`merge_labels` is pure; the rest keeps its results beside the annotations. Knows no images, no texts, no splits.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import ConfigError
from sentifuse.data import files
from sentifuse.data.card import read_card
from sentifuse.data.manifest import FILE_NAME as MANIFEST_NAME
from sentifuse.data.manifest import WITHDRAWN, prepare_hint, read_manifest
from sentifuse.data.source import Annotation

ANNOTATIONS_NAME = "annotations.parquet"
NEUTRAL = "neutral"
TARGETS = ("label", "text_label", "image_label")
COLUMNS = ("id", "label", "text_label", "image_label", "reason")

Outcome = tuple[str | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of all pairs of a manifest under one rule, in the manifest's order.

    `label`, `text_label` and `image_label` hold a class name or None per pair; `reasons` says why `label` is None
    ("" when it is not).
    """

    ids: tuple[str, ...]
    label: tuple[str | None, ...]
    text_label: tuple[str | None, ...]
    image_label: tuple[str | None, ...]
    reasons: tuple[str, ...]
    classes: tuple[str, ...]
    rule: str

    def by_id(self, target: str = "label") -> dict[str, str]:
        """The labelled pairs alone: id -> class name of `label`, `text_label` or `image_label`."""
        if target not in TARGETS:
            raise ConfigError.unknown("target", target, TARGETS)
        values: tuple[str | None, ...] = getattr(self, target)
        return {id_: label for id_, label in zip(self.ids, values, strict=True) if label is not None}

    def class_counts(self, target: str = "label") -> dict[str, int]:
        """How many pairs each class has, in the order of the classes."""
        counts = Counter(self.by_id(target).values())
        return {name: counts[name] for name in self.classes}

    def reason_counts(self) -> dict[str, int]:
        """How many pairs have no label, by reason."""
        return dict(sorted(Counter(reason for reason in self.reasons if reason).items()))

    def ids_with_reason(self, reason: str) -> tuple[str, ...]:
        """The pairs that have no label for this reason, by name."""
        return tuple(id_ for id_, found in zip(self.ids, self.reasons, strict=True) if found == reason)


@dataclass(frozen=True, slots=True)
class Votes:
    """What was said about one pair in one modality; `winner` is the label of more than half of the annotators."""

    words: tuple[str, ...]

    @property
    def winner(self) -> str | None:
        return next((word for word in self.words if 2 * self.words.count(word) > len(self.words)), None)


def _both_sides(text: Votes, image: Votes) -> Outcome | None:
    """The reason why two unimodal labels cannot be joined, or None when there are two."""
    if not text.words or not image.words:
        both = not text.words and not image.words
        return None, "unlabelled" if both else f"no {'image' if text.words else 'text'} label"
    if text.winner is None or image.winner is None:
        both = text.winner is None and image.winner is None
        return None, "no majority" if both else f"no {'image' if text.winner else 'text'} majority"
    return None


def _multisentinet(text: Votes, image: Votes, pair: Votes) -> Outcome:
    missing = _both_sides(text, image)
    if missing:
        return missing
    if text.winner == image.winner or image.winner == NEUTRAL:
        return text.winner, ""
    if text.winner == NEUTRAL:
        return image.winner, ""
    return None, "conflict"


def _consistent(text: Votes, image: Votes, pair: Votes) -> Outcome:
    missing = _both_sides(text, image)
    if missing:
        return missing
    return (text.winner, "") if text.winner == image.winner else (None, "unequal")


def _given(text: Votes, image: Votes, pair: Votes) -> Outcome:
    if not pair.words:
        return None, "unlabelled"
    return pair.winner, "" if pair.winner else "no majority"


RULES: dict[str, Callable[[Votes, Votes, Votes], Outcome]] = {
    "multisentinet": _multisentinet,  # Xu & Mao, CIKM 2017: equal -> that, neutral yields to the other, else removed
    "consistent": _consistent,  # only pairs whose text and image have the same label
    "given": _given,  # the label of the pair as the source gives it
}


def merge_labels(
    annotations: Iterable[Annotation],
    rule: str,
    classes: Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    excluded: Mapping[str, str] | None = None,
) -> Labels:
    """Labels of all pairs by a named rule. The order of annotations and annotators makes no difference.

    Within a modality more than half of the annotators must agree; no tie is settled by order, by neutral or by the
    other modality.

    Parameters
    ----------
    ids
        The pairs to label, in order; None takes them from the annotations as they come.
    excluded
        id -> reason, for pairs that get no label whatever was said about them.

    >>> said = [Annotation("7", "text", 0, "neutral"), Annotation("7", "image", 0, "positive")]
    >>> merge_labels(said, "multisentinet", ("negative", "neutral", "positive")).by_id()
    {'7': 'positive'}
    """
    if rule not in RULES:
        raise ConfigError.unknown("label rule", rule, RULES, where="--rule")
    said: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in annotations:
        said[one.id][one.modality].append(one.label)
    known = set(classes)
    excluded = excluded or {}
    order = tuple(said) if ids is None else tuple(ids)
    rows = [_label_pair(said.get(id_, {}), RULES[rule], known, excluded.get(id_, "")) for id_ in order]
    label, text_label, image_label, reasons = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Labels(
        ids=order,
        label=label,
        text_label=text_label,
        image_label=image_label,
        reasons=reasons,
        classes=tuple(classes),
        rule=rule,
    )


def _label_pair(
    words: Mapping[str, Sequence[str]], rule: Callable[[Votes, Votes, Votes], Outcome], known: set[str], excluded: str
) -> tuple[str | None, str | None, str | None, str]:
    if excluded:
        return None, None, None, excluded
    if "row" in words:
        return None, None, None, f"malformed row: {words['row'][0]}"
    unknown = sorted({word for group in words.values() for word in group} - known)
    text, image, pair = (Votes(tuple(words.get(modality, ()))) for modality in ("text", "image", "pair"))
    sides = [votes.winner if known.issuperset(votes.words) else None for votes in (text, image)]
    label, reason = (None, f"unknown label word {unknown[0]!r}") if unknown else rule(text, image, pair)
    return label, sides[0], sides[1], reason


def write_annotations(dataset_dir: Path, annotations: Sequence[Annotation]) -> bool:
    """Write `annotations.parquet` atomically; False when nothing changed."""
    columns: dict[str, tuple[str, list[Any]]] = {
        "id": ("string", [one.id for one in annotations]),
        "modality": ("string", [one.modality for one in annotations]),
        "annotator": ("int32", [one.annotator for one in annotations]),
        "label": ("string", [one.label for one in annotations]),
    }
    return files.write_table(dataset_dir / ANNOTATIONS_NAME, columns, {"version": 1})


def read_annotations(dataset_dir: Path) -> tuple[Annotation, ...]:
    """Everything annotators said about this dataset, as given."""
    names = ("id", "modality", "annotator", "label")
    columns, _ = files.read_table(dataset_dir / ANNOTATIONS_NAME, names, hint=prepare_hint(dataset_dir))
    return tuple(Annotation(*row) for row in zip(*(columns[name] for name in names), strict=True))


def read_labels(dataset_dir: Path, rule: str | None = None) -> Labels:
    """Labels by `rule` (None: the card's). A rule that has no file yet, or an outdated one, is computed and written.

    Raises
    ------
    ConfigError
        No such rule.
    DataError
        The dataset is not prepared, or one of its files is damaged.
    """
    card = read_card(dataset_dir)
    rule = card.rule if rule is None else rule
    if rule not in RULES:
        raise ConfigError.unknown("label rule", rule, RULES, where="--rule")
    path = dataset_dir / "labels" / f"{rule}.parquet"
    expected = {"rule": rule, "classes": list(card.classes), "inputs": _inputs_digest(dataset_dir)}
    if files.is_file(path):
        columns, metadata = files.read_table(path, COLUMNS, hint=prepare_hint(dataset_dir))
        if metadata == expected:
            return Labels(
                ids=tuple(columns["id"]),
                label=tuple(columns["label"]),
                text_label=tuple(columns["text_label"]),
                image_label=tuple(columns["image_label"]),
                reasons=tuple(columns["reason"]),
                classes=card.classes,
                rule=rule,
            )
    return compute_labels(dataset_dir, rule, card.classes)


def compute_labels(dataset_dir: Path, rule: str, classes: Sequence[str]) -> Labels:
    """Labels by `rule` from the annotations, written to `labels/<rule>.parquet`."""
    manifest = read_manifest(dataset_dir)
    withdrawn = {pair.id: WITHDRAWN for pair in manifest.pairs if pair.image_status == WITHDRAWN}
    labels = merge_labels(
        read_annotations(dataset_dir), rule, classes, ids=[pair.id for pair in manifest.pairs], excluded=withdrawn
    )
    values = (labels.ids, labels.label, labels.text_label, labels.image_label, labels.reasons)
    columns = {name: ("string", list(column)) for name, column in zip(COLUMNS, values, strict=True)}
    metadata = {"rule": rule, "classes": list(classes), "inputs": _inputs_digest(dataset_dir)}
    files.write_table(dataset_dir / "labels" / f"{rule}.parquet", columns, metadata)
    return labels


def _inputs_digest(dataset_dir: Path) -> str:
    hint = prepare_hint(dataset_dir)
    contents = (files.read_bytes(dataset_dir / name, hint=hint) for name in (MANIFEST_NAME, ANNOTATIONS_NAME))
    return files.digest("".join(files.digest(content) for content in contents).encode())
