"""Do weights fit this network, by names and shapes alone? Asked of a plan too, so no torch is imported, no tensor read.

MILVLG's tensors are told from ours here; what becomes of them stands in `layouts.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sentifuse.extract.detector.architecture import ANCHORS_PER_CELL, ATTRIBUTE_KEYS, Architecture, tensor_specs
from sentifuse.extract.detector.checkpoints.comparison import differences
from sentifuse.extract.detector.checkpoints.recognise import recognise
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import check_safetensors

__all__ = [
    "ANCHORS_KEY",
    "COUNTER",
    "MILVLG_NAMES",
    "WITHOUT_ATTRIBUTES",
    "check_header",
    "compare_shapes",
    "is_milvlg",
]

NETWORK = "the Visual Genome Faster R-CNN with ResNet-101"
ANCHORS_KEY = "proposal_generator.anchor_generator.cell_anchors.0"
COUNTER = ".num_batches_tracked"  # of torch's norms; no result depends on it
LOGITS_KEY = "proposal_generator.rpn_head.objectness_logits.bias"
# MILVLG's names where they differ from ours.
MILVLG_NAMES = {"cls_embedding": "cls_embed", "fc_attr": "attr_linear1", "attr_score": "attr_linear2"}
WITHOUT_ATTRIBUTES = (
    "these weights were trained without attributes, and attributes are to be stored: set attributes = false under "
    "[encoders.regions], or take weights that have them"
)
Shape = tuple[int, ...]


def is_milvlg(shapes: Mapping[str, Shape]) -> bool:
    """Whether a state dict is MILVLG's: by its names for attributes, else by its two logits for each anchor."""
    if any(f".{theirs}." in name for name in shapes for theirs in MILVLG_NAMES.values()):
        return True
    return shapes.get(LOGITS_KEY) == (2 * ANCHORS_PER_CELL,)


def compare_shapes(shapes: Mapping[str, Shape], expected: Mapping[str, Shape], *, where: str) -> None:
    """Refuse (ModelMismatch) what is missing, unexpected or of another shape; counters and anchors may be missing."""
    optional = {name for name in expected if name.endswith(COUNTER)} | {ANCHORS_KEY}
    if problems := differences(shapes, expected, optional=optional):
        raise ModelMismatch(
            f"{where}: not {NETWORK}: {problems}. Converted by a script? Take the file as it was published; those that "
            "fit: sentifuse weights list"
        )


def check_header(file: Path, sizes: Architecture, *, wants_attributes: bool) -> None:
    """Refuse what can be told from a file's first bytes; the rest is told when it is read.

    Raises
    ------
    ModelMismatch
        No weights at all; of a safetensors file also tensors missing, unexpected or misshapen, no attributes.
    """
    if recognise(file) != "safetensors":
        return
    shapes = {name.removeprefix("module."): shape for name, shape in check_safetensors(file).items()}
    if is_milvlg(shapes):
        return
    has_attributes = any(key in shapes for key in ATTRIBUTE_KEYS)
    expected = tensor_specs(sizes if has_attributes else replace(sizes, has_attributes=False))
    compare_shapes(shapes, {name: spec.shape for name, spec in expected.items()}, where=str(file))
    if wants_attributes and not has_attributes:
        raise ModelMismatch(f"{file}: {WITHOUT_ATTRIBUTES}")
