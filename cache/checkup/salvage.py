"""What can be proven of a damaged shard, row by row, read at the places its journal line names. Knows no HDF5.

A row whose checksum fits is whole, whatever else of the file is damaged. Ids, digests and statuses that were lost come
back from what the dataset is known to have, and a checksum decides whether the guess is right: nothing is believed.
"""

# Shapes: N rows of the shard, V rows with values (V ≤ N).

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import TracebackType

import numpy as np

from sentifuse.cache.checksum import crc32c_of, row_crc32c
from sentifuse.cache.checkup.guess import Candidates, Expected, guess_value_rows
from sentifuse.cache.checkup.raw import RawFile, decoded, encoded
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.record import StagedShard
from sentifuse.cache.shard_file import positions
from sentifuse.cache.spec import NO_BATCH, Array, Field, Row, dataset_names

__all__ = ["LostBatch", "Salvage", "is_imported"]

_TEXTS = ("ids", "digests", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class LostBatch:
    """Rows that went through the encoder together, of which some must go again.

    Attributes
    ----------
    number : int
        Inside its shard; NO_BATCH for rows of which nobody knows with which others they went, and for one that never
        went through (its status is to be found again).
    had_values : bool
        Whether the rows came out of the encoder with values.
    ids : tuple of str
        All rows of the batch whose input is still the one they were made from, in the order they went through.
    wanted : tuple of str
        The lost ones among them.
    """

    shard: int
    number: int
    ids: tuple[str, ...]
    wanted: tuple[str, ...]
    had_values: bool = True


def is_imported(feature_set: FeatureSet) -> bool:
    """Whether features came from another program: no encoder here makes such rows again. Exports of ours do not."""
    return "imported" in feature_set.recipe


class Salvage:
    """One shard file, opened raw. A context manager.

    Parameters
    ----------
    shard : StagedShard
        What the file must be.
    expected : mapping, optional
        What the dataset is known to have: candidates for what was lost.
    distrust : sequence of str
        Ids of rows to be lost although their checksum fits.

    Attributes
    ----------
    ids, digests, statuses : list of str or None
        By position, the best there is: of rows that are not proven see `is_sure_id` and `knows_digest`.
    is_proven : (N,) bool
        Rows that are whole.
    damage : mapping
        Name of each column that is not what was written to the positions of the rows it is damaged at; () where that
        cannot be told.
    """

    def __init__(
        self,
        feature_set: FeatureSet,
        shard: StagedShard,
        expected: Expected | None = None,
        distrust: Sequence[str] = (),
    ) -> None:
        self.feature_set = feature_set
        self.shard = shard
        self.expected: Expected = expected or {}
        self.count = shard.rows
        self.batches = shard.proof.row_batch
        self.crcs = shard.proof.row_crc32c
        self.is_proven = np.zeros(self.count, dtype=np.bool_)
        self.ids: list[str | None] = [None] * self.count
        self.digests: list[str | None] = [None] * self.count
        self.statuses: list[str | None] = [None] * self.count
        self.damage: dict[str, tuple[int, ...]] = {}
        self._file = RawFile(feature_set.directory / shard.file)
        self._places = {place.name: place for place in shard.proof.datasets}
        self._is_sure: dict[str, bool] = {}  # of a column: its bytes, or what took their place, fit the checksum
        self._slots: Array | None = None  # (N,) places among the values, -1 without
        self._offsets: dict[str, Array] = {}  # of ragged fields
        self._candidates = Candidates(self.expected)
        if self.count and set(dataset_names(feature_set.fields)) <= set(self._places):
            self._read()
        untrusted = set(distrust)
        for position, row_id in enumerate(self.ids):
            if row_id in untrusted:
                self.is_proven[position] = False

    def __enter__(self) -> "Salvage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def size_bytes(self) -> int:
        """Of the file as it is now."""
        return self._file.size_bytes

    @property
    def lost(self) -> tuple[int, ...]:
        """Positions of the rows that are not proven."""
        return tuple(np.flatnonzero(~self.is_proven).tolist())

    @property
    def bytes_read(self) -> int:
        """Read from the file so far."""
        return self._file.bytes_read

    def name(self, position: int) -> str:
        """The id of a row for a message."""
        return (self.ids[position] if self.is_sure_id(position) else None) or f"row {position}"

    @property
    def are_ids_sure(self) -> bool:
        """Whether all ids are established."""
        return bool(self.is_proven.all()) or self._is_sure.get("ids", False)

    def is_sure_id(self, position: int) -> bool:
        """Whether the id of a row is established, be its values lost or not."""
        return self.ids[position] is not None and bool(self.is_proven[position] or self._is_sure.get("ids", False))

    def had_values(self, position: int) -> bool | None:
        """Whether the row had values; None when that is lost."""
        return None if self._slots is None else bool(self._slots[position] >= 0)

    @property
    def is_imported(self) -> bool:
        """Whether another program made the rows, so that none of them can be made again."""
        return is_imported(self.feature_set)

    def knows_digest(self, position: int) -> bool:
        """Whether the digest of a row is established."""
        return bool(self.is_proven[position]) or self._is_sure.get("digests", False)

    def row(self, position: int) -> Row | None:
        """A proven row with copies of its values."""
        row_id, digest, status = self.ids[position], self.digests[position], self.statuses[position]
        if not self.is_proven[position] or row_id is None or digest is None or status is None:
            return None
        pieces = self._pieces(position)
        values = None
        if status == "ok" and pieces is not None:
            fields = zip(self.feature_set.fields, pieces, strict=True)
            values = {field.name: _array(piece, field) for field, piece in fields}
        return Row(id=row_id, digest=digest, status=status, values=values, batch=int(self.batches[position]))

    def fits(self, position: int, row: Row) -> bool:
        """Whether a row made again is, bit by bit, the one that was here."""
        values = [np.asarray((row.values or {})[field.name]) for field in self.feature_set.fields if row.values]
        return row_crc32c(row.id, row.digest, row.status, values) == int(self.crcs[position])

    def lost_batches(self) -> Iterator[LostBatch]:
        """What must go through the encoder again to bring back every lost row that can come back."""
        mates: dict[int, list[int]] = {}
        for position, number in enumerate(self.batches.tolist()):
            mates.setdefault(number, []).append(position)
        lost = [position for position in self.lost if self._can_be_made(position)]
        for number in dict.fromkeys(int(self.batches[position]) for position in lost):
            wanted = [position for position in lost if self.batches[position] == number]
            groups = [mates[number]] if number != NO_BATCH else list(self._loose(wanted))
            for group in groups:
                ids = tuple(self.ids[position] or "" for position in group if self._can_be_made(position))
                names = tuple(self.ids[position] or "" for position in group if position in set(wanted))
                had_values = number != NO_BATCH or bool(self.had_values(group[0]))
                yield LostBatch(shard=self.shard.number, number=number, ids=ids, wanted=names, had_values=had_values)

    def _loose(self, positions: Sequence[int]) -> Iterator[list[int]]:
        """Rows without a batch, those that had values in batches as good as any."""
        full = [position for position in positions if self.had_values(position)]
        yield from (full[start : start + _LOOSE_ROWS] for start in range(0, len(full), _LOOSE_ROWS))
        yield from ([position] for position in positions if not self.had_values(position))

    def _can_be_made(self, position: int) -> bool:
        row_id, digest = self.ids[position], self.digests[position]
        if row_id is None or row_id not in self.expected or self.is_imported:
            return False
        return not self.knows_digest(position) or not digest or self.expected[row_id][0] == digest

    # Reading. What is wrong with a column does not stop the others.

    def _read(self) -> None:
        texts = {name: self._text_column(name) for name in _TEXTS}
        value_index = self._numbers("value_index", "<i8", self.count)
        self._compare("batch", self._numbers("batch", "<i4", self.count), self.batches)
        self._compare("crc32c", self._numbers("crc32c", "<u4", self.count), self.crcs)
        as_read = {name: decoded(column) for name, column in texts.items()}
        self.ids, self.digests, self.statuses = (list(as_read[name]) for name in _TEXTS)
        if not self._is_sure["ids"]:
            self._find_run(texts["ids"].dtype.itemsize)
        self._slots = self._find_slots(value_index)
        if self._slots is not None:
            self._compare("value_index", value_index, self._slots)
        elif not self._is_sure["value_index"]:
            self.damage["value_index"] = ()
        self._offsets = {field.name: self._find_offsets(field) for field in self.feature_set.fields if field.is_ragged}
        for position in range(self.count):
            claim = (self.ids[position], self.digests[position], self.statuses[position])
            self.is_proven[position] = self._prove(position, [claim])
        if not self.is_proven.all():
            self._guess(texts)
        for name, now in zip(_TEXTS, (self.ids, self.digests, self.statuses), strict=True):
            changed = tuple(i for i, (old, new) in enumerate(zip(as_read[name], now, strict=True)) if old != new)
            if changed or (self._has_checksum(name) and not self._matches(name, texts[name])):
                self.damage[name] = changed

    def _text_column(self, name: str) -> Array:
        width = max(1, self._places[name].size_bytes // self.count)
        column = self._numbers(name, f"S{width}", self.count)
        self._is_sure[name] = self._matches(name, column)
        return column

    def _numbers(self, name: str, dtype: str, count: int) -> Array:
        """A column as it is read; what lies beyond the end of the file is zero."""
        place, kind = self._places[name], np.dtype(dtype)
        size_bytes = count * kind.itemsize
        content = self._file.read(place.offset_bytes, min(size_bytes, place.size_bytes))
        column = np.frombuffer(content.ljust(size_bytes, b"\0"), dtype=kind)
        self._is_sure[name] = len(content) == size_bytes and self._matches(name, column)
        return column

    def _matches(self, name: str, column: Array) -> bool:
        """Whether these bytes are the ones that were written; no checksum, no proof."""
        expected = self._places[name].crc32c
        return expected is not None and crc32c_of(column) == expected

    def _has_checksum(self, name: str) -> bool:
        return self._places[name].crc32c is not None

    def _compare(self, name: str, found: Array, right: Array) -> None:
        wrong = np.flatnonzero(found != right)
        if len(wrong):
            self.damage[name] = tuple(wrong.tolist())

    def _find_slots(self, value_index: Array) -> Array | None:
        """Places among the values, out of the column itself, of the statuses or of what is expected."""
        guesses = guess_value_rows(self.expected, value_index, self.ids, self.statuses, self.batches)
        for guess in guesses:
            slots = positions(guess)
            is_right = self._matches("value_index", slots) if self._has_checksum("value_index") else True
            if is_right and int(guess.sum()) == self.shard.ok:
                return slots
        return None

    def _find_offsets(self, field: Field) -> Array:
        """Where each row's elements lie; those of another field with as many elements in each row serve as well."""
        name = f"fields/{field.name}/offsets"
        own = self._numbers(name, "<i8", self.shard.ok + 1)
        if self._is_sure[name]:
            return own
        others = [f"fields/{f.name}/offsets" for f in self.feature_set.fields if f.is_ragged and f.name != field.name]
        for other in others:
            column = self._numbers(other, "<i8", self.shard.ok + 1)
            if self._matches(name, column):
                self.damage[name] = self._rows_about(np.flatnonzero(column != own))
                self._is_sure[name] = True
                return column
        if self._has_checksum(name):
            self.damage[name] = ()
        return own

    def _rows_about(self, offsets: Array) -> tuple[int, ...]:
        """The rows that end or begin at these offsets."""
        if self._slots is None:
            return ()
        slots = {slot for offset in offsets.tolist() for slot in (offset - 1, offset)}
        return tuple(i for i, slot in enumerate(self._slots.tolist()) if slot >= 0 and slot in slots)

    def _prove(self, position: int, claims: Sequence[tuple[str | None, str | None, str | None]]) -> bool:
        """Try claims of id, digest and status until one fits the row's checksum; that one is then established."""
        pieces = self._pieces(position)
        for row_id, digest, status in claims:
            if row_id is None or digest is None or status is None:
                continue
            values = pieces if status == "ok" else []
            if values is None or (status == "ok") != bool(self.had_values(position)):
                continue
            arrays = [np.frombuffer(piece, np.uint8) for piece in values]
            if row_crc32c(row_id, digest, status, arrays) == int(self.crcs[position]):
                self.ids[position], self.digests[position], self.statuses[position] = row_id, digest, status
                return True
        return False

    def _pieces(self, position: int) -> list[bytes] | None:
        """The bytes of a row's values, field by field; None when there is no telling where they lie."""
        if self._slots is None:
            return None
        slot = int(self._slots[position])
        if slot < 0:
            return []
        pieces = []
        for field in self.feature_set.fields:
            first, last = slot, slot + 1
            place = self._places[f"fields/{field.name}" + ("/values" if field.is_ragged else "")]
            if field.is_ragged:
                offsets = self._offsets[field.name]
                first, last = int(offsets[slot]), int(offsets[slot + 1])
            start, stop = first * field.element_bytes, last * field.element_bytes
            if not 0 <= start <= stop <= place.size_bytes:
                return None
            piece = self._file.read(place.offset_bytes + start, stop - start)
            if len(piece) != stop - start:
                return None
            pieces.append(piece)
        return pieces

    # Guessing what ids, digests and statuses were; a checksum has the last word.

    def _guess(self, texts: Mapping[str, Array]) -> None:
        if not self._is_sure["ids"]:
            self._fill_ids(texts["ids"].dtype.itemsize)
        for position in self.lost:
            claims = [
                (row_id, digest, status)
                for row_id in self._ids_for(position)
                for digest, status in product(*self._columns_for(position, row_id))
            ]
            self.is_proven[position] = self._prove(position, claims)
        columns = [self._columns_for(position, self.ids[position]) for position in range(self.count)]
        self._settle("digests", self.digests, texts["digests"], [digests for digests, _ in columns])
        self._settle("status", self.statuses, texts["status"], [statuses for _, statuses in columns])

    def _ids_for(self, position: int) -> list[str | None]:
        if self._is_sure["ids"]:
            return [self.ids[position]]
        read = self.ids[position], self.digests[position]
        return self._candidates.ids(position, self.count, read, self._proven_id)

    def _columns_for(self, position: int, row_id: str | None) -> tuple[list[str | None], list[str | None]]:
        read = self.digests[position], self.statuses[position]
        return self._candidates.texts(row_id, read, self.had_values(position))

    def _proven_id(self, position: int) -> str | None:
        return self.ids[position] if self.is_proven[position] else None

    def _settle(self, name: str, column: list[str | None], read: Array, choices: Sequence[list[str | None]]) -> None:
        """Let lost rows have what is expected of them if the whole column then fits its checksum."""
        if self._is_sure[name]:
            return
        for take in range(3):
            guess = [
                value if self.is_proven[i] else choices[i][min(take, len(choices[i]) - 1)]
                for i, value in enumerate(column)
            ]
            if self._matches(name, encoded(guess, read.dtype.itemsize)):
                column[:] = guess
                self._is_sure[name] = True
                return

    def _find_run(self, width_bytes: int) -> None:
        order = self._candidates.order
        if len(order) < self.count or not self._has_checksum("ids"):
            return
        whole = encoded(order, width_bytes)
        for run in self._candidates.runs(self.count):
            if self._matches("ids", whole[run]):
                self.ids, self._is_sure["ids"] = list(order[run]), True
                return

    def _fill_ids(self, width_bytes: int) -> None:
        """Give lost rows the ids that stand in the manifest at their distance from proven neighbours."""
        guess = list(self.ids)
        for position in self.lost:
            near = self._candidates.between(position, self.count, self._proven_id, is_exact=True)
            guess[position] = near[0] if near else guess[position]
        if self._matches("ids", encoded(guess, width_bytes)):
            self.ids, self._is_sure["ids"] = guess, True


_LOOSE_ROWS = 32  # of unknown batches, that go through the encoder together


def _array(piece: bytes, field: Field) -> Array:
    shape = (-1, *field.shape) if field.is_ragged else field.shape
    return np.frombuffer(piece, dtype=field.numpy_dtype).reshape(shape)
