"""Rows of the feature cache become batches of masked tensors; rows of any order, converted while they are copied.

A mask says what is real (True); whatever a mask leaves out is zero in the values. Knows nothing of labels' names,
of heads, or of how features were made.
"""

# Shapes: N pairs of a source, B pairs of a batch, T the longest row of the batch, D a feature's width.

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sentifuse import ConfigError
from sentifuse.cache.reader import FeatureReader
from sentifuse.fuse.features.delivery import CPU, RESIDENT, Converted, Delivery, Resident, Staged
from sentifuse.fuse.features.gather import Column
from sentifuse.fuse.features.prefetch import prefetch
from sentifuse.fuse.features.requests import FieldRequest, find_field, width_of

__all__ = ["Batch", "BatchSource", "FieldRequest", "find_field", "shuffled_batches", "width_of"]

_AHEAD = 2  # batches that the disk is asked for before they are gathered

Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(slots=True, kw_only=True)
class Batch:
    """B pairs.

    `values[key]` is float32 (or the source's `dtype`): (B, D) or (B,) for a field with one vector or number per pair,
    (B, T, D) or (B, T) for a sequence.
    `masks[key]` is bool, True = real: (B,) whether the pair has the value, or (B, T) which elements are there.
    """

    ids: tuple[str, ...]
    values: dict[str, torch.Tensor]
    masks: dict[str, torch.Tensor]
    labels: torch.Tensor | None = None  # (B,) int64
    text_labels: torch.Tensor | None = None  # (B,) int64: what the text alone was labelled, -1 where it was not
    image_labels: torch.Tensor | None = None  # (B,) int64: the same of the image

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return replace(
            self,
            values={key: value.to(device, non_blocking=True) for key, value in self.values.items()},
            masks={key: mask.to(device, non_blocking=True) for key, mask in self.masks.items()},
            labels=None if self.labels is None else self.labels.to(device, non_blocking=True),
            text_labels=None if self.text_labels is None else self.text_labels.to(device, non_blocking=True),
            image_labels=None if self.image_labels is None else self.image_labels.to(device, non_blocking=True),
        )


class BatchSource:
    """Pairs in a fixed order, any rows of which can be gathered into a batch.

    Parameters
    ----------
    readers
        One per encoder that the requests name.
    ids
        Every id must be in every reader, with a value unless the request is optional.
    labels, text_labels, image_labels
        (len(ids),) int64, or None; -1 for a pair whose text or image has no label of its own.
    reuse
        True: batches take turns in two sets of buffers. One from `gather` is valid until the next but one is
        gathered; one from `stream` or `batches` until the next is asked for. False: every batch has its own memory,
        which costs about half as much time again.
    dtype
        Of the values: torch.float32 or torch.bfloat16.
    device
        Where batches are delivered. To a CUDA device values travel as they are stored, through pinned memory.
    resident
        "device" or "ram": the requested fields of all pairs (the first `limit` elements only) are moved there now,
        and a batch is a selection from them. None: rows are copied from the files each time.
    read_ahead
        True: `stream` and `batches` ask the disk for the rows of coming batches; for a store larger than memory.

    Raises
    ------
    CacheError
        A field or an id is not stored.
    ResourceError
        With `resident`: there is not enough memory.
    """

    def __init__(
        self,
        readers: Mapping[str, FeatureReader],
        requests: Sequence[FieldRequest],
        ids: Sequence[str],
        labels: Rows | None = None,
        *,
        text_labels: Rows | None = None,
        image_labels: Rows | None = None,
        reuse: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device = CPU,
        resident: str | None = None,
        read_ahead: bool = False,
    ) -> None:
        for given in (labels, text_labels, image_labels):
            if given is not None and given.shape != (len(ids),):
                raise ValueError(f"labels have shape {given.shape}, expected ({len(ids)},)")
        if resident not in (None, *RESIDENT):
            raise ConfigError.unknown("place", str(resident), RESIDENT, where="--resident")
        self.ids = tuple(ids)
        self.labels = labels
        self.text_labels, self.image_labels = text_labels, image_labels
        self.requests = tuple(requests)
        self._readers = dict(readers)
        self._columns = [Column(self._readers[request.encoder], request, self.ids) for request in self.requests]
        self._reads_ahead = read_ahead and resident is None
        self._dtype, self.device = dtype, device
        self._delivery = self._choose(dtype, device, resident, reuse=reuse)
        self.widths = {column.request.key: width_of(column.field) for column in self._columns}
        ragged = [column.counts for column in self._columns if column.field.is_ragged]
        # (len(ids),) int64: the longest sequence of each pair
        self.lengths: Rows = np.max([np.zeros(len(self.ids), dtype=np.int64), *ragged], axis=0)

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, rows: Rows) -> "BatchSource":
        """A source of the pairs at these positions, in this order, with buffers of its own; never resident."""
        picked = [None if of is None else of[rows] for of in (self.labels, self.text_labels, self.image_labels)]
        return BatchSource(
            self._readers,
            self.requests,
            [self.ids[row] for row in rows.tolist()],
            picked[0],
            text_labels=picked[1],
            image_labels=picked[2],
            reuse=True,
            dtype=self._dtype,
            device=self.device,
        )

    def gather(self, rows: Sequence[int] | np.ndarray[Any, Any], *, copy: bool = False) -> Batch:
        """The pairs at these positions, in this order, as one batch; `copy`: in memory of its own."""
        return self._plan(np.asarray(rows, dtype=np.int64), copy=copy)()

    def _plan(self, rows: Rows, *, copy: bool = False) -> Callable[[], Batch]:
        """All of `gather` but the copying, which is what it returns."""
        finish, masks = {}, {}
        end = self._delivery.begin(copy=copy)
        for column in self._columns:
            key, counts = column.request.key, column.counts[rows]
            # Never 0: a batch of empty texts is legal, an axis of length 0 is a trap.
            longest = max(1, int(counts.max(initial=0))) if column.is_sequence else 1
            finish[key] = self._delivery.values(column, rows, longest)
            real = torch.from_numpy(counts).to(self._delivery.device)
            places = torch.arange(longest, device=real.device)
            masks[key] = places[None] < real[:, None] if column.is_sequence else real > 0
        labels, text_labels, image_labels = (
            None if of is None else torch.from_numpy(of[rows]).to(self._delivery.device)
            for of in (self.labels, self.text_labels, self.image_labels)
        )
        ids = tuple([self.ids[row] for row in rows.tolist()])

        def gathered() -> Batch:
            values = {key: make() for key, make in finish.items()}
            end()
            return Batch(
                ids=ids,
                values=values,
                masks=masks,
                labels=labels,
                text_labels=text_labels,
                image_labels=image_labels,
            )

        return gathered

    def stream(self, plan: Sequence[Rows]) -> Generator[Batch, None, None]:
        """`gather` of each of these, in order; the next is copied in a background thread while one is used.

        The thread ends with the iterator. Who may leave it early closes it (`contextlib.closing`): nothing else may be
        gathered from this source meanwhile.
        """

        def wanted() -> Iterator[Callable[[], Batch]]:
            for place, rows in enumerate(plan):
                if self._reads_ahead:
                    for coming in plan[place + _AHEAD if place else 0 : place + _AHEAD + 1]:
                        self.will_need(coming)
                yield self._plan(rows)

        yield from prefetch(wanted())

    def batches(self, batch_size: int) -> Iterator[tuple[Rows, Batch]]:
        """Every pair once, short ones first; yields positions and batch as `stream` does."""
        order = np.argsort(self.lengths, kind="stable")
        plan = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        with closing(self.stream(plan)) as stream:
            yield from zip(plan, stream, strict=True)

    def will_need(self, rows: Rows) -> None:
        """Ask the disk for what `gather` of these rows will read; returns at once."""
        ids = [self.ids[row] for row in rows.tolist()]
        for column in self._columns:
            self._readers[column.request.encoder].will_need(ids, column.limits)

    def _choose(self, dtype: torch.dtype, device: torch.device, resident: str | None, *, reuse: bool) -> Delivery:
        if resident is not None:
            return Resident(self._columns, dtype, device if resident == "device" else CPU, keep=reuse)
        return Converted(dtype, keep=reuse) if device.type == "cpu" else Staged(dtype, device)


def shuffled_batches(
    lengths: Rows,
    batch_size: int,
    rng: np.random.Generator,
    *,
    window: int = 8,
) -> list[Rows]:
    """Every row once, in shuffled batches of similar length.

    Rows are shuffled, sorted by length inside windows of `window` batches, cut, and the batches shuffled: a batch costs
    what its longest row costs. A rest of one row joins another batch.
    """
    order = rng.permutation(len(lengths)).astype(np.int64)
    span = batch_size * window
    batches = []
    for start in range(0, len(order), span):
        part = order[start : start + span]
        if window > 1:
            part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return [batches[i] for i in rng.permutation(len(batches))]
