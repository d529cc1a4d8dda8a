"""What a shard file says of itself when recipe, index or its journal line are lost; a checksum must bear it out."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sentifuse.cache.errors import CacheError
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.files import sha256_of
from sentifuse.cache.fingerprint import fingerprint as fingerprint_of
from sentifuse.cache.record import SHARD_NAME, ShardProof, ShardRecord, StagedShard
from sentifuse.cache.shard import proof_of, prove_shard, read_layout
from sentifuse.cache.spec import DTYPES, FORMAT_NAME, Field, status_kind

__all__ = ["adopt", "adopt_damaged", "feature_set_of", "find_proof", "find_row_proof"]

_UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, CacheError)


def feature_set_of(path: Path, directory: Path, order: Sequence[str], details: dict[str, Any]) -> FeatureSet | None:
    """The feature set that a shard's attributes and datasets describe."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            texts = {name: _text(file.attrs[name]) for name in ("format", "encoder", "fingerprint", "recipe")}
            places = {name: _field_of(name, node) for name, node in file["fields"].items()}
        recipe = json.loads(texts["recipe"])
        if texts["format"] != FORMAT_NAME or fingerprint_of(recipe) != texts["fingerprint"]:
            return None
    except _UNREADABLE:
        return None
    if directory.name != f"{texts['encoder']}-{texts['fingerprint'][:12]}":
        return None  # somebody else's shard
    # Without a journal the fields stand in the order in which the file has their values.
    names = order if sorted(order) == sorted(places) else sorted(places, key=lambda name: (places[name][1], name))
    return FeatureSet(
        directory=directory,
        encoder=texts["encoder"],
        fingerprint=texts["fingerprint"],
        recipe=recipe,
        fields=tuple(places[name][0] for name in names),
        details=details,
    )


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _field_of(name: str, node: Any) -> tuple[Field, int]:
    """A field and where its values lie; a dataset without elements lies nowhere and goes last."""
    is_ragged = isinstance(node, h5py.Group)
    values = node["values"] if is_ragged else node
    (dtype,) = [key for key, known in DTYPES.items() if known == values.dtype]
    offset = values.id.get_offset()
    made = Field(name=name, dtype=dtype, shape=tuple(values.shape[1:]), is_ragged=is_ragged)
    return made, offset if offset is not None else 1 << 62


def adopt(feature_set: FeatureSet, path: Path) -> StagedShard | None:
    """A shard that nothing names, out of its file; None unless that is whole: its SHA-256 begins as its name says."""
    name = SHARD_NAME.fullmatch(path.name)
    try:
        sha256 = sha256_of(path)
        if name is None or sha256[:12] != name[2]:
            return None
        record = _record_of(path, name[1], sha256)
        return prove_shard(feature_set, record)
    except _UNREADABLE:
        return None


def adopt_damaged(feature_set: FeatureSet, path: Path) -> StagedShard | None:
    """A shard that nothing names and that is not whole, if HDF5 still reads its columns: their checksums prove rows.

    Of its SHA-256 only the digits in its name are known, zeros stand for the others. If those digits come out when its
    rows have been made again, the very bytes are back.
    """
    name = SHARD_NAME.fullmatch(path.name)
    try:
        if name is None:
            return None
        record = _record_of(path, name[1], name[2].ljust(64, "0"))
        layout = read_layout(feature_set, record)
    except _UNREADABLE:
        return None
    return StagedShard(record=record, proof=_without_checksums(proof_of(feature_set, layout)))


def find_proof(feature_set: FeatureSet, record: ShardRecord) -> ShardProof | None:
    """The proof of a shard whose journal line is lost, as far as its file still gives one.

    Of a damaged file only the rows' own checksums are of use: the columns have none, so a row counts if it fits.
    """
    try:
        return prove_shard(feature_set, record).proof
    except (CacheError, OSError):
        return find_row_proof(feature_set, record)


def find_row_proof(feature_set: FeatureSet, record: ShardRecord) -> ShardProof | None:
    """`find_proof` of a file that is known to be damaged."""
    try:
        return _without_checksums(proof_of(feature_set, read_layout(feature_set, record)))
    except CacheError:
        return None


def _without_checksums(proof: ShardProof) -> ShardProof:
    return replace(proof, datasets=tuple(replace(place, crc32c=None) for place in proof.datasets))


def _record_of(path: Path, number: str, sha256: str) -> ShardRecord:
    """What the index would say of a file."""
    with h5py.File(path, "r", locking=False) as file:
        if file["status"].nbytes > path.stat().st_size:  # before all memory is asked for
            raise ValueError("status: more bytes than the file has")
        statuses = [status.decode("utf-8") for status in np.asarray(file["status"]).tolist()]
    counts = dict(sorted(Counter(map(status_kind, statuses)).items()))
    return ShardRecord(
        file=f"shards/{path.name}",
        number=int(number),
        rows=len(statuses),
        ok=counts.get("ok", 0),
        counts=counts,
        sha256=sha256,
        size_bytes=path.stat().st_size,
    )
