"""Pictures of results, readable at half their size. Draws what it is given and computes nothing but shares."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sentifuse.data import files
from sentifuse.fuse.embed import to_png

DPI = 150
CELL_INCHES = 1.35


def draw_confusion(path: Path, confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Path:
    """A confusion matrix as PNG: rows true, columns predicted, each cell its count and its share of the row."""
    counts = np.array(confusion, dtype=np.int64)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    k = len(classes)
    side = max(5.0, CELL_INCHES * k + 2.0)
    figure = Figure(figsize=(side, side * 0.92), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row in range(k):
        for column in range(k):
            colour = "white" if shares[row, column] > 0.55 else "black"
            text = f"{counts[row, column]:,}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=15)
    axes.set_xticks(range(k), classes, fontsize=13, rotation=0 if k <= 4 else 45, ha="center" if k <= 4 else "right")
    axes.set_yticks(range(k), [f"{name}\n({n:,})" for name, n in zip(classes, counts.sum(1), strict=True)], fontsize=13)
    axes.set_xlabel("predicted", fontsize=14)
    axes.set_ylabel("true (pairs)", fontsize=14)
    axes.set_title(title, fontsize=12)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    files.write_bytes(path, to_png(figure))
    return path
