"""How fast the feature cache is, beside what people write today, maps, and a plain copy of memory, in one run.

python bench/cache_speed.py [--quick] [--pairs 4096] [--folder artifacts/bench/stores] [--keep]

Prints a table, writes artifacts/bench/cache.json and cache.png. Processor time is of one thread (of all processes with
workers), best of interleaved repeats; wall time is beside it. Nothing passes or fails here.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clock
import disk
import growth
import numpy as np
import picture
import rivals
import stores
import torch
from output import say

from sentifuse.fuse.features.batches import BatchSource

BATCH = 64
BATCHES = 64  # in one repeat: enough that the caches which the reader before left behind do not matter
REGIONS = (36, 8, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--folder", type=Path, help="where the stores are written; default: ARTIFACTS/bench/stores")
    parser.add_argument("--pairs", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="small stores, two repeats: does it still run?")
    parser.add_argument("--keep", action="store_true", help="leave the stores on the disk")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.folder or arguments.artifacts / "bench" / "stores"
    pairs, repeats = (256, 2) if arguments.quick else (arguments.pairs, arguments.repeats)
    try:
        document = run(folder, pairs, repeats, is_quick=arguments.quick)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    results = arguments.artifacts / "bench"
    results.mkdir(parents=True, exist_ok=True)
    (results / "cache.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    picture.draw(document, results / "cache.png")
    say(f"written: {results / 'cache.json'}, {results / 'cache.png'}")


def run(folder: Path, pairs: int, repeats: int, *, is_quick: bool) -> dict[str, Any]:
    """All parts, as one JSON object."""
    sizes = stores.SMALL if is_quick else stores.Sizes()
    document: dict[str, Any] = {"machine": clock.machine(), "pairs": pairs, "batch": BATCH, "quick": is_quick}
    say(f"machine: {document['machine']}")
    say(f"writing {pairs:,} pairs of {sizes.pair_bytes / 1e3:.0f} KB, three times over …")
    stores.write_ours(folder / "ours", pairs, sizes)
    stores.write_others(folder / "others", pairs, sizes)
    document |= readers(folder, pairs, sizes, repeats)
    document["memory"] = growth.memory_of_readers(folder, pairs, sizes)
    document["cold"] = disk.cold_reads(folder / "ours", pairs, repeats=2 if is_quick else 6)
    shutil.rmtree(folder / "others")
    document["writer"] = disk.writer_speed(
        folder / "written", size_bytes=32 << 20 if is_quick else 2 << 30, repeats=2 if is_quick else 4
    )
    document["growth"] = growth.by_pairs(folder, is_quick=is_quick)
    return document


def readers(folder: Path, pairs: int, sizes: stores.Sizes, repeats: int) -> dict[str, Any]:
    """Every reader at every m: {reader: {"m36": figures}}."""
    found: dict[str, Any] = {}
    order = np.random.default_rng(0).permutation(pairs)[: BATCH * BATCHES]
    plan = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    for m in REGIONS:
        calls, delivered = _calls(folder, pairs, sizes, m, plan)
        for call in calls.values():
            for _ in call():  # workers are started and pages are touched before anything is timed
                pass
        best = clock.best_of(calls, repeats)
        say(f"\nm = {m}: {np.mean(delivered) / 1e6:.1f} MB a batch\n{HEADER}")
        for name in best:
            found.setdefault(name, {})[f"m{m}"] = figures = _figures(best, name, len(plan), sum(delivered))
            say(_line(name, figures))
    return found


def _calls(
    folder: Path, pairs: int, sizes: stores.Sizes, m: int, plan: list[Any]
) -> tuple[dict[str, Callable[[], Iterator[Any]]], list[int]]:
    opened = stores.open_ours(folder / "ours")
    through_hdf5 = stores.open_ours(folder / "ours", reader="h5py")
    ids, wanted = stores.pair_ids(pairs), stores.requests(m)

    def source(readers: Any, **settings: Any) -> BatchSource:
        return BatchSource(readers, wanted, ids, reuse=True, **settings)

    ours = source(opened)
    delivered = [
        sum(value.nbytes for value in (*batch.values.values(), *batch.masks.values()))
        for batch in map(ours.gather, plan)
    ]
    others = folder / "others"
    naive = rivals.Hdf5Items(others, m, with_care=False)
    read: dict[str, Callable[[list[Any]], Iterator[Any]]] = {
        "memcpy": rivals.Memcpy(delivered),
        "ours": lambda rows: map(ours.gather, rows),
        "ours_fresh": lambda rows: (ours.gather(chosen, copy=True) for chosen in rows),
        "ours_stream": ours.stream,
        "ours_bfloat16": _gather(source(opened, dtype=torch.bfloat16)),
        "ours_resident": _gather(source(opened, resident="ram")),
        "ours_h5py": _gather(source(through_hdf5)),
        "naive": rivals.by_items(naive),
        "naive_2_workers": rivals.by_workers(naive, 2),
        "h5py_with_care": rivals.by_items(rivals.Hdf5Items(others, m, with_care=True)),
        "npy_maps": rivals.by_items(rivals.MappedItems(others, m)),
        "arrow": rivals.by_items(rivals.ArrowItems(others, m, sizes)),
    }
    return {name: (lambda call=call: call(plan)) for name, call in read.items()}, delivered


def _gather(source: BatchSource) -> Callable[[list[Any]], Iterator[Any]]:
    return lambda rows: map(source.gather, rows)


HEADER = "reader             samples/s    GB/s  CPU ms  wall ms   of memcpy  × naive  × Arrow  × .npy"


def _figures(best: dict[str, dict[str, float]], name: str, batches: int, delivered_bytes: int) -> dict[str, float]:
    """Ratios by processor time: 2 means twice as fast as the other."""
    taken = best[name]
    figures = {
        "samples_per_s": batches * BATCH / taken["wall_s"],
        "gb_per_s": delivered_bytes / taken["wall_s"] / 1e9,
        "cpu_ms": 1e3 * taken["cpu_s"] / batches,
        "wall_ms": 1e3 * taken["wall_s"] / batches,
    }
    for other, key in (("memcpy", "memcpy"), ("naive", "naive"), ("arrow", "arrow"), ("npy_maps", "npy")):
        figures[f"ratio_{key}"] = best[other]["cpu_s"] / taken["cpu_s"]
        figures[f"ratio_{key}_wall"] = best[other]["wall_s"] / taken["wall_s"]
    return {key: round(value, 4) for key, value in figures.items()}


def _line(name: str, f: dict[str, float]) -> str:
    return (
        f"{name:<17} {f['samples_per_s']:>10,.0f} {f['gb_per_s']:>7.2f} {f['cpu_ms']:>7.2f} {f['wall_ms']:>8.2f} "
        f"{f['ratio_memcpy']:>11.2f} {f['ratio_naive']:>8.1f} {f['ratio_arrow']:>8.2f} {f['ratio_npy']:>7.2f}"
    )


if __name__ == "__main__":
    main()
