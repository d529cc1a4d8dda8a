"""Draws the figures of regions_speed.py."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from regions_stages import STAGES

PARTS = ("backbone", "RPN", "res5")


def draw(document: dict[str, Any], path: Path) -> None:
    """Processor time by stage, by number of proposals, and how near the peak each part runs."""
    figure, (time_axis, count_axis, peak_axis) = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    _draw_stages(time_axis, document)
    _draw_proposals(count_axis, document)
    _draw_peaks(peak_axis, document)
    machine = document["machine"]
    figure.suptitle(f"{machine['cpu']}, {document['threads']} threads, torch {machine['torch']}")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_stages(axis: Any, document: dict[str, Any]) -> None:
    names = list(document["stages"])
    colours = plt.get_cmap("tab10")
    start = [0.0] * len(names)
    for place, stage in enumerate(STAGES):
        values = [document["stages"][name].get(stage, {}).get("cpu_s", 0.0) for name in names]
        if max(values) < 0.02 * max(sum(taken["cpu_s"] for taken in document["stages"]["naive"].values()), 1e-9):
            continue  # no wider than a line
        axis.barh(names, values, left=start, label=stage, color=colours(place))
        start = [low + value for low, value in zip(start, values, strict=True)]
    for name, end in zip(names, start, strict=True):
        speed = document["speed"][name]
        axis.text(end, name, f" {speed['cpu_s']:.1f} s, ×{speed['ratio_cpu_s']:.1f}", va="center")
    axis.set_xlim(right=1.25 * max(start))
    axis.invert_yaxis()
    axis.set_xlabel("processor seconds an image")
    axis.legend(loc="lower right")


def _draw_proposals(axis: Any, document: dict[str, Any]) -> None:
    counts: list[int] = []
    for name, by_count in document["proposals"].items():
        counts = [int(count) for count in by_count]
        seconds = [found["cpu_s"] for found in by_count.values()]
        axis.plot(counts, seconds, marker="o", label=name)
        for count, second, found in zip(counts, seconds, by_count.values(), strict=True):
            axis.annotate(f"{found['regions_kept']:.0%}", (count, second), textcoords="offset points", xytext=(4, -12))
    axis.set_xticks(counts)
    axis.set_xlim(0, 1.12 * max(counts))
    axis.set_ylim(bottom=0)
    axis.set_xlabel("proposals (%: of the regions found with the most, found again)")
    axis.set_ylabel("processor seconds an image")
    axis.legend()


def _draw_peaks(axis: Any, document: dict[str, Any]) -> None:
    cost = document["cost"]
    names = list(cost["gflops_per_core"])
    height = 0.8 / len(names)
    for place, name in enumerate(names):
        rates = cost["gflops_per_core"][name]
        places = [row + (place - (len(names) - 1) / 2) * height for row in range(len(PARTS))]
        axis.barh(places, [rates[part]["nominal"] for part in PARTS], height=height, label=name)
        done = [rates[part]["done"] for part in PARTS]
        axis.barh(places, done, height=height, facecolor="none", edgecolor="black", hatch="//")
    for dtype, rate in document["peak_gflops_per_core"].items():
        axis.axvline(rate, color="grey", linestyle=":")
        axis.text(rate, 1.01, dtype, transform=axis.get_xaxis_transform(), ha="center", color="grey", fontsize=8)
    axis.set_yticks(range(len(PARTS)), PARTS)
    axis.invert_yaxis()
    axis.set_xlabel("GFLOP/s of one core (hatched: really done; dotted: peak)")
    axis.legend(loc="upper right")
