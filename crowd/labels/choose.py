"""From pseudo-labels to the images that a student learns from: usable, no near-duplicate, sure; others by reason.

Near-duplicates go before the filter, as the crawl of the paper did it: which of them stays does then not hang on how
sure the teacher was, and a higher threshold never adds an image. Writes nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError, DataError
from sentifuse.cache.current import read_current
from sentifuse.cache.featureset import open_feature_set
from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.components import components_of
from sentifuse.crowd.labels.filtering import Filtered, Thresholds, filter_labels
from sentifuse.crowd.labels.kept import Kept, split_kept
from sentifuse.crowd.labels.near_duplicates import COSINE, by_cosine, by_hash, hours_by_cosine, is_first
from sentifuse.crowd.labels.pseudo_labels import DEFAULT_NAME, PseudoLabels, read_pseudo_labels
from sentifuse.crowd.vectors import check_vector, gather, parse_feature
from sentifuse.data.groups import MAX_BITS, ensure_groups
from sentifuse.data.image_hashes import Hashes, read_image_hashes
from sentifuse.data.manifest import OK, Manifest, Pair, read_manifest
from sentifuse.data.prepare import dataset_dir
from sentifuse.data.source import SENTIMENT
from sentifuse.data.tweets import tweet_of

__all__ = ["DEDUP", "Chosen", "FilterRequest", "choose"]

# Shapes: N pairs with a pseudo-label, U of them with a usable image, K kept.

DEDUP = ("hash", "cosine", "none")
DEFAULT_THRESHOLDS: Mapping[str, float] = {"hash": MAX_BITS, "cosine": COSINE}
DUPLICATE, UNSURE = "near-duplicate of an image before it", "unsure"
MANY_IMAGES = 200_000  # cosines of all pairs of more take the better part of an hour and longer

Progress = Callable[[int, int], None]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRequest:
    """What `distil filter` was asked for.

    Attributes
    ----------
    labels
        Name of the pseudo-labels.
    dedup
        "hash" (bits of perceptual hashes that differ), "cosine" (of the cached embeddings `features`) or "none".
    dedup_threshold
        Bits at most, or cosine at least; None: the method's default.
    val_share, seed
        Of the split, which divides no tweet and no group of near-duplicates.
    """

    artifacts: Path
    dataset: str
    labels: str = DEFAULT_NAME
    thresholds: Thresholds = field(default_factory=Thresholds)
    dedup: str = "hash"
    dedup_threshold: float | None = None
    features: str = "context.vector"
    val_share: float = 0.1
    seed: int = 0

    @property
    def limit(self) -> float | None:
        """The threshold of the near-duplicates; None where none are looked for."""
        return DEFAULT_THRESHOLDS.get(self.dedup) if self.dedup_threshold is None else self.dedup_threshold

    def check(self) -> None:
        """Refuse, before any work, words and numbers that cannot be."""
        if self.dedup not in DEDUP:
            raise ConfigError.unknown("method", self.dedup, DEDUP, where="--dedup")
        if self.dedup == "none" and self.dedup_threshold is not None:
            raise ConfigError("--threshold: expected --dedup hash or cosine beside it, found none. Leave it out")
        if self.dedup == "hash" and self.limit is not None:
            by_hash((), (), self.limit)
        if self.dedup == "cosine" and self.limit is not None:
            by_cosine(np.zeros((0, 1), dtype=np.float32), (), self.limit)
        split_kept({}, {}, val_share=self.val_share, seed=self.seed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """The kept images and what became of all others.

    Attributes
    ----------
    kept
        Without a report yet.
    labels
        All N pseudo-labels.
    filtered
        (N,): class and confidence of every pair, kept or not; `is_kept` is the filter's word alone.
    is_usable, is_kept
        bool (N,): with an image that can be decoded; in the kept set.
    left_out
        id → reason, of all that are not kept; reasons that concern many pairs are the same words.
    dedup
        Plain values: method, threshold, images compared, groups of several, dropped.
    components
        id → name of what it belongs together with, for every pair of the dataset.
    """

    kept: Kept
    labels: PseudoLabels
    filtered: Filtered
    is_usable: Bools
    is_kept: Bools
    left_out: Mapping[str, str]
    dedup: Mapping[str, Any]
    components: Mapping[str, str]


def choose(
    request: FilterRequest,
    progress: Progress | None = None,
    *,
    cosine_progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> Chosen:
    """The images to keep.

    Parameters
    ----------
    progress
        Called with (images hashed, images to hash), if there are new ones.
    cosine_progress
        Called with (comparisons done, comparisons in all), with "cosine".
    warn
        Called with one line before work of hours.

    Raises
    ------
    ConfigError
        Thresholds, methods or shares that cannot be.
    DataError
        The dataset is not prepared, has no pseudo-labels of this name or no usable image, or a class is empty after
        the filter.
    CacheError
        With "cosine": the embeddings are not there.
    """
    request.check()
    labels = read_pseudo_labels(request.artifacts, request.dataset, request.labels)
    folder = dataset_dir(request.artifacts, request.dataset)
    manifest = read_manifest(folder)
    components = components_of(ensure_groups(folder, progress).by_id())
    hashes = read_image_hashes(folder)
    left_out = _without_image(labels.ids, manifest, hashes)
    is_usable = _is_not_in(labels.ids, left_out)
    if not is_usable.any():
        _refuse_no_image(folder, left_out)
    usable = [id_ for id_ in labels.ids if id_ not in left_out]
    images = _read_images(request, usable, manifest, hashes)
    if warn is not None and (slow := images.warning):
        warn(slow)
    dropped, dedup = _drop_near_duplicates(request, images, cosine_progress)
    left_out |= dict.fromkeys(dropped, DUPLICATE)
    filtered = filter_labels(labels.probabilities, request.thresholds)
    is_candidate = _is_not_in(labels.ids, left_out)
    is_kept = filtered.is_kept & is_candidate
    for row in np.flatnonzero(~filtered.is_kept).tolist():
        left_out.setdefault(labels.ids[row], f"{UNSURE}: {SENTIMENT[filtered.classes[row]]}")
    _refuse_empty_class(request, filtered, is_candidate, is_usable)
    return Chosen(
        kept=_build(request, labels, filtered, is_kept, components, dedup),
        labels=labels,
        filtered=filtered,
        is_usable=is_usable,
        is_kept=is_kept,
        left_out=left_out,
        dedup=dedup,
        components=components,
    )


def _build(
    request: FilterRequest,
    labels: PseudoLabels,
    filtered: Filtered,
    is_kept: Bools,
    components: Mapping[str, str],
    dedup: Mapping[str, Any],
) -> Kept:
    rows = np.flatnonzero(is_kept)
    ids = tuple(labels.ids[row] for row in rows.tolist())
    classes = filtered.classes[rows]
    class_by_id = {id_: SENTIMENT[k] for id_, k in zip(ids, classes.tolist(), strict=True)}
    parts = split_kept(class_by_id, components, val_share=request.val_share, seed=request.seed)
    return Kept(
        ids=ids,
        tweets=tuple(tweet_of(id_) for id_ in ids),
        classes=classes,
        probabilities=labels.probabilities[rows],
        gold_seen=labels.gold_seen[rows],
        split=tuple(parts[id_] for id_ in ids),
        metadata={
            "dataset": request.dataset,
            "labels": {"name": request.labels, "digest": labels.digest},
            "thresholds": request.thresholds.to_json(),
            "dedup": {key: dedup[key] for key in ("method", "threshold", "features")},
            "val_share": request.val_share,
            "seed": request.seed,
        },
    )


def _without_image(ids: Sequence[str], manifest: Manifest, hashes: Hashes) -> dict[str, str]:
    """id → why no student can learn from its image. Hashing has decoded every image that could be."""
    pairs = manifest.by_id()
    found = {}
    for id_ in ids:
        reason = _image_problem(pairs.get(id_), hashes)
        if reason:
            found[id_] = reason
    return found


def _image_problem(pair: Pair | None, hashes: Hashes) -> str:
    if pair is None:
        return "not in the manifest"
    if pair.image_status != OK:
        return f"image: {pair.image_status}"
    if pair.image_digest not in hashes:
        return "image: gone or changed since it was registered"
    return "image: cannot be decoded" if hashes[pair.image_digest] is None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Images:
    """What near-duplicates are told by: the ids compared, and their hashes or an open field of embeddings."""

    ids: Sequence[str] = ()
    hashes: Sequence[int | None] = ()
    reader: FeatureReader | None = None
    field: str = ""

    @property
    def warning(self) -> str:
        """One line if comparing these takes long, else nothing."""
        n = len(self.ids)
        if self.reader is None or n <= MANY_IMAGES:
            return ""
        hours = hours_by_cosine(n, check_vector(self.reader, self.field))
        return (
            f"--dedup cosine compares each of {n:,} images with every other, some {hours:.1f} hours on two cores; "
            "--dedup hash, the way for T4SA, takes minutes"
        )


def _read_images(request: FilterRequest, usable: Sequence[str], manifest: Manifest, hashes: Hashes) -> _Images:
    pairs = manifest.by_id()
    if request.dedup == "hash":
        return _Images(ids=usable, hashes=[hashes[pairs[id_].image_digest] for id_ in usable])
    if request.dedup == "none":
        return _Images()
    encoder, field_name = parse_feature(request.features)
    current = read_current(request.artifacts / "cache" / request.dataset)
    reader = FeatureReader(open_feature_set(current.directory(encoder)))
    check_vector(reader, field_name)
    return _Images(ids=_with_embedding(usable, reader, manifest), reader=reader, field=field_name)


def _drop_near_duplicates(
    request: FilterRequest, images: _Images, progress: Progress | None
) -> tuple[list[str], dict[str, Any]]:
    """Ids of all but the first of each group, and what was compared."""
    about: dict[str, Any] = {"method": request.dedup, "threshold": request.limit, "features": None}
    if request.limit is None:
        return [], about | {"compared": 0, "groups": 0, "dropped": 0}
    if images.reader is None:
        groups = by_hash(images.hashes, images.ids, request.limit)
    else:
        about["features"] = f"{request.features} {images.reader.fingerprint}"
        embeddings = gather(images.reader, images.field, images.ids, np.float32)
        groups = by_cosine(embeddings, images.ids, request.limit, progress)
    dropped = [id_ for id_, is_here in zip(images.ids, is_first(groups).tolist(), strict=True) if not is_here]
    several = sum(n > 1 for n in Counter(groups).values())
    return dropped, about | {"compared": len(images.ids), "groups": several, "dropped": len(dropped)}


def _with_embedding(usable: Sequence[str], reader: FeatureReader, manifest: Manifest) -> list[str]:
    """The ids with an embedding of their image as it is now; an image without one is like no other."""
    pairs = manifest.by_id()
    return [id_ for id_ in usable if reader.has_value(id_) and reader.digest(id_) == pairs[id_].image_digest]


def _refuse_no_image(folder: Path, left_out: Mapping[str, str]) -> None:
    found = next(iter(left_out.values()), "no pair has a pseudo-label")
    raise DataError(
        f"{folder}: expected images for the labelled texts, found none that can be used of {len(left_out):,} "
        f"({found}). Look at it: sentifuse data audit {folder.name}"
    )


def _is_not_in(ids: Sequence[str], others: Mapping[str, str]) -> Bools:
    found: Bools = np.array([id_ not in others for id_ in ids], dtype=np.bool_)
    return found


def _just_below(confidence: np.float32) -> float:
    """The largest threshold of two decimals that this confidence exceeds."""
    hundredths = floor(100 * float(confidence))
    return (hundredths if np.float32(hundredths / 100) < confidence else hundredths - 1) / 100


def _refuse_empty_class(request: FilterRequest, filtered: Filtered, is_candidate: Bools, is_usable: Bools) -> None:
    limits = request.thresholds.to_json()
    lines, advice = [], []
    for k, name in enumerate(SENTIMENT):
        is_class = is_candidate & (filtered.classes == k)
        if (filtered.is_kept & is_class).any():
            continue
        n = int(is_class.sum())
        surest = filtered.confidence[is_class].max() if n else np.float32(0)
        lines.append(
            f"{name} (threshold {limits[name]:g}, {n:,} images with this pseudo-label"
            f"{' and no near-duplicate before them' if request.dedup != 'none' else ''}"
            f"{f', the surest {surest!s}' if n else ''})"
        )
        is_near = is_usable & ~is_candidate & filtered.is_kept & (filtered.classes == k)
        advice += [f"--{name} {_just_below(surest):g}"] if n else []
        advice += ["--dedup none"] if is_near.any() and "--dedup none" not in advice else []
    if not lines:
        return
    way = f"Try {' '.join(advice)}, or take" if advice else "Take"
    raise DataError(
        f"{request.dataset}: expected kept images of every class, found none of {'; '.join(lines)}. Nothing was "
        f"written. {way} another teacher"
    )
