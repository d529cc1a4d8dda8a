"""The detector's sizes and weights for a benchmark: those of Visual Genome, or a miniature that shows that it runs."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from sentifuse.extract.detector.architecture import VISUAL_GENOME, Architecture
from sentifuse.extract.detector.golden.rule import synthetic_weights

SEED = 101  # smooth: nearly as tame as a trained network


def sizes(*, is_miniature: bool) -> Architecture:
    """Of the network."""
    if not is_miniature:
        return VISUAL_GENOME
    return Architecture(
        depths=(1, 1, 2, 2),
        base_width=4,
        proposal_width=16,
        class_count=12,
        attribute_count=6,
        embedding_width=4,
        attribute_width=8,
    )


def write_weights(file: Path, *, is_miniature: bool) -> None:
    """Synthetic ones, by the rule of the golden files: time does not depend on what weights say."""
    file.parent.mkdir(parents=True, exist_ok=True)
    made = synthetic_weights(SEED, sizes(is_miniature=is_miniature))
    if is_miniature:  # of so few features everything would be background
        made["roi_heads.box_predictor.cls_score.bias"][-1] = 0
    save_file({name: torch.from_numpy(value) for name, value in made.items()}, file)
