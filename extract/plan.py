"""What is left to compute: a pure function of manifest, recipe and journal. Knows no model and touches no file.

Rows that were never stored go first, in manifest order, cut into shards of `SHARD_ROWS`; they fill the shard numbers
that are still free. So a run that was interrupted anywhere, on one device or on many, plans the very shards that an
undisturbed run would have written. Rows whose input changed follow, in patch shards of their own: a dataset that
grows or is edited never splits a shard that exists.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from sentifuse.cache.spec import status_text
from sentifuse.data.manifest import Manifest, Pair

SHARD_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RowInput:
    """What an encoder of some modality gets of one pair."""

    id: str
    image_path: str
    text: str
    image_digest: str
    digest: str  # of the inputs this encoder reads; "" when one of them is not there
    status: str  # "ok", or why there is nothing to encode: "missing", "unreadable: reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedShard:
    """One shard to be written: its number, and positions of its rows in the list of inputs."""

    number: int
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All work of one feature set."""

    shards: tuple[PlannedShard, ...]
    new_rows: int
    stale_rows: int
    stored_rows: int


def list_inputs(manifest: Manifest, modalities: Sequence[str]) -> list[RowInput]:
    """The inputs of every pair that is not withdrawn, in manifest order.

    Parameters
    ----------
    modalities
        What the encoder reads: ("image",), ("text",) or ("image", "text").
    """
    return [_row_input(pair, modalities) for pair in manifest.pairs if not _is_withdrawn(pair)]


def plan_shards(
    inputs: Sequence[RowInput],
    known: Mapping[str, tuple[str, str]],
    used_numbers: Collection[int],
    *,
    shard_rows: int = SHARD_ROWS,
) -> Plan:
    """Cut what is not stored, or stored for another input, into shards.

    Parameters
    ----------
    known
        Digest and status of the stored row of each id.
    used_numbers
        Shard numbers that the journal has.
    """
    new = [i for i, row in enumerate(inputs) if row.id not in known]
    stale = [i for i, row in enumerate(inputs) if row.id in known and _is_stale(row, known[row.id])]
    used = set(used_numbers)
    free = (number for number in count() if number not in used)
    shards = [PlannedShard(number=next(free), rows=tuple(rows)) for rows in _cut(new, shard_rows)]
    # A patch must come after every shard whose rows it replaces: the later one wins.
    after = max([*used, *(shard.number for shard in shards)], default=-1) + 1
    patches = enumerate(_cut(stale, shard_rows), start=after)
    shards += [PlannedShard(number=number, rows=tuple(rows)) for number, rows in patches]
    return Plan(
        shards=tuple(shards),
        new_rows=len(new),
        stale_rows=len(stale),
        stored_rows=len(inputs) - len(new) - len(stale),
    )


def _is_stale(row: RowInput, stored: tuple[str, str]) -> bool:
    digest, status = stored
    if row.digest != digest:
        return True
    # With an input in hand the digest decides: what failed once on these bytes would fail again. Without one the
    # reason may have changed ("missing" has become "unreadable"), and costs nothing to rewrite.
    return not row.digest and row.status != status


def _cut(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _is_withdrawn(pair: Pair) -> bool:
    return pair.image_status == "withdrawn" and pair.text_status == "withdrawn"


def _row_input(pair: Pair, modalities: Sequence[str]) -> RowInput:
    parts = {
        "image": (pair.image_digest, pair.image_status),
        "text": (pair.text_digest, pair.text_status),
    }
    chosen = [parts[name] for name in modalities]
    bad = [status for _, status in chosen if status != "ok"]
    digests = [digest for digest, _ in chosen]
    if bad:
        digest = ""
    elif len(digests) == 1:
        digest = digests[0]
    else:
        digest = hashlib.sha256(":".join(digests).encode("ascii")).hexdigest()
    return RowInput(
        id=pair.id,
        image_path=pair.image_path if "image" in modalities else "",
        text=pair.text if "text" in modalities else "",
        image_digest=pair.image_digest if "image" in modalities else "",
        digest=digest,
        status=_stored_status(bad[0]) if bad else "ok",
    )


def _stored_status(status: str) -> str:
    """A manifest's status in the words of a stored row, cut to the length a row may have."""
    if status == "missing":
        return status
    return status_text("unreadable", status.removeprefix("unreadable: "))
