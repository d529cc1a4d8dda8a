"""Audit: what is odd about a prepared dataset, pair by pair, and its counts beside the published ones.

Decodes every image and reads every text; changes nothing but the hashes of pictures that had none yet.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sentifuse.data import files
from sentifuse.data.card import read_card
from sentifuse.data.duplicates import count_duplicates
from sentifuse.data.groups import ensure_groups
from sentifuse.data.image_hashes import read_image_hashes
from sentifuse.data.images import UnreadableImage, read_image
from sentifuse.data.labels import Labels, read_labels
from sentifuse.data.leak import random_leak
from sentifuse.data.manifest import MISSING, OK, WITHDRAWN, Manifest, Pair, read_manifest
from sentifuse.data.text import clean, is_bare

RANDOM_SEEDS = 20

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Findings on one dataset; ids in manifest order everywhere.

    `unreadable_images` and `undecodable_texts` map ids to reasons, `duplicate_images` are groups of ids
    with the same bytes, `duplicate_texts` with the same text but for white space at its ends.
    `changed_images` differ from the manifest (prepare again); `bare_texts` have no word once links, mentions and
    punctuation are gone. `sides` counts text label x image label ("none" for no majority). `usable` counts labelled
    pairs whose image and text can both be read, by class, as "pairs" in all.
    `groups`: kind of likeness -> "all" and "labelled" pairs -> "groups", "members", "largest"; `components` joins all
    pairs into so many. `leaks`: per prepared split, fold and part "n" and how many share a "group", "text" or "image"
    with training; `random_leak` is the mean and sd of that share for random splits of seeds 0 to `random_seeds` - 1.
    """

    name: str
    rule: str
    pairs: int
    missing_images: tuple[str, ...]
    missing_texts: tuple[str, ...]
    withdrawn: tuple[str, ...]
    unreadable_images: Mapping[str, str]
    undecodable_texts: Mapping[str, str]
    changed_images: tuple[str, ...]
    duplicate_images: Groups
    duplicate_texts: Groups
    encodings: Mapping[str, int]
    non_ascii_texts: int
    empty_texts: tuple[str, ...]
    bare_texts: tuple[str, ...]
    control_texts: tuple[str, ...]
    image_sizes: Mapping[str, tuple[int, ...]]
    classes: Mapping[str, int]
    removed: Mapping[str, tuple[str, ...]]
    sides: Mapping[str, Mapping[str, int]]
    usable: Mapping[str, int]
    n_hashed: int
    components: int
    groups: Mapping[str, Mapping[str, Mapping[str, int]]]
    leaks: tuple[Mapping[str, Any], ...]
    random_leak: Mapping[str, Mapping[str, float]]
    random_seeds: int
    problems: tuple[Mapping[str, str], ...]
    published: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values with the findings by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Seen:
    reason: str
    digest: str
    size: tuple[int, int]


def audit(dataset_dir: Path, progress: Callable[[int, int], None] | None = None) -> Audit:
    """Look at every image and text of a prepared dataset.

    Parameters
    ----------
    progress
        Called with (images done, images in all).
    """
    card = read_card(dataset_dir)
    manifest = read_manifest(dataset_dir)
    labels = read_labels(dataset_dir)
    groups = ensure_groups(dataset_dir)
    hashes = read_image_hashes(dataset_dir)
    labels_by_id = labels.by_id()
    labelled = [pair for pair in manifest.pairs if pair.id in labels_by_id]
    counted = {
        "all": count_duplicates(manifest.pairs, hashes),
        "labelled": count_duplicates(labelled, hashes),
    }
    seen = _look_at_images(manifest, progress)
    texts = [pair for pair in manifest.pairs if pair.text_status == OK]
    unreadable = {
        pair.id: seen[pair.id].reason if pair.id in seen else pair.image_status.removeprefix("unreadable: ")
        for pair in manifest.pairs
        if pair.image_status not in (OK, MISSING, WITHDRAWN) or (pair.id in seen and seen[pair.id].reason)
    }
    return Audit(
        name=card.name,
        rule=card.rule,
        pairs=len(manifest),
        missing_images=tuple(pair.id for pair in manifest.pairs if pair.image_status == MISSING),
        missing_texts=tuple(pair.id for pair in manifest.pairs if pair.text_status == MISSING),
        withdrawn=tuple(pair.id for pair in manifest.pairs if pair.image_status == WITHDRAWN),
        unreadable_images=unreadable,
        undecodable_texts={
            pair.id: pair.text_status.removeprefix("undecodable: ")
            for pair in manifest.pairs
            if pair.text_status not in (OK, MISSING, WITHDRAWN)
        },
        changed_images=tuple(
            pair.id for pair in manifest.pairs if pair.id in seen and seen[pair.id].digest != pair.image_digest
        ),
        duplicate_images=_groups((pair.id, seen[pair.id].digest) for pair in manifest.pairs if pair.id in seen),
        duplicate_texts=_groups((pair.id, pair.text.strip()) for pair in texts),
        encodings=dict(sorted(Counter(pair.text_encoding for pair in texts).items())),
        non_ascii_texts=sum(1 for pair in texts if not pair.text.isascii()),
        empty_texts=tuple(pair.id for pair in texts if not pair.text.strip()),
        bare_texts=tuple(pair.id for pair in texts if is_bare(pair.text)),
        control_texts=tuple(pair.id for pair in texts if clean(pair.text, "raw") != pair.text),
        image_sizes=_sizes(one.size for one in seen.values() if not one.reason),
        classes=labels.class_counts(),
        removed=_removed(labels),
        sides=_sides(labels),
        usable=_usable(manifest, labels, set(unreadable)),
        n_hashed=groups.n_hashed,
        components=len(set(groups.group)),
        groups={kind: {scope: found[kind] for scope, found in counted.items()} for kind in counted["all"]},
        leaks=tuple(_leaks(dataset_dir)),
        random_leak=random_leak(labels_by_id, groups, range(RANDOM_SEEDS)) if labelled else {},
        random_seeds=RANDOM_SEEDS,
        problems=card.problems,
        published=card.published,
    )


def _look_at_images(manifest: Manifest, progress: Callable[[int, int], None] | None) -> dict[str, _Seen]:
    pairs = [pair for pair in manifest.pairs if pair.image_status == OK]
    seen = {}
    with ThreadPoolExecutor(max_workers=2) as pool:
        for done, (pair, one) in enumerate(
            zip(pairs, pool.map(lambda pair: _look(manifest, pair), pairs), strict=True), 1
        ):
            seen[pair.id] = one
            if progress is not None:
                progress(done, len(pairs))
    return seen


def _look(manifest: Manifest, pair: Pair) -> _Seen:
    try:
        raw = manifest.image_file(pair).read_bytes()
    except FileNotFoundError:
        return _Seen("missing", "", (0, 0))
    except OSError as error:
        return _Seen(f"cannot be read: {error.strerror or error}", "", (0, 0))
    try:
        return _Seen("", files.digest(raw), read_image(raw).size)
    except UnreadableImage as error:
        return _Seen(error.reason, files.digest(raw), (0, 0))


def _leaks(dataset_dir: Path) -> Iterator[dict[str, Any]]:
    """One row per split file, fold and held-out part; a file that fits the labels no more is left out."""
    for path in sorted((dataset_dir / "splits").glob("*-s*.parquet")):
        found = files.read_metadata(path, hint="")
        for fold in found.get("folds", ()):
            for part, leak in fold["leak"].items():
                yield {"split": path.stem, "fold": fold["fold"], "part": part, "rule": found["rule"], **leak}


def _groups(keyed: Iterable[tuple[str, str]]) -> Groups:
    members: dict[str, list[str]] = defaultdict(list)
    for id_, key in keyed:
        if key:
            members[key].append(id_)
    return tuple(tuple(ids) for ids in members.values() if len(ids) > 1)


def _sizes(sizes: Iterable[tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    columns = [sorted(column) for column in zip(*sizes, strict=True)]
    return {
        name: (column[0], column[len(column) // 2], column[-1])
        for name, column in zip(("width_min_median_max", "height_min_median_max"), columns, strict=False)
    }


def _removed(labels: Labels) -> dict[str, tuple[str, ...]]:
    return {reason: labels.ids_with_reason(reason) for reason in labels.reason_counts()}


def _sides(labels: Labels) -> dict[str, dict[str, int]]:
    names = (*labels.classes, "none")
    counts = Counter(
        (text or "none", image or "none") for text, image in zip(labels.text_label, labels.image_label, strict=True)
    )
    return {text: {image: counts[text, image] for image in names} for text in names}


def _usable(manifest: Manifest, labels: Labels, unreadable: set[str]) -> dict[str, int]:
    fine = {
        pair.id for pair in manifest.pairs if pair.image_status == pair.text_status == OK and pair.id not in unreadable
    }
    counts = Counter(label for id_, label in labels.by_id().items() if id_ in fine)
    return {"pairs": counts.total()} | {name: counts[name] for name in labels.classes}
