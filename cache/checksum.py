"""CRC32C of rows, arrays and JSON objects: it finds damage and says where. SHA-256, which names files, is elsewhere.

The polynomial is Castagnoli's (RFC 3720), as the `crc32c` packages of other languages have it.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any

import crc32c
import numpy as np

from sentifuse.cache.errors import CacheError
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.spec import Array

__all__ = ["crc32c_of", "pack", "parse_json", "row_crc32c", "seal", "unpack", "unseal"]

_TOO_DEEP = "nested deeper than anything that is written here"


def crc32c_of(value: Array, crc: int = 0) -> int:
    """CRC32C over an array's bytes in C order, going on from `crc`."""
    if value.nbytes == 0:
        return crc
    return int(crc32c.crc32c(np.ascontiguousarray(value).reshape(-1).view(np.uint8), crc))


def row_crc32c(row_id: str, digest: str, status: str, values: Iterable[Array]) -> int:
    """CRC32C of a whole row: id, digest and status, each with a NUL behind it, then the values in the set's order.

    So values that stand under another pair's id are found as surely as a flipped bit in them.
    """
    crc = int(crc32c.crc32c(f"{row_id}\0{digest}\0{status}\0".encode()))
    for value in values:
        crc = crc32c_of(value, crc)
    return crc


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with `crc32c` added: the checksum of the canonical JSON of all the rest, eight hex digits."""
    return {**value, "crc32c": f"{crc32c.crc32c(canonical_json(value)):08x}"}


def unseal(value: Any) -> dict[str, Any]:
    """The object without its seal.

    Raises
    ------
    ValueError
        No object, not the one that was sealed, or nothing that can be sealed at all: NaN, a lone surrogate, too deep.
    """
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    rest = {key: item for key, item in value.items() if key != "crc32c"}
    try:
        found = seal(rest)["crc32c"]
    except CacheError as error:
        raise ValueError(f"no canonical JSON ({error})") from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if value.get("crc32c") != found:
        raise ValueError(f"its crc32c is {found}, it says {value.get('crc32c')!r}: a changed byte")
    return rest


def parse_json(content: bytes) -> Any:
    """What a JSON text says; ValueError for one that is none, and for one nested too deep to be read."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def pack(numbers: Array) -> str:
    """An array's bytes as base64 text, for a JSON value.

    >>> unpack(pack(np.array([1, -1], dtype="<i4")), np.dtype("<i4")).tolist()
    [1, -1]
    """
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode("ascii")


def unpack(text: Any, dtype: np.dtype[Any]) -> Array:
    """The one-dimensional array that `pack` made a text of. Raises ValueError for anything else."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r}, expected base64")
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{text[:20]!r}… is no base64 ({error})") from error
    return np.frombuffer(content, dtype=dtype)
