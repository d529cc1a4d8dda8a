"""The cache against the disk: first reads with an empty page cache, and writing beside `dd conv=fsync`."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import stores
from output import say

from sentifuse.cache.featureset import create_feature_set
from sentifuse.cache.writer import FeatureWriter
from sentifuse.fuse.features.batches import BatchSource

PIECE_BYTES = 4 << 20


def cold_reads(cache_dir: Path, pairs: int, *, repeats: int) -> dict[str, float]:
    """Bytes per second of a plain read in order, and of ours: open, read and prove every row (then nothing is cold).

    `…_with_epoch` goes on to the end of one shuffled epoch. The disk's own rate differs from one minute to the next, so
    the two take turns and ratios are given of the best and of the median.
    """
    files = sorted(cache_dir.glob("*/shards/*.h5"))
    size = sum(file.stat().st_size for file in files)
    plain, ours, proofs = [], [], []
    for _ in range(repeats):
        _drop(files)
        started = time.perf_counter()
        for file in files:
            _read(file)
        plain.append(time.perf_counter() - started)
        _drop(files)
        started = time.perf_counter()
        proofs.append(_first_epoch(cache_dir, pairs) - started)
        ours.append(time.perf_counter() - started)
    found = {
        "size_gb": size / 1e9,
        "sequential_gb_per_s": size / min(plain) / 1e9,
        "ours_gb_per_s": size / min(proofs) / 1e9,
        "ratio_sequential": min(plain) / min(proofs),
        "ratio_sequential_median": float(np.median(plain) / np.median(proofs)),
        "ratio_sequential_with_epoch": min(plain) / min(ours),
        "ratio_sequential_with_epoch_median": float(np.median(plain) / np.median(ours)),
    }
    say(f"\ncold: {found}")
    return found


def writer_speed(folder: Path, *, size_bytes: int, repeats: int) -> dict[str, float]:
    """Our writer, checksums and fsyncs included, beside `dd conv=fsync` of as many bytes, by turns in one folder."""
    sizes = stores.Sizes()
    folder.mkdir(parents=True, exist_ok=True)
    counts = stores.token_counts(stores.SHARD_PAIRS)
    _, block = next(stores.blocks(stores.SHARD_PAIRS, sizes))
    shard_bytes = sum(array.nbytes for array in block.values())
    shards = max(1, size_bytes // shard_bytes)
    pairs = (range(number * len(counts), (number + 1) * len(counts)) for number in range(shards))
    many = np.concatenate([counts] * shards)
    rows = [stores.rows_of(part, many, block) for part in pairs]
    dd, ours = [], []
    for _ in range(repeats):
        dd.append(_dd(folder / "dd.bin", shards * shard_bytes))
        started = time.perf_counter()
        for encoder, fields in sizes.fields().items():
            feature_set = create_feature_set(folder / "ours", encoder=encoder, recipe={"e": encoder}, fields=fields)
            with FeatureWriter(feature_set) as writer:
                for number, shard in enumerate(rows):
                    writer.commit(writer.stage(number, shard[encoder]))
        ours.append(time.perf_counter() - started)
        shutil.rmtree(folder / "ours")
    shutil.rmtree(folder)
    rates = {"dd_gb_per_s": dd, "ours_gb_per_s": ours}
    found = {name: shards * shard_bytes / min(taken) / 1e9 for name, taken in rates.items()}
    found |= {"size_gb": shards * shard_bytes / 1e9, "ratio_dd": min(dd) / min(ours)}
    found["ratio_dd_median"] = float(np.median(dd) / np.median(ours))
    say(f"writer: {found}")
    return found


def _dd(path: Path, size_bytes: int) -> float:
    blocks = size_bytes // PIECE_BYTES
    command = ["dd", "if=/dev/zero", f"of={path}", f"bs={PIECE_BYTES}", f"count={blocks}", "conv=fsync", "status=none"]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    taken = time.perf_counter() - started
    path.unlink()
    return taken * size_bytes / (blocks * PIECE_BYTES)


def _drop(files: list[Path]) -> None:
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _read(file: Path) -> None:
    with file.open("rb", buffering=0) as opened:
        buffer = bytearray(PIECE_BYTES)
        while opened.readinto(buffer):
            pass


def _first_epoch(cache_dir: Path, pairs: int) -> float:
    """Open, prove, read every pair once; when the proving was done."""
    readers = stores.open_ours(cache_dir)
    for reader in readers.values():
        reader.prove()
    proven = time.perf_counter()
    source = BatchSource(readers, stores.requests(36), stores.pair_ids(pairs), reuse=True)
    order = np.random.default_rng(0).permutation(pairs)
    for batch in source.stream([order[start : start + 64] for start in range(0, pairs, 64)]):
        del batch
    return proven
