"""Synthetic pairs on disk: our feature sets, and the same numbers as an HDF5 file, .npy files and an Arrow file."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa

from sentifuse.cache.current import write_current
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter
from sentifuse.data.card import Card, write_card
from sentifuse.data.labels import write_annotations
from sentifuse.data.manifest import Manifest, Pair, write_manifest
from sentifuse.data.source import Annotation
from sentifuse.fuse.features.batches import FieldRequest

SHARD_PAIRS = 1024


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What one pair is made of; the usual features unless said otherwise."""

    regions: int = 36
    region_width: int = 2048
    token_width: int = 768
    context_width: int = 512

    @property
    def pair_bytes(self) -> int:
        """On average: 20 words a pair."""
        return 2 * (self.regions * self.region_width + 20 * self.token_width) + 4 * self.context_width

    def fields(self) -> dict[str, tuple[Field, ...]]:
        return {
            "tokens": (Field(name="states", dtype="float16", shape=(self.token_width,), is_ragged=True),),
            "context": (Field(name="vector", dtype="float32", shape=(self.context_width,)),),
            "regions": (Field(name="features", dtype="float16", shape=(self.regions, self.region_width)),),
        }


SMALL = Sizes(region_width=128, token_width=48, context_width=32)


def requests(m: int) -> tuple[FieldRequest, ...]:
    """What a head with m regions reads."""
    return (
        FieldRequest(encoder="tokens", field="states"),
        FieldRequest(encoder="context", field="vector"),
        FieldRequest(encoder="regions", field="features", limit=m),
    )


def pair_ids(n: int) -> list[str]:
    return [f"{number:08d}" for number in range(n)]


def token_counts(n: int) -> np.ndarray:
    """Words of each pair: 3 to 64, 20 on average, as in tweets."""
    return np.clip(np.random.default_rng(0).gamma(4.0, 5.0, size=n), 3, 64).astype(np.int64)


def blocks(n: int, sizes: Sizes) -> Iterator[tuple[range, dict[str, np.ndarray]]]:
    """Numbers of a shard's pairs at a time: "regions" (V, R, D), "tokens" (T, D), "context" (V, D)."""
    counts = token_counts(n)
    for start in range(0, n, SHARD_PAIRS):
        pairs = range(start, min(n, start + SHARD_PAIRS))
        rng = np.random.default_rng(start)
        words = int(counts[pairs.start : pairs.stop].sum())
        yield (
            pairs,
            {
                "regions": rng.random((len(pairs), sizes.regions, sizes.region_width), dtype=np.float32).astype(
                    np.float16
                ),
                "tokens": rng.random((words, sizes.token_width), dtype=np.float32).astype(np.float16),
                "context": rng.random((len(pairs), sizes.context_width), dtype=np.float32),
            },
        )


def rows_of(pairs: range, counts: np.ndarray, block: dict[str, np.ndarray]) -> dict[str, list[Row]]:
    """Rows of a block by encoder."""
    ids = [f"{number:08d}" for number in pairs]
    digests = [hashlib.sha256(row_id.encode()).hexdigest() for row_id in ids]
    words = np.split(block["tokens"], np.cumsum(counts[pairs.start : pairs.stop])[:-1])
    parts = {
        "tokens": [{"states": value} for value in words],
        "context": [{"vector": value} for value in block["context"]],
        "regions": [{"features": value} for value in block["regions"]],
    }
    return {
        encoder: [
            Row(id=row_id, digest=digest, status="ok", values=value)
            for row_id, digest, value in zip(ids, digests, values, strict=True)
        ]
        for encoder, values in parts.items()
    }


def write_ours(cache_dir: Path, n: int, sizes: Sizes) -> dict[str, FeatureSet]:
    """Feature sets of n pairs, 1,024 a shard."""
    counts = token_counts(n)
    sets = {
        encoder: create_feature_set(cache_dir, encoder=encoder, recipe={"bench": encoder}, fields=fields)
        for encoder, fields in sizes.fields().items()
    }
    for number, (pairs, block) in enumerate(blocks(n, sizes)):
        for encoder, rows in rows_of(pairs, counts, block).items():
            with FeatureWriter(sets[encoder]) as writer:
                writer.commit(writer.stage(number, rows))
    return sets


def open_ours(cache_dir: Path, reader: str = "mmap") -> dict[str, FeatureReader]:
    """Readers of what `write_ours` wrote."""
    folders = sorted(path for path in cache_dir.iterdir() if path.is_dir())
    readers = [FeatureReader(folder, reader=reader) for folder in folders]
    return {found.encoder: found for found in readers}


def write_others(folder: Path, n: int, sizes: Sizes) -> None:
    """The same pairs for the rivals: store.h5 (contiguous), *.npy, pairs.arrow."""
    folder.mkdir(parents=True, exist_ok=True)
    offsets = np.concatenate([[0], np.cumsum(token_counts(n))])
    shapes = {
        "regions": ((n, sizes.regions, sizes.region_width), "f2"),
        "tokens": ((int(offsets[-1]), sizes.token_width), "f2"),
        "context": ((n, sizes.context_width), "f4"),
    }
    np.save(folder / "offsets.npy", offsets)
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
        for name, (shape, dtype) in shapes.items()
    }
    schema = pa.schema(
        [
            ("regions", pa.list_(pa.float16(), sizes.regions * sizes.region_width)),
            ("tokens", pa.large_list(pa.float16())),
            ("context", pa.list_(pa.float32(), sizes.context_width)),
        ]
    )
    with h5py.File(folder / "store.h5", "w") as file, pa.OSFile(str(folder / "pairs.arrow"), "wb") as sink:
        datasets = {
            name: file.create_dataset(name, shape=shape, dtype=dtype) for name, (shape, dtype) in shapes.items()
        }
        file.create_dataset("offsets", data=offsets)
        with pa.ipc.new_file(sink, schema) as arrow:
            for pairs, block in blocks(n, sizes):
                words = slice(int(offsets[pairs.start]), int(offsets[pairs.stop]))
                places = {"regions": slice(pairs.start, pairs.stop), "context": slice(pairs.start, pairs.stop)}
                for name, place in {**places, "tokens": words}.items():
                    datasets[name][place] = block[name]
                    arrays[name][place] = block[name]
                arrow.write_batch(_record_batch(schema, block, offsets[pairs.start : pairs.stop + 1], sizes))
    for array in arrays.values():
        array.flush()


def _record_batch(schema: pa.Schema, block: dict[str, np.ndarray], offsets: np.ndarray, sizes: Sizes) -> pa.RecordBatch:
    tokens = pa.LargeListArray.from_arrays(
        pa.array((offsets - offsets[0]) * sizes.token_width), pa.array(block["tokens"].reshape(-1))
    )
    regions = pa.FixedSizeListArray.from_arrays(
        pa.array(block["regions"].reshape(-1)), sizes.regions * sizes.region_width
    )
    context = pa.FixedSizeListArray.from_arrays(pa.array(block["context"].reshape(-1)), sizes.context_width)
    return pa.record_batch([regions, tokens, context], schema=schema)


def write_dataset(artifacts: Path, name: str, n: int, sizes: Sizes) -> None:
    """A prepared and extracted dataset of n pairs with labels by turns, ready for `train`."""
    folder = artifacts / "datasets" / name
    digests = {row_id: hashlib.sha256(row_id.encode()).hexdigest() for row_id in pair_ids(n)}
    pairs = tuple(
        Pair(
            id=row_id,
            image_path=f"{row_id}.png",
            text=row_id,
            text_encoding="utf-8",
            image_digest=digest,
            text_digest=digest,
            image_status="ok",
            text_status="ok",
        )
        for row_id, digest in digests.items()
    )
    write_manifest(folder, Manifest(folder, pairs))
    classes = ("negative", "neutral", "positive")
    write_annotations(folder, [Annotation(row_id, "pair", 0, classes[int(row_id) % 3]) for row_id in digests])
    write_card(
        folder,
        Card(
            name=name,
            reader="pairs",
            source="synthetic",
            root=str(folder),
            encoding="utf-8",
            classes=classes,
            rule="given",
            protocol="random",
            seed=0,
            counts={},
        ),
    )
    sets = write_ours(artifacts / "cache" / name, n, sizes)
    write_current(artifacts / "cache" / name, {key: found.directory.name for key, found in sets.items()}, "synthetic")
