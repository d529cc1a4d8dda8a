"""Every way in which a shard file can be wrong, for the archives."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from damage import Damage

from sentifuse.cache.checksum import row_crc32c
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.spec import ALIGNMENT_BYTES, FORMAT_VERSION, Row

__all__ = ["damaged_shards"]


class Shards:
    """Makes damaged copies of a shard."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self.whole = path.read_bytes()
        self.scratch = scratch
        (scratch / "whole.h5").write_bytes(self.whole)
        with h5py.File(path, "r") as file:
            self.offsets: dict[str, int] = {}
            file.visititems(self._note)

    def _note(self, name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            self.offsets[name] = node.id.get_offset()

    def flipped(self, offset_bytes: int, mask: int = 1) -> bytes:
        content = bytearray(self.whole)
        content[offset_bytes] ^= mask
        return bytes(content)

    def put(self, name: str, position_bytes: int, piece: bytes) -> bytes:
        """Other bytes within a dataset."""
        start = self.offsets[name] + position_bytes
        return self.whole[:start] + piece + self.whole[start + len(piece) :]

    def changed(
        self,
        change: Callable[[h5py.File], object],
        alignment_bytes: int = ALIGNMENT_BYTES,
        libver: tuple[str, str] = ("v110", "v110"),
    ) -> bytes:
        """Changed through HDF5, which makes new objects as the writer does, so that only what is meant is wrong."""
        path = self.scratch / "changed.h5"
        path.write_bytes(self.whole)
        places = {"alignment_threshold": 1, "alignment_interval": alignment_bytes}
        with h5py.File(path, "r+", libver=libver, **places) as file:
            change(file)
        return path.read_bytes()

    def copied(self, libver: str) -> bytes:
        """The same content, in a file with other bounds."""
        path = self.scratch / "copied.h5"
        path.unlink(missing_ok=True)
        places = {"alignment_threshold": 1, "alignment_interval": ALIGNMENT_BYTES}
        with h5py.File(self.scratch / "whole.h5") as old, h5py.File(path, "x", libver=libver, **places) as new:
            for name, value in old.attrs.items():
                new.attrs.create(name, value, dtype=old.attrs.get_id(name).dtype)
            for name in self.offsets:
                new.create_dataset(name, data=old[name][()], dtype=old[name].dtype)
        return path.read_bytes()

    def foreign(self) -> bytes:
        path = self.scratch / "foreign.h5"
        path.unlink(missing_ok=True)
        with h5py.File(path, "x") as file:
            file["features"] = np.zeros(3)
        return path.read_bytes()


def instead(name: str, data: Any, **options: Any) -> Callable[[h5py.File], object]:
    """A dataset in the place of another."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=data, **options)

    return change


def attribute(name: str, value: Any) -> Callable[[h5py.File], object]:
    return lambda file: file.attrs.__setitem__(name, value)


def soft_link(file: h5py.File) -> None:
    file.move("fields/grid", "fields/elsewhere")
    file["fields/grid"] = h5py.SoftLink("/fields/elsewhere")


def external_link(file: h5py.File) -> None:
    del file["fields/grid"]
    file["fields/grid"] = h5py.ExternalLink("other.h5", "/fields/grid")


def external_storage(file: h5py.File) -> None:
    del file["fields/grid"]
    file.create_dataset("fields/grid", (4, 2, 3), "<f2", external=[("other.bin", 0, 48)])


def virtual(file: h5py.File) -> None:
    space = h5py.h5s.create_simple((4, 2, 3))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_virtual(space, b"other.h5", b"grid", space)
    create_grid(file, properties)


def compact(file: h5py.File) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    create_grid(file, properties)


def create_grid(file: h5py.File, properties: h5py.h5p.PropDCID) -> None:
    properties.set_obj_track_times(False)
    del file["fields/grid"]
    space, kind = h5py.h5s.create_simple((4, 2, 3)), h5py.h5t.py_create(np.dtype("<f2"))
    h5py.h5d.create(file["fields"].id, b"grid", kind, space, properties)


def off_its_page(file: h5py.File) -> None:
    grid = file["fields/grid"][()]
    del file["fields/grid"]
    file["pad"] = np.zeros(9, np.uint8)
    file["fields/grid"] = grid
    del file["pad"]


def typed_attribute(name: str, dtype: Any, shape: tuple[int, ...] = ()) -> Callable[[h5py.File], object]:
    """The right value in another type."""

    def change(file: h5py.File) -> None:
        value = file.attrs[name]
        del file.attrs[name]
        file.attrs.create(name, value, dtype=dtype, shape=shape)

    return change


def attribute_of(name: str) -> Callable[[h5py.File], object]:
    return lambda file: file[name].attrs.create("note", 1)


def texts(values: list[str | bytes], width_bytes: int) -> Any:
    """A column as the writer has it, of any width and of bytes that it would refuse."""
    content = [value.encode() if isinstance(value, str) else value for value in values]
    return np.array(content, dtype=h5py.string_dtype("utf-8", width_bytes))


def text_attribute(file: h5py.File) -> None:
    """The right text in a type that FORMAT.md forbids."""
    encoder = file.attrs["encoder"].decode()
    del file.attrs["encoder"]
    file.attrs.create("encoder", encoder, dtype=h5py.string_dtype())


def as_dataset(file: h5py.File) -> None:
    del file["fields"]
    file["fields"] = np.zeros(3)


def not_a_number(shards: Shards, feature_set: FeatureSet, row: Row) -> bytes:
    """NaN as a value, and the row's checksum made to fit: what only a look at every value finds."""
    values = dict(row.values or {})
    values["grid"] = values["grid"].copy()
    values["grid"][0, 0] = np.nan
    crc = row_crc32c(row.id, row.digest, row.status, [values[field.name] for field in feature_set.fields])
    content = shards.put("fields/grid", 0, values["grid"].tobytes())
    start = shards.offsets["crc32c"]
    return content[:start] + struct.pack("<I", crc) + content[start + 4 :]


def damaged_shards(feature_set: FeatureSet, rows: list[Row], scratch: Path) -> Iterator[Damage]:
    (path,) = feature_set.shards.iterdir()
    shards = Shards(path, scratch)
    whole, changed = shards.whole, shards.changed
    grid = np.stack([row.values["grid"] for row in rows if row.values is not None])
    corrupt = "CorruptShard"

    def of(name: str, content: bytes, message: str, error: str = corrupt, **more: str) -> Damage:
        return Damage(name=f"{name}.h5", content=content, error=error, message=message, **more)

    # The file itself.
    yield of("truncated", whole[:-4096], "bytes, expected", record="base")
    yield of("truncated-to-a-header", whole[:512], "bytes, expected", record="base")
    yield of("truncated-and-indexed-so", whole[: len(whole) // 2], "not readable as HDF5")
    yield of("longer", whole + b"\0", "bytes, expected", record="base")
    yield of("empty", b"", "0 bytes, expected", record="base")
    yield of("zeros", bytes(len(whole)), "not readable as HDF5")
    yield of("text", b"<html>404</html>\n", "not readable as HDF5")
    yield of("foreign", shards.foreign(), "not a shard of ours")
    yield of("flipped-bit-in-the-signature", shards.flipped(1), "not readable as HDF5")
    yield of("flipped-bit-in-the-superblock", shards.flipped(20), "not readable as HDF5")
    yield of("flipped-bit-in-an-attribute", shards.flipped(whole.index(b"sentifuse-features")), "not readable as HDF5")
    yield of("flipped-bit-in-a-name", shards.flipped(whole.index(b"value_index")), "not readable as HDF5")
    # Attributes.
    later = attribute("version", np.int64(FORMAT_VERSION + 1))
    yield of("future-version", changed(later), "Install a later sentifuse", error="FutureVersion")
    other = attribute("fingerprint", np.bytes_("0" * 64))
    yield of("other-fingerprint", changed(other), "made by another recipe", error="FingerprintMismatch")
    yield of("other-format", changed(attribute("format", np.bytes_("their-features"))), "not a shard of ours")
    yield of("other-encoder", changed(attribute("encoder", np.bytes_("teacher"))), "attributes encoder are not")
    yield of("other-number", changed(attribute("number", np.int64(7))), "attributes number are not")
    yield of("other-recipe", changed(attribute("recipe", np.bytes_("{}"))), "attributes recipe are not")
    yield of("extra-attribute", changed(attribute("note", np.int64(1))), "attributes note are not")
    yield of("missing-attribute", changed(lambda file: file.attrs.__delitem__("format")), "not a shard of ours")
    yield of("variable-length-attribute", changed(text_attribute), "attributes encoder are not")
    ascii_text = np.dtype(f"S{len(feature_set.encoder)}")
    yield of("attribute-in-ascii", changed(typed_attribute("encoder", ascii_text)), "attributes encoder are not")
    yield of("attribute-of-floats", changed(typed_attribute("version", "<f8")), "attributes version are not")
    yield of("attribute-of-32-bits", changed(typed_attribute("number", "<i4")), "attributes number are not")
    yield of("attribute-in-a-list", changed(typed_attribute("number", "<i8", (1,))), "attributes number are not")
    for name in ("ids", "fields/grid", "fields", "fields/states", "fields/states/values"):
        label = f"attribute-of-{name.replace('/', '-')}"
        yield of(label, changed(attribute_of(name)), f"{name}: 1 attributes; only the root group has some")
    # Metadata.
    yield of("superblock-without-checksum", shards.copied("earliest"), "superblock of version 0, expected 3")
    old = changed(instead("fields/grid", grid, track_times=False), libver=("earliest", "v110"))
    yield of("object-without-checksum", old, "fields/grid: its metadata have no checksum")
    # Objects.
    yield of("missing-dataset", changed(lambda file: file.__delitem__("status")), "/: holds")
    yield of("missing-field", changed(lambda file: file.__delitem__("fields/grid")), "fields: holds")
    yield of("extra-dataset", changed(lambda file: file.create_dataset("more", data=[1])), "/: holds")
    yield of("extra-field", changed(lambda file: file.create_dataset("fields/more", data=[1])), "fields: holds")
    yield of("extra-group", changed(lambda file: file.create_group("fields/states/more")), "fields/states: holds")
    yield of("dataset-for-a-group", changed(as_dataset), "fields: holds")
    yield of("soft-link", changed(soft_link), "fields: holds")
    yield of("external-link", changed(external_link), "links: ['grid']")
    yield of("external-storage", changed(external_storage), "not stored as one contiguous piece")
    yield of("virtual-dataset", changed(virtual), "not stored as one contiguous piece")
    yield of("compact-dataset", changed(compact), "not stored as one contiguous piece")
    yield of("chunked", changed(instead("fields/grid", grid, chunks=(1, 2, 3))), "not stored as one contiguous piece")
    yield of("compressed", changed(instead("fields/grid", grid, compression="gzip")), "not stored as one contiguous")
    unaligned = changed(off_its_page, alignment_bytes=1)
    yield of("unaligned", unaligned, "expected a multiple of 4096")
    yield of(
        "wrong-dtype", changed(instead("fields/grid", grid.astype("<f4"))), "fields/grid: float32 (4, 2, 3), expected"
    )
    yield of("big-endian", changed(instead("fields/grid", grid.astype(">f2"))), "fields/grid: >f2")
    yield of("wrong-shape", changed(instead("fields/grid", grid[:3])), "(3, 2, 3), expected float16 (4, 2, 3)")
    yield of("wrong-rank", changed(instead("fields/grid", grid.reshape(4, 6))), "(4, 6), expected float16 (4, 2, 3)")
    yield of(
        "variable-length-strings",
        changed(instead("ids", [row.id for row in rows], dtype=h5py.string_dtype())),
        "ids: dtype object",
    )
    yield of("long-ids", changed(instead("ids", texts([row.id for row in rows], 1025))), "1 to 1024 bytes")
    ids, digests, statuses = ([getattr(row, name) for row in rows] for name in ("id", "digest", "status"))
    in_ascii = "of texts the character set must be UTF-8"
    plain_ids = np.array([row_id.encode() for row_id in ids])
    yield of("ids-in-ascii", changed(instead("ids", plain_ids)), in_ascii)
    yield of("digests-in-ascii", changed(instead("digests", np.array(digests, "S64"))), in_ascii)
    yield of("status-in-ascii", changed(instead("status", np.array(statuses, "S"))), in_ascii)
    yield of("wide-digests", changed(instead("digests", texts(digests, 65))), "fixed length of 64 bytes")
    yield of("wide-status", changed(instead("status", texts(statuses, 241))), "1 to 240 bytes")
    # Columns.
    width = max(len(row.id.encode()) for row in rows)
    yield of("duplicated-id", shards.put("ids", width, shards.whole[shards.offsets["ids"] :][:width]), "an id twice")
    yield of("empty-id", shards.put("ids", 0, bytes(width)), "an id twice or an empty one")
    yield of("id-that-is-no-text", shards.put("ids", 0, b"\xff\xfe"), "UnicodeDecodeError")
    yield of("nul-in-an-id", changed(instead("ids", texts([b"a\0b", *ids[1:]], 3))), "an id with NUL inside")
    no_digest = "neither empty nor 64 lower-case hex digits"
    upper = digests[0].upper().encode()
    yield of("digest-in-capitals", shards.put("digests", 0, upper), no_digest)
    yield of("digest-cut-short", shards.put("digests", 0, digests[0][:63].encode() + b"\0"), no_digest)
    yield of("digest-of-signs", shards.put("digests", 0, b"-" * 64), no_digest)
    wide = max(len(status.encode()) for status in statuses)
    for name, place, text in [
        ("failed-for-no-reason", 4, b"failed"),
        ("failed-for-an-empty-reason", 4, b"failed: "),
        ("failed-on-two-lines", 4, b"failed: out\nof memory"),
        ("missing-for-a-reason", 2, b"missing: why"),
        ("ok-for-a-reason", 0, b"ok: fine"),
        ("ok-with-a-colon", 0, b"ok: "),
    ]:
        yield of(name, shards.put("status", wide * place, text.ljust(wide, b"\0")), "expected ok, missing, unreadable")
    yield of("unknown-status", changed(lambda file: file["status"].__setitem__(0, b"perhaps")), "status: 'perhaps'")
    yield of("other-counts", changed(lambda file: file["status"].__setitem__(0, b"missing")), "status: {")
    yield of("value-index-swapped", shards.put("value_index", 0, struct.pack("<qq", 1, 0)), "it does not number")
    yield of("value-index-of-none", shards.put("value_index", 16, struct.pack("<q", 2)), "it does not number")
    yield of("batch-below", shards.put("batch", 0, struct.pack("<i", -2)), "batch: a number below -1")
    yield of("offsets-from-one", shards.put("fields/states/offsets", 0, struct.pack("<q", 1)), "do not rise from 0")
    yield of("offsets-fall", shards.put("fields/states/offsets", 16, struct.pack("<q", 0)), "do not rise from 0")
    yield of(
        "offsets-beyond", shards.put("fields/states/offsets", 32, struct.pack("<q", 1 << 60)), "fields/states/values"
    )
    yield of(
        "offsets-short",
        changed(instead("fields/states/offsets", np.arange(4, dtype="<i8"))),
        "(4,), expected int64 (5,)",
    )
    # What is right in form.
    more = {"when": "check", "record": "base"}
    first_ids = whole[shards.offsets["ids"] :][: 2 * width]
    yield of("flipped-bit-in-a-value", shards.flipped(shards.offsets["fields/grid"] + 7), "CRC32C", **more)
    yield of("page-of-zeros", shards.put("fields/states/values", 0, bytes(48)), "CRC32C", **more)
    yield of("flipped-bit-in-a-checksum", shards.flipped(shards.offsets["crc32c"] + 2), "CRC32C", **more)
    yield of("reordered-ids", shards.put("ids", 0, first_ids[width:] + first_ids[:width]), "CRC32C", **more)
    yield of("swapped-rows", shards.put("fields/grid", 0, grid[1].tobytes() + grid[0].tobytes()), "CRC32C", **more)
    yield of("other-digest", shards.put("digests", 0, b"0" * 64), "CRC32C", **more)
    failed = whole.index(b"failed: out", shards.offsets["status"]) - shards.offsets["status"]
    yield of("other-reason", shards.put("status", failed, b"failed: but"), "CRC32C", **more)
    yield of("offsets-shifted", shards.put("fields/states/offsets", 8, struct.pack("<q", 2)), "CRC32C", **more)
    yield of("not-a-number", not_a_number(shards, feature_set, rows[0]), "NaN", error="verify", when="verify")
    yield of("other-batch", shards.put("batch", 0, struct.pack("<i", 2)), "shard 0", error="verify", when="verify")
    padding = shards.offsets["ids"] + 4000
    yield of("flipped-bit-in-padding", shards.flipped(padding), "padding", error="verify", when="verify", record="base")
