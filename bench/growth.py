"""What reading costs in memory, and whether memory and time per batch stay the same while the store grows.

Each measurement is a process of its own: what one reader took must not be counted for the next.
"""

import multiprocessing
import shutil
import time
from pathlib import Path
from typing import Any

import clock
import numpy as np
import rivals
import stores
import torch
from output import say

from sentifuse.fuse.features.batches import BatchSource

BATCHES = 40


def memory_of_readers(folder: Path, pairs: int, sizes: stores.Sizes) -> dict[str, dict[str, int]]:
    """RssAnon and peak of a process that read 40 batches of m = 36, beside one that only imported the libraries."""
    found = {}
    for name in ("nothing", "ours", "naive", "npy_maps", "arrow"):
        found[name] = _in_process(_read_some, name, folder, pairs, sizes)
        say(f"memory, {name}: " + ", ".join(f"{key} {value / 1e6:,.0f} MB" for key, value in found[name].items()))
    return found


def by_pairs(folder: Path, *, is_quick: bool) -> list[dict[str, Any]]:
    """Memory and time per batch by number of pairs; the whole features up to 16k, small ones up to 64k."""
    small = (256, 512) if is_quick else (1024, 4096, 16384, 65536)
    usual = () if is_quick else (1024, 4096, 16384)
    found = []
    for kind, sizes, counts in (("small", stores.SMALL, small), ("usual", stores.Sizes(), usual)):
        for pairs in counts:
            store = folder / f"growth_{kind}_{pairs}"
            stores.write_ours(store, pairs, sizes)
            measured = _in_process(_grow, store, pairs)
            shutil.rmtree(store)
            found.append({"kind": kind, "pairs": pairs, "store_gb": pairs * sizes.pair_bytes / 1e9, **measured})
            say(f"growth: {found[-1]}")
    return found


def _in_process(function: Any, *arguments: Any) -> Any:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        result = pool.apply(function, arguments)
        pool.close()
        pool.join()
    return result


def _read_some(name: str, folder: Path, pairs: int, sizes: stores.Sizes) -> dict[str, int]:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    plan = [rng.permutation(pairs)[:64] for _ in range(BATCHES)]
    others = folder / "others"
    if name == "ours":
        source = BatchSource(stores.open_ours(folder / "ours"), stores.requests(36), stores.pair_ids(pairs), reuse=True)
        batches: Any = map(source.gather, plan)
    elif name == "naive":
        batches = rivals.by_items(rivals.Hdf5Items(others, 36, with_care=False))(plan)
    elif name == "npy_maps":
        batches = rivals.by_items(rivals.MappedItems(others, 36))(plan)
    elif name == "arrow":
        batches = rivals.by_items(rivals.ArrowItems(others, 36, sizes))(plan)
    else:
        batches = ()
    for batch in batches:
        del batch
    return clock.memory_of()


def _grow(store: Path, pairs: int) -> dict[str, float]:
    torch.set_num_threads(1)
    before = clock.memory_of()["RssAnon"]
    started = time.perf_counter()
    readers = stores.open_ours(store)
    opened = time.perf_counter()
    ids = stores.pair_ids(pairs)
    source = BatchSource(readers, stores.requests(36), ids, reuse=True)
    prepared = time.perf_counter()
    for reader in readers.values():
        reader.prove()
    proven = time.perf_counter()
    after_open = clock.memory_of()["RssAnon"]
    order = np.random.default_rng(0).permutation(pairs)
    plan = [order[start : start + 64] for start in range(0, pairs, 64)][:160]
    for rows in plan:
        source.gather(rows)
    best = clock.best_of({"gather": lambda: map(source.gather, plan[:BATCHES])}, 9)["gather"]
    return {
        "open_s": opened - started,
        "source_s": prepared - opened,
        "prove_s": proven - prepared,
        "rss_anon_mb": clock.memory_of()["RssAnon"] / 1e6,
        "bytes_per_pair": (after_open - before) / pairs,
        "cpu_ms": 1e3 * best["cpu_s"] / len(plan[:BATCHES]),
        "wall_ms": 1e3 * best["wall_s"] / len(plan[:BATCHES]),
    }
