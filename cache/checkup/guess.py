"""What ids, digests and statuses that were lost may have been, out of what the dataset is known to have.

Offers guesses, the likeliest first, and believes none: a checksum decides, see `salvage`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from sentifuse.cache.spec import NO_BATCH, Array

__all__ = ["Candidates", "Expected", "guess_value_rows"]

Expected = Mapping[str, tuple[str, str]]  # id -> digest of its input and "ok", or why there is none; in manifest order

_REACH = 16  # ids of the manifest that are tried for one row


class Candidates:
    """The dataset's rows as guesses at a shard's.

    `proven` says of a position of the shard which id is proven to stand there, or None.
    """

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.order = list(expected)
        self._place_of = {row_id: place for place, row_id in enumerate(self.order)}
        self._ids_of_digest: dict[str, list[str]] = {}
        for row_id, (digest, _) in expected.items():
            self._ids_of_digest.setdefault(digest, []).append(row_id)

    def runs(self, count: int) -> Iterator[slice]:
        """Places of the manifest where a whole shard may begin and end: its rows mostly are a run of the manifest's."""
        for start in range(len(self.order) - count + 1):
            yield slice(start, start + count)

    def ids(
        self, position: int, count: int, read: tuple[str | None, str | None], proven: Callable[[int], str | None]
    ) -> list[str | None]:
        """Ids that a row may have, given the id and digest that were read of it."""
        same_input = self._ids_of_digest.get(read[1] or "", [])[:_REACH]
        return list(dict.fromkeys([read[0], *same_input, *self.between(position, count, proven)]))

    def texts(
        self, row_id: str | None, read: tuple[str | None, str | None], had_values: bool | None
    ) -> tuple[list[str | None], list[str | None]]:
        """Digests and statuses that the row of an id may have, given those that were read of it."""
        digest, status = self.expected.get(row_id or "", ("", "missing"))
        digests = [read[0], digest, ""]
        statuses = [read[1], "ok" if had_values else status, "missing"]
        return list(dict.fromkeys(digests)), list(dict.fromkeys(statuses))

    def between(
        self, position: int, count: int, proven: Callable[[int], str | None], *, is_exact: bool = False
    ) -> list[str]:
        """Ids of the manifest that may stand here; `is_exact`: the one at this distance from a proven neighbour."""
        before = self._anchor(range(position - 1, -1, -1), proven)
        after = self._anchor(range(position + 1, count), proven)
        if before is not None:
            place = before[1] + position - before[0]
        elif after is not None:
            place = after[1] - (after[0] - position)
        else:
            return []
        near = [self.order[place]] if 0 <= place < len(self.order) else []
        if is_exact:
            return near
        first = before[1] + 1 if before is not None else max(0, place - _REACH)
        last = after[1] if after is not None else place + _REACH
        return [*near, *self.order[first : min(last, first + _REACH)]]

    def _anchor(self, way: range, proven: Callable[[int], str | None]) -> tuple[int, int] | None:
        for position in way:
            place = self._place_of.get(proven(position) or "")
            if place is not None:
                return position, place
        return None


def guess_value_rows(
    expected: Expected,
    value_index: Array,
    ids: Sequence[str | None],
    statuses: Sequence[str | None],
    batches: Array,
) -> Iterator[Array]:
    """(N,) bool, which rows had values: as the column says, the statuses, the batches, or the dataset."""
    yield value_index >= 0
    yield np.array([status == "ok" for status in statuses])
    yield batches != NO_BATCH  # what went through the encoder mostly came out of it
    yield np.array([expected.get(row_id or "", ("", "ok"))[1] == "ok" for row_id in ids])
    yield np.ones(len(ids), dtype=np.bool_)
