"""What a feature set is made of: fields, rows, the version and the names used on disk. Knows no file.

FORMAT.md says the same in words; numbers and names stand here once.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse.cache.errors import BadRow, CacheError

__all__ = [
    "ALIGNMENT_BYTES",
    "COLUMNS",
    "DIGEST_BYTES",
    "DTYPES",
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "NO_BATCH",
    "Array",
    "Field",
    "Row",
    "check_name",
    "dataset_names",
    "is_finite",
    "is_status",
    "status_kind",
    "status_text",
]

FORMAT_NAME = "sentifuse-features"
FORMAT_VERSION = 1
ALIGNMENT_BYTES = 4096  # every dataset starts on a page, so that it can be mapped on its own

# Name in a recipe -> dtype on disk. Little-endian always; no bfloat16, which numpy has only through another package.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "uint8": np.dtype("u1"),
}

COLUMNS = ("ids", "digests", "status", "value_index", "batch", "crc32c")  # of a shard, in the order of writing

STATUS_KINDS = ("ok", "missing", "unreadable", "failed")
MAX_STATUS_BYTES = 240  # the column is as wide as its longest status: one long message would widen every row
MAX_ID_BYTES = 1024
DIGEST_BYTES = 64
NO_BATCH = -1

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")

Array = npt.NDArray[Any]


def check_name(name: str, kind: str) -> None:
    """Refuse a name that would not do as a folder, an HDF5 path or a key: lower case letters, digits, underscores."""
    if not _NAME.fullmatch(name):
        raise CacheError(f"{kind} name {name!r}: expected lower-case letters, digits and _, starting with a letter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One named tensor of a row.

    Dense: every row has an array of `shape`. Ragged: row i has (n_i, *shape) with n_i ≥ 0 of its own, so `shape` is
    that of one element.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_ragged: bool = False

    def __post_init__(self) -> None:
        check_name(self.name, "field")
        if self.dtype not in DTYPES:
            raise CacheError(f"field {self.name!r}: dtype {self.dtype!r}, expected one of {', '.join(DTYPES)}")
        if not all(type(side) is int and side > 0 for side in self.shape):
            raise CacheError(f"field {self.name!r}: shape {self.shape!r}, expected positive whole numbers")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype as it lies on disk."""
        return DTYPES[self.dtype]

    @property
    def element_bytes(self) -> int:
        """Bytes of one dense value, or of one element of a ragged value."""
        return self.numpy_dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "is_ragged": self.is_ragged}

    @classmethod
    def from_json(cls, value: Any) -> "Field":
        """Check a parsed object to the last key. Raises ValueError, or CacheError as any field."""
        if not isinstance(value, dict) or set(value) != {"name", "dtype", "shape", "is_ragged"}:
            raise ValueError(f"field {value!r}: expected an object with the keys name, dtype, shape and is_ragged")
        if not isinstance(value["name"], str) or not isinstance(value["dtype"], str):
            raise ValueError(f"field {value['name']!r}: name and dtype must be texts")
        if not isinstance(value["shape"], list) or type(value["is_ragged"]) is not bool:
            raise ValueError(f"field {value['name']!r}: shape must be a list, and is_ragged true or false")
        return cls(name=value["name"], dtype=value["dtype"], shape=tuple(value["shape"]), is_ragged=value["is_ragged"])

    def check(self, value: object, row_id: str) -> None:
        """Refuse a value of another type, dtype or shape; no silent cast, which could round or overflow."""
        if not isinstance(value, (np.ndarray, np.generic)):
            raise BadRow(f"row {row_id!r}, field {self.name!r}: {type(value).__name__}, expected a numpy array")
        if value.dtype != self.numpy_dtype:
            raise BadRow(f"row {row_id!r}, field {self.name!r}: dtype {value.dtype}, expected {self.dtype}")
        shape = value.shape[1:] if self.is_ragged and value.ndim else value.shape
        if shape != self.shape or (self.is_ragged and value.ndim != len(self.shape) + 1):
            expected = ("n", *self.shape) if self.is_ragged else self.shape
            raise BadRow(f"row {row_id!r}, field {self.name!r}: shape {value.shape}, expected {expected}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """What one encoder has to say about one pair.

    Attributes
    ----------
    id : str
        The pair's id; no NUL in it, at most 1,024 bytes of UTF-8.
    digest : str
        SHA-256 hex of the input the values were made from; "" when there was no input, or none that could be read.
    status : str
        "ok", "missing", "unreadable: reason" or "failed: reason" (`status_text` makes one of any message).
    values : mapping of field name to array, or None
        Present if and only if the status is "ok".
    batch : int
        Rows of one shard that went through the encoder together have one number ≥ 0, so that a repair can do the very
        same again; -1 for a row that never went, or nobody knows with which others.
    """

    id: str
    digest: str
    status: str
    values: Mapping[str, Array] | None = None
    batch: int = NO_BATCH

    def __post_init__(self) -> None:
        if not self.id or "\0" in self.id or len(_utf8(self.id, self.id)) > MAX_ID_BYTES:
            raise BadRow(f"row id {self.id[:80]!r}: expected 1 to {MAX_ID_BYTES} bytes of UTF-8 without NUL")
        if self.digest and not _DIGEST.fullmatch(self.digest):
            raise BadRow(f"row {self.id!r}: digest {self.digest!r}, expected 64 lower-case hex digits or nothing")
        if not is_status(self.status) or len(_utf8(self.status, self.id)) > MAX_STATUS_BYTES:
            raise BadRow(
                f"row {self.id!r}: status {self.status[:80]!r}, expected 'ok', 'missing', 'unreadable: reason' or "
                f"'failed: reason', one line of at most {MAX_STATUS_BYTES} bytes; status_text makes the last two"
            )
        if (self.values is not None) != (self.status == "ok"):
            raise BadRow(f"row {self.id!r}: status {self.status!r}, expected values if and only if it is 'ok'")
        if type(self.batch) is not int or not NO_BATCH <= self.batch < 1 << 31:
            raise BadRow(f"row {self.id!r}: batch {self.batch!r}, expected -1 or a whole number below 2^31")


def status_text(kind: str, reason: str) -> str:
    """A status of `kind` ("unreadable" or "failed") out of any message: one line, cut to the length a row may have.

    >>> status_text("failed", "two\\nlines")
    'failed: two lines'
    """
    line = " ".join(_CONTROL.sub(" ", reason).split()) or "no reason given"
    text = f"{kind}: {line}".encode("utf-8", errors="replace")
    if len(text) <= MAX_STATUS_BYTES:
        return text.decode("utf-8")
    return text[: MAX_STATUS_BYTES - len("…".encode())].decode("utf-8", errors="ignore") + "…"


def status_kind(status: str) -> str:
    """The word before the colon: what statuses are counted by."""
    return status.partition(":")[0]


def is_status(text: str) -> bool:
    """Whether this is "ok", "missing", "unreadable: reason" or "failed: reason", in one line.

    >>> [is_status(text) for text in ("ok", "failed: no memory", "failed", "ok: fine", "failed: two\\nlines")]
    [True, True, False, False, False]
    """
    kind, colon, reason = text.partition(": ")
    if kind not in STATUS_KINDS or bool(reason) != (kind in ("unreadable", "failed")):
        return False
    return (not colon or bool(reason)) and not _CONTROL.search(text)


def dataset_names(fields: Iterable[Field]) -> list[str]:
    """The datasets of a shard in the order of writing; a ragged field has its offsets before its values."""
    names = list(COLUMNS)
    for field in fields:
        name = f"fields/{field.name}"
        names += [f"{name}/offsets", f"{name}/values"] if field.is_ragged else [name]
    return names


def is_finite(values: Array) -> bool:
    """Whether no value is NaN or infinite. Whole numbers always are finite."""
    if values.dtype.kind != "f" or values.size == 0:
        return True
    if values.dtype.itemsize == 2:
        # numpy tests halves one by one (1.3 GB/s); the largest exponent of all of them is found ten times faster.
        exponents = np.ascontiguousarray(values).view(np.uint16) & np.uint16(0x7C00)
        return bool(exponents.max() != 0x7C00)
    return bool(np.isfinite(values).all())


def _utf8(text: str, row_id: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(f"row {row_id!r}: {text[:80]!r} has a lone surrogate and cannot be stored as UTF-8") from error
