"""What every source of features has: ids, fields, a digest, and values by number. Knows no format.

Ids are those of the source until a caller says which of them it knows.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sentifuse import ConfigError
from sentifuse.cache.errors import BadSource, reading
from sentifuse.cache.files import sha256_of
from sentifuse.cache.interchange.header import ExportHeader
from sentifuse.cache.spec import DTYPES, Array, Field

__all__ = [
    "ImportOptions",
    "RowRecord",
    "Source",
    "field_of",
    "id_text",
    "refuse_repeated",
    "source_digest",
    "storable",
]

RowRecord = tuple[str, str, str]  # id, digest, status

# How the command line calls the options; also the order in which a message lists them.
_OPTION_NAMES = {
    "dtype": "--dtype",
    "ids_file": "--ids",
    "ids_from": "--ids-from",
    "id_prefix": "--id-prefix",
    "arrays": "--field",
    "lengths": "--lengths",
    "splits": "--splits",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What only a person can say about files made by others; each format takes some of these.

    Attributes
    ----------
    dtype : str, optional
        "float32" or "float16": convert the features to it. Without it nothing is ever converted.
    ids_file : Path, optional
        A text file with one id a line, for arrays that carry none.
    ids_from : str, optional
        "name" (of the file) or "info" (the image_id inside): where the id of a `.npz` is taken from.
    id_prefix : str, optional
        Put before every id of the source to make it the dataset's.
    arrays : tuple of (field, array)
        Which array of the source becomes which field.
    lengths : str, optional
        The array that says how many steps of a padded sequence are real.
    splits : tuple of str
        Only these parts of the source.
    """

    dtype: str | None = None
    ids_file: Path | None = None
    ids_from: str | None = None
    id_prefix: str | None = None
    arrays: tuple[tuple[str, str], ...] = ()
    lengths: str | None = None
    splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in (None, "float16", "float32"):
            raise ConfigError.unknown("dtype", str(self.dtype), ["float16", "float32"], where="--dtype")
        if self.ids_from not in (None, "name", "info"):
            raise ConfigError.unknown("place of ids", str(self.ids_from), ["info", "name"], where="--ids-from")

    def given(self) -> dict[str, Any]:
        """The options that were given, as they belong into a recipe: all but the ids file, whose bytes are hashed."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "ids_file"}
        return {name: value for name, value in values.items() if value}

    def refuse_others(self, format_name: str, accepted: Iterable[str]) -> None:
        """Raise ConfigError for an option that would do nothing: better now than a surprise later."""
        taken = set(accepted)
        for name, option in _OPTION_NAMES.items():
            if getattr(self, name) and name not in taken:
                useful = ", ".join(_OPTION_NAMES[other] for other in _OPTION_NAMES if other in taken) or "none"
                raise ConfigError(f"{option}: of no use for {format_name} at this path; of use there: {useful}")


class Source(Protocol):
    """Features somewhere outside the cache."""

    @property
    def ids(self) -> Sequence[str]:
        """In the order of the source, none twice."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """What every row has."""

    @property
    def sha256(self) -> str:
        """Names the bytes the features come from; empty for an export of this program."""

    @property
    def options(self) -> ImportOptions:
        """What was said about them."""

    @property
    def header(self) -> ExportHeader | None:
        """Of an export of this program: then recipe, digests and statuses are known."""

    @property
    def records(self) -> Sequence[RowRecord]:
        """Id, digest and status of each row of such an export; empty otherwise."""

    def read(self, number: int) -> Mapping[str, Array]:
        """The values of a row by its number in `ids`; fastest in rising order.

        Their shapes and whether they are finite is for the caller to check.

        Raises
        ------
        BadSourceRow
            This row cannot be read.
        BadSource, Unreadable
            The source cannot be.
        """


def source_digest(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 over names and bytes of a source's files, whatever order they are given in."""
    digest = hashlib.sha256()
    for name, path in sorted(files):
        with reading(path):
            digest.update(f"{name}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()


def refuse_repeated(ids: Sequence[str], where: Path) -> None:
    """Raise BadSource naming the first ids that come twice: nobody can tell which of the two rows is meant."""
    repeated = [row_id for row_id, count in Counter(ids).items() if count > 1]
    if repeated:
        named = ", ".join(repr(row_id) for row_id in repeated[:5])
        more = f" and {len(repeated) - 5:,} more" if len(repeated) > 5 else ""
        first = [number + 1 for number, row_id in enumerate(ids) if row_id == repeated[0]]
        raise BadSource(
            f"{where}: ids more than once: {named}{more}; {repeated[0]!r} is that of rows {first[0]:,} and "
            f"{first[1]:,}. Expected every id once: remove the rows that are not meant"
        )


def id_text(value: object, where: str) -> str:
    """An id as text: a string, a whole number, or bytes of UTF-8."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise BadSource(f"{where}: an id that is {value!r} ({type(value).__name__}), expected text or a whole number")
    return value


def storable(array: Array, dtype: str | None, where: str) -> Array:
    """The array as it can be stored, converted only where `dtype` says so.

    Raises
    ------
    BadSource
        Its dtype has no place in a shard.
    """
    if dtype is not None and array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # becomes infinite, which makes the row a failed one
            return array.astype(DTYPES[dtype], copy=False)
    plain = array.astype(array.dtype.newbyteorder("<"), copy=False)  # the same numbers; shards are little-endian
    if plain.dtype in DTYPES.values():
        return plain
    if array.dtype.kind == "f":
        raise BadSource(
            f"{where}: dtype {array.dtype} has no place in a shard. Round it with --dtype float32 or float16"
        )
    raise BadSource(
        f"{where}: dtype {array.dtype} cannot be stored; expected one of {', '.join(DTYPES)}. Convert the file first"
    )


def field_of(name: str, value: Array, *, is_ragged: bool) -> Field:
    """The field that a first value, already storable, is one of."""
    shape = value.shape[1:] if is_ragged else value.shape
    return Field(name=name, dtype=value.dtype.name, shape=shape, is_ragged=is_ragged)
