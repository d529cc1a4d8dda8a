"""The detector in miniature against golden numbers that travel with the package: is what is installed here right?

A network of all the parts in small, on one small picture, takes half a second. Its weights follow the golden rule, but
layers that the rule gives a fixed factor are widened as their inputs are fewer, so that what comes out keeps its range
and classes, boxes and attributes are as lively as in the real size. The picture is of a size at which rounding a side
up or down matters; the seed, an even one, is of those at which small boxes, several classes and background appear.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sentifuse import DataError
from sentifuse.extract.detector.architecture import VISUAL_GENOME, Architecture, tensor_specs
from sentifuse.extract.detector.arithmetic import build_stages
from sentifuse.extract.detector.detector import Detector, Regions
from sentifuse.extract.detector.golden.comparison import compare, compare_regions
from sentifuse.extract.detector.golden.file import GoldenFile, read_golden
from sentifuse.extract.detector.golden.limits import LIMITS, Deviation, Limits
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.detector.golden.writer import write_golden
from sentifuse.extract.detector.preprocess import PreparedImage

__all__ = [
    "MINIATURE",
    "SEED",
    "check_regions",
    "check_stages",
    "limits_of_miniature",
    "miniature_golden",
    "miniature_weights",
    "write_miniature",
]

SEED = 148
MINIATURE = Architecture(
    depths=(1, 1, 2, 2),
    base_width=4,
    proposal_width=16,
    class_count=400,
    attribute_count=40,
    embedding_width=4,
    attribute_width=8,
)
FIXED_FACTOR = ("objectness_logits", "anchor_deltas", "cls_score", "bbox_pred", "attr_score")
HEAD_VALUES = 2
SAME = 1e-5  # what a region may differ by when other images are beside it
FILE = Path(__file__).with_name(f"miniature_s{SEED}.npz")
PICTURE = Path(__file__).with_name("miniature.png")


def check_stages(arithmetic: str, *, device: str = "cpu", with_regions: bool = True) -> list[Deviation]:
    """Deviations of every stage of the miniature network, in the order of computing.

    Parameters
    ----------
    arithmetic
        One of `ARITHMETICS`; "fast" and "fastest" are held against the limits of half precision.
    with_regions
        Also what follows the pooled crops.
    """
    stages = build_stages(miniature_weights(), MINIATURE, device=torch.device(device), arithmetic=arithmetic)
    return compare(stages, miniature_golden(), limits_of_miniature(arithmetic), with_regions=with_regions)


def check_regions(arithmetic: str, *, device: str = "cpu") -> list[Deviation]:
    """Deviations of what the detector gives of the picture, alone and behind another picture."""
    golden, limits = miniature_golden(), limits_of_miniature(arithmetic)
    detector = Detector(miniature_weights(), sizes=MINIATURE, device=device, arithmetic=arithmetic)
    picture = golden.open_image()
    mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    prepared, other = detector.prepare(picture), detector.prepare(mirrored)
    alone, together = _last(detector, [prepared]), _last(detector, [other, prepared])
    return [
        *compare_regions(alone, golden, limits, stage="regions"),
        *compare_regions(together, golden, limits, stage="in a batch"),
        *_differences(alone, together),
    ]


def _last(detector: Detector, batch: list[PreparedImage]) -> Regions:
    found = detector.detect(batch)[-1]
    if isinstance(found, DataError):
        raise found
    return found


def limits_of_miniature(arithmetic: str) -> Limits:
    """The limits of the smooth profile, but narrower: so few sums leave little room for rounding."""
    if arithmetic == "float64":
        return LIMITS["float64"]
    if arithmetic in ("fast", "fastest"):
        return LIMITS["reduced"]
    return replace(
        LIMITS["smooth"], early=2e-5, res4=2e-5, head=5e-5, box_px=5e-3, proposals_found=1.0, feature=5e-5, score=2e-5
    )


def miniature_weights(seed: int = SEED, sizes: Architecture = MINIATURE) -> dict[str, Tensor]:
    """Weights by the golden rule, the layers with fixed factors widened."""
    full = tensor_specs(VISUAL_GENOME)
    state = {}
    for key, value in synthetic_weights(seed, sizes).items():
        layer, _, part = key.rpartition(".")
        if part == "weight" and layer.rpartition(".")[2] in FIXED_FACTOR:
            value = (value * np.sqrt(full[key].shape[1] / value.shape[1])).astype(np.float32)
        state[key] = torch.from_numpy(value)
    return state


@cache
def miniature_golden() -> GoldenFile:
    """The golden numbers in the package.

    Raises
    ------
    DataError
        They are not there, or not whole: the installation is torn.
    """
    return read_golden(FILE, sizes=MINIATURE)


def write_miniature(folder: Path) -> Path:
    """Compute the numbers in the package anew, into a folder that has the picture already; after a change of format."""
    file = folder / FILE.name
    write_golden(
        file, folder / PICTURE.name, seed=SEED, sizes=MINIATURE, state=miniature_weights(), head_values=HEAD_VALUES
    )
    return file


def _differences(alone: Regions, together: Regions) -> Iterator[Deviation]:
    quantity = "alone or together"
    if len(alone) != len(together) or not np.array_equal(alone.anchors, together.anchors):
        yield Deviation(stage="in a batch", quantity=quantity, value=np.nan, limit=SAME)
        return
    for name in ("features", "boxes", "class_scores"):
        largest = float(np.abs(getattr(alone, name) - getattr(together, name)).max(initial=0.0))
        yield Deviation(stage="in a batch", quantity=f"{quantity}, {name}", value=largest, limit=SAME)
