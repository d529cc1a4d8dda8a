"""Draws the figures of cache_speed.py."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

SHOWN = {
    "memcpy": "memcpy of the delivered bytes",
    "ours": "ours",
    "ours_resident": "ours, resident in RAM",
    "ours_h5py": "ours, --reader h5py",
    "arrow": "Arrow, per item",
    "npy_maps": ".npy maps, per item",
    "h5py_with_care": "h5py, datasets kept",
    "naive": "h5py, as people write it",
    "naive_2_workers": "the same, 2 workers",
}


def draw(document: dict[str, Any], path: Path) -> None:
    """Samples per second by reader and m; time per batch and memory by number of pairs."""
    figure, (speed, time_axis, memory) = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    regions = list(document["ours"])
    height = 0.8 / len(regions)
    names = [name for name in SHOWN if name in document]
    for place, m in enumerate(regions):
        values = [document[name][m]["samples_per_s"] for name in names]
        places = [row + (place - (len(regions) - 1) / 2) * height for row in range(len(names))]
        speed.barh(places, values, height=height, label=f"{m[1:]} regions")
    speed.set_yticks(range(len(names)), [SHOWN[name] for name in names])
    speed.invert_yaxis()
    speed.set_xscale("log")
    speed.set_xlabel("pairs per second, shuffled batches of 64, one thread")
    speed.legend()
    for kind, label in (("usual", "36 × 2048 regions"), ("small", "36 × 128 regions")):
        rows = [row for row in document["growth"] if row["kind"] == kind]
        if not rows:
            continue
        pairs = [row["pairs"] for row in rows]
        (line,) = time_axis.plot(pairs, [row["cpu_ms"] for row in rows], marker="o", label=label)
        private, store = ([row["rss_anon_mb"] for row in rows], [row["store_gb"] * 1e3 for row in rows])
        memory.plot(pairs, private, marker="o", color=line.get_color(), label=f"{label}: anonymous memory")
        memory.plot(pairs, store, linestyle=":", color=line.get_color(), label=f"{label}: the store itself")
    time_axis.set_ylabel("ms a batch of 64 (processor)")
    memory.set_ylabel("MB")
    memory.set_yscale("log")
    time_axis.set_ylim(bottom=0)
    for axis in (time_axis, memory):
        axis.set_xscale("log", base=2)
        axis.set_xlabel("pairs in the store")
        ticks = sorted({row["pairs"] for row in document["growth"]})
        axis.set_xticks(ticks, [f"{pairs:,}" for pairs in ticks])
        axis.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
