"""What a head asks of the feature cache, and what a field looks like to it. Reads no value."""

from collections.abc import Mapping
from dataclasses import dataclass

from sentifuse import CacheError
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRequest:
    """A field that a head reads."""

    encoder: str
    field: str
    limit: int | None = None  # sequences: only the first `limit` elements (regions are stored best first)
    optional: bool = False  # True: a pair without this value is used all the same, with an all-False mask
    count: str = "count"  # dense sequences: the scalar field that says how many elements are real, if it exists

    @property
    def key(self) -> str:
        """Name in `Batch.values` and in a head's `widths`: "encoder.field"."""
        return f"{self.encoder}.{self.field}"


def find_field(readers: Mapping[str, FeatureReader], request: FieldRequest) -> Field:
    """The declaration of a requested field.

    Raises
    ------
    CacheError
        The feature set has no such field.
    """
    reader = readers[request.encoder]
    for declared in reader.fields:
        if declared.name == request.field:
            return declared
    names = ", ".join(declared.name for declared in reader.fields)
    raise CacheError(
        f"feature set {request.encoder}: expected a field {request.field!r}, found {names or 'none'}. "
        f"Add it to the profile and run: sentifuse extract --encoders {request.encoder}"
    )


def width_of(found: Field) -> int:
    """The last dimension of a field: the width of its vectors, 1 for a number."""
    return found.shape[-1] if found.shape else 1


def is_sequence(found: Field) -> bool:
    """Whether a row has several elements (words, regions) or is one vector or number."""
    return found.is_ragged or len(found.shape) >= 2


def element_of(found: Field) -> tuple[int, ...]:
    """The shape of one element of a sequence, or of the whole value of a field that is none."""
    return found.shape[1:] if is_sequence(found) and not found.is_ragged else found.shape
