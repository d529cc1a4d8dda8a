"""Explains pairs: one forward pass each, and everything a person needs to read it, in one frozen object per pair.

Pairs are asked one at a time, so that the numbers of one do not depend on which others were asked for. Whoever looks
at pairs of a part opens that part: it is counted in run.json as an evaluation is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch

from sentifuse import ConfigError, DataError
from sentifuse.cache.reader import FeatureReader
from sentifuse.data.files import digest
from sentifuse.data.images import UnreadableImage, read_image
from sentifuse.data.labels import Labels, read_labels
from sentifuse.data.manifest import OK, Manifest, Pair, read_manifest
from sentifuse.data.source import SPLITS
from sentifuse.data.splits import read_split
from sentifuse.data.text import clean
from sentifuse.fuse.evaluate import read_run_split
from sentifuse.fuse.explain.characters import piece_range, trace_characters
from sentifuse.fuse.explain.details import Answer, numbers, spoken
from sentifuse.fuse.explain.explanation import Box, PairExplanation, Piece, Region
from sentifuse.fuse.explain.views import read_reasons
from sentifuse.fuse.features.batches import BatchSource, FieldRequest
from sentifuse.fuse.features.samples import prove_features, select_samples
from sentifuse.fuse.heads.head import Head
from sentifuse.fuse.infer import softmax
from sentifuse.fuse.run import RunDirectory
from sentifuse.fuse.train import find_device

# Shapes: N pairs, K classes.

NEAREST = 3  # ids that an unknown one may have meant
NOTHING = "This head's details hold no weights, gates or voices: only its probabilities can be shown."

__all__ = ["explain_pairs"]


def explain_pairs(
    run: Path | RunDirectory,
    ids: Sequence[str],
    *,
    split: str | None = None,
    artifacts: Path | None = None,
    device: str = "auto",
    reader: str = "mmap",
) -> list[PairExplanation]:
    """What a run's head says about these pairs, and why; in their order, a pair named twice only once.

    Parameters
    ----------
    ids
        Pairs of the dataset with features: of any part, also without a label, without image or text.
    split
        "train", "val" or "test": refuse pairs of other parts. None: any pair.
    artifacts
        Where dataset and cache lie; None: the artefacts folder that the run lies in.

    Returns
    -------
    list
        `part_opened` of each counts how often its part was opened for this run; pairs in no part open none.

    Raises
    ------
    ConfigError
        No pairs, or no such part.
    DataError
        An unknown id (with the nearest ones), or one outside `split`; labels or split are not those of the training.
    CacheError
        A pair has no row of features, or one made from another input.
    """
    opened = _open(run, artifacts=artifacts, device=device, reader=reader)
    names = tuple(dict.fromkeys(ids))
    opened.refuse_others(names, split)
    asked = opened.ask(names)
    touched = {one.part for one in asked}
    counts = {part: opened.run.count_evaluation(part) for part in SPLITS if part in touched}
    return [replace(one, part_opened=counts.get(one.part, 0)) for one in asked]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A run and what its pairs are."""

    run: RunDirectory
    head: Head
    readers: Mapping[str, FeatureReader]
    requests: tuple[FieldRequest, ...]
    manifest: Manifest
    labels: Labels
    target: str
    parts: Mapping[str, str]  # id -> part
    device: torch.device

    def refuse_others(self, ids: Sequence[str], split: str | None) -> None:
        """Refuse what cannot be explained: no pair at all, unknown pairs, pairs outside `split`."""
        if split is not None and split not in SPLITS:
            raise ConfigError.unknown("part of the split", split, SPLITS, where="--split")
        if not ids:
            raise ConfigError("--ids: expected ids of pairs with commas between them, found none")
        known = self.manifest.by_id()
        for id_ in ids:
            if id_ not in known:
                near = get_close_matches(id_, list(known), n=NEAREST, cutoff=0.3)
                what = f"the nearest ids: {', '.join(near)}" if near else f"its first id is {next(iter(known))}"
                raise DataError(
                    f"--ids: no pair {id_!r} in dataset {self.run.document['dataset']} ({len(known):,} pairs); {what}"
                )
            part = self.parts.get(id_)
            if split is not None and part != split:
                where = f"lies in the {part} part" if part else "lies in no part of the split"
                raise DataError(
                    f"--ids: pair {id_!r} {where}, expected one of the {split} part. Leave --split out to explain "
                    "pairs of any part"
                )

    def ask(self, ids: Sequence[str]) -> list[PairExplanation]:
        """One forward pass per pair."""
        select_samples(ids, self.labels, self.target, self.readers, self.requests, self.manifest)  # refuses stale rows
        prove_features(self.readers, ids)
        known = self.labels.by_id(self.target)
        positions = {name: i for i, name in enumerate(self.run.classes)}
        source = BatchSource(
            self.readers,
            self.requests,
            ids,
            np.array([positions[known[id_]] if id_ in known else -1 for id_ in ids], dtype=np.int64),
            device=self.device,
        )
        pairs = self.manifest.by_id()
        return [self._explain(source, row, pairs[id_], known.get(id_)) for row, id_ in enumerate(ids)]

    def _explain(self, source: BatchSource, row: int, pair: Pair, label: str | None) -> PairExplanation:
        batch = source.gather([row], copy=True)
        with torch.no_grad():
            output = self.head(batch)
        has_text = pair.text_status == OK
        pieces = self._pieces(pair, _count(batch.masks, "tokens"))
        regions = self._regions(pair.id, _count(batch.masks, "regions"))
        answer = Answer(
            head=self.head,
            details=output.details,
            piece_count=len(pieces),
            region_count=len(regions),
            classes=self.run.classes,
            label=label,
        )
        reasons = read_reasons(answer, self.run.document["head"])
        if not reasons.has_any and not reasons.notes:
            reasons = replace(reasons, notes=(NOTHING,))
        logits = output.logits.double().cpu().numpy()
        image_file, image_problem = self._image(pair)
        return PairExplanation(
            id=pair.id,
            run=self.run.name,
            head=self.run.document["head"],
            dataset=self.run.document["dataset"],
            part=self.parts.get(pair.id, ""),
            part_opened=0,
            classes=self.run.classes,
            label=label,
            logits=numbers(logits[0]),
            probabilities=numbers(softmax(logits)[0]),
            text=pair.text if has_text else None,
            pieces=pieces,
            regions=regions,
            image_file=image_file,
            image_problem=image_problem,
            reasons=reasons,
            notes=self._notes(pair, label, image_problem),
        )

    def _pieces(self, pair: Pair, count: int) -> tuple[Piece, ...]:
        """The pieces in characters of the text as read."""
        tokens = self.readers.get("tokens")
        if tokens is None or not count or not _has_field(tokens, "spans"):
            return tuple(Piece(start=0, end=0, is_special=False) for _ in range(count))
        cleaning = _setting(tokens, "clean", "raw")
        traced = trace_characters(pair.text, clean(pair.text, cleaning))
        pieces = []
        for first, last in tokens.value(pair.id, "spans")[:count].tolist():
            start, end = piece_range(traced, first, last)
            pieces.append(Piece(start=start, end=end, is_special=first == last))
        return tuple(pieces)

    def _regions(self, id_: str, count: int) -> tuple[Region, ...]:
        reader = self.readers.get("regions")
        if reader is None or not count:
            return ()
        boxes: list[Box | None] = [None] * count
        if _has_field(reader, "boxes_normalised"):
            boxes = [tuple(box) for box in reader.value(id_, "boxes_normalised")[:count].tolist()]
        return tuple(Region(number=i, box=box) for i, box in enumerate(boxes, start=1))

    def _image(self, pair: Pair) -> tuple[Path | None, str]:
        """The image file, and why it cannot be shown."""
        if not pair.image_path:
            return None, "the dataset names no image for this pair"
        file = self.manifest.image_file(pair)
        if pair.image_status != OK:
            return file, f"image {pair.image_status}"
        try:
            read_image(file)
        except UnreadableImage as error:
            return file, f"image file {error.reason}: {file}"
        return file, ""

    def _notes(self, pair: Pair, label: str | None, image_problem: str) -> tuple[str, ...]:
        notes = []
        if label is None:
            why = dict(zip(self.labels.ids, self.labels.reasons, strict=True)).get(pair.id)
            notes.append(f"No {spoken(self.target)}: {why or 'nobody gave one'}.")
        lacking = {
            request.encoder: self.readers[request.encoder].status(pair.id)
            for request in self.requests
            if not self.readers[request.encoder].has_value(pair.id)
        }
        if lacking:
            said = ", ".join(f"{encoder}: {status}" for encoder, status in lacking.items())
            notes.append(f"Without {said}. Training and evaluation leave this pair out; the head answers all the same.")
        if pair.text_status != OK:
            notes.append(f"Text {pair.text_status}.")
        if image_problem:
            notes.append(f"{image_problem[:1].upper()}{image_problem[1:]}.")
        elif digest(self.manifest.image_file(pair).read_bytes()) != pair.image_digest:
            notes.append("The image file has changed since its features were made: what is shown is not what was read.")
        if (tokens := self.readers.get("tokens")) is not None and not _has_field(tokens, "spans"):
            notes.append("The features of the text hold no spans: its pieces are numbered instead of shown.")
        return tuple(notes)


def _open(run: Path | RunDirectory, *, artifacts: Path | None, device: str, reader: str) -> _Opened:
    run = run if isinstance(run, RunDirectory) else RunDirectory.open(run)
    document = run.document
    artifacts = artifacts or run.artifacts
    dataset_dir = artifacts / "datasets" / document["dataset"]
    target_device = find_device(device)
    readers = run.open_features(artifacts, reader=reader)
    labels = read_labels(dataset_dir, document["rule"])
    if labels.classes != run.classes:
        raise DataError(
            f"{dataset_dir}: the classes are {list(labels.classes)}, expected {list(run.classes)} as in run "
            f"{run.name}. Train again"
        )
    read_run_split(run, dataset_dir)  # refuses another split than the run's
    split = {name: document.get(name, 0) for name in ("protocol", "seed", "fold")}
    parts = read_split(dataset_dir, **split, rule=document["rule"], parts=SPLITS)
    return _Opened(
        run=run,
        head=run.load_head().to(target_device),
        readers=readers,
        requests=tuple(replace(request, optional=True) for request in run.requests()),
        manifest=read_manifest(dataset_dir),
        labels=labels,
        target=document["target"],
        parts={id_: part for part, ids in parts.items() for id_ in ids},
        device=target_device,
    )


def _count(masks: Mapping[str, torch.Tensor], encoder: str) -> int:
    """How many pieces or regions of a batch of one pair the head reads; 0 where it reads none of this encoder."""
    counts = [int(mask.sum()) for key, mask in masks.items() if key.startswith(f"{encoder}.") and mask.dim() == 2]
    return max(counts, default=0)


def _has_field(reader: FeatureReader, name: str) -> bool:
    return any(field.name == name for field in reader.fields)


def _setting(reader: FeatureReader, name: str, default: str) -> str:
    """A setting of an encoder: as resolved when its features were made, else as the recipe has it."""
    for document in (reader.feature_set.details, reader.recipe):
        if name in (settings := document.get("settings") or {}):
            return str(settings[name])
    return default
