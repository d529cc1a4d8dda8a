"""Sizes of the detector, and from them the name, shape and dtype of every stored tensor. Imports no torch.

The names are those of the public detectron2 checkpoints. The sizes are parameters only so that tests can build the
same network in miniature; weights in circulation have the defaults.
"""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "ANCHORS_PER_CELL",
    "ARCHITECTURES",
    "ATTRIBUTE_KEYS",
    "VISUAL_GENOME",
    "Architecture",
    "TensorSpec",
    "tensor_specs",
]

ANCHORS_PER_CELL = 12  # four sizes by three ratios
PREDICTOR = "roi_heads.box_predictor"
# Checkpoints without attributes lack exactly these.
ATTRIBUTE_KEYS = tuple(
    f"{PREDICTOR}.{name}"
    for name in (
        "attr_score.bias",
        "attr_score.weight",
        "cls_embedding.weight",
        "fc_attr.bias",
        "fc_attr.weight",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Sizes. A stage of the backbone has `depths[i]` bottlenecks of width `base_width * 2**i`, four times that out."""

    depths: tuple[int, int, int, int] = (3, 4, 23, 3)
    base_width: int = 64  # also the stem's
    proposal_width: int = 512
    class_count: int = 1600
    attribute_count: int = 400
    embedding_width: int = 256
    attribute_width: int = 512
    has_attributes: bool = True

    def bottleneck_width(self, stage: int) -> int:
        """Inner width of stage 2 (res2) to 5 (res5)."""
        return self.base_width << (stage - 2)

    def input_width(self, stage: int) -> int:
        """Channels going into a stage."""
        return self.base_width if stage == 2 else self.output_width(stage - 1)

    def output_width(self, stage: int) -> int:
        """Channels coming out of a stage."""
        return 4 * self.bottleneck_width(stage)

    @property
    def feature_width(self) -> int:
        """Length of a region's feature."""
        return self.output_width(5)


VISUAL_GENOME = Architecture()
ARCHITECTURES = {"faster_rcnn_resnet101_c4": VISUAL_GENOME}  # by the name that a profile gives


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and dtype (numpy's name) of one stored tensor."""

    shape: tuple[int, ...]
    dtype: str = "float32"


def tensor_specs(architecture: Architecture) -> dict[str, TensorSpec]:
    """Every tensor of a full checkpoint by its name, in sorted order."""
    return dict(sorted(_specs(architecture)))


def _specs(sizes: Architecture) -> Iterator[tuple[str, TensorSpec]]:
    yield from _convolution("backbone.stem.conv1", (sizes.base_width, 3, 7, 7))
    for stage in (2, 3, 4, 5):
        prefix = f"backbone.res{stage}" if stage < 5 else "roi_heads.res5"
        yield from _stage(sizes, stage, prefix)
    anchors, width = ANCHORS_PER_CELL, sizes.proposal_width
    yield "proposal_generator.anchor_generator.cell_anchors.0", TensorSpec((anchors, 4))
    head = "proposal_generator.rpn_head"
    yield from _linear(f"{head}.conv", (width, sizes.output_width(4), 3, 3))
    yield from _linear(f"{head}.objectness_logits", (anchors, width, 1, 1))
    yield from _linear(f"{head}.anchor_deltas", (4 * anchors, width, 1, 1))
    features, classes = sizes.feature_width, sizes.class_count
    yield from _linear(f"{PREDICTOR}.cls_score", (classes + 1, features))
    yield from _linear(f"{PREDICTOR}.bbox_pred", (4 * classes, features))
    if sizes.has_attributes:
        yield f"{PREDICTOR}.cls_embedding.weight", TensorSpec((classes + 1, sizes.embedding_width))
        yield from _linear(f"{PREDICTOR}.fc_attr", (sizes.attribute_width, features + sizes.embedding_width))
        yield from _linear(f"{PREDICTOR}.attr_score", (sizes.attribute_count + 1, sizes.attribute_width))


def _stage(sizes: Architecture, stage: int, prefix: str) -> Iterator[tuple[str, TensorSpec]]:
    inner, outer = sizes.bottleneck_width(stage), sizes.output_width(stage)
    for block in range(sizes.depths[stage - 2]):
        name = f"{prefix}.{block}"
        width = sizes.input_width(stage) if block == 0 else outer
        if block == 0:
            yield from _convolution(f"{name}.shortcut", (outer, width, 1, 1))
        yield from _convolution(f"{name}.conv1", (inner, width, 1, 1))
        yield from _convolution(f"{name}.conv2", (inner, inner, 3, 3))
        yield from _convolution(f"{name}.conv3", (outer, inner, 1, 1))


def _convolution(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, TensorSpec]]:
    yield f"{name}.weight", TensorSpec(shape)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.norm.{part}", TensorSpec(shape[:1])
    yield f"{name}.norm.num_batches_tracked", TensorSpec((), "int64")


def _linear(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, TensorSpec]]:
    yield f"{name}.weight", TensorSpec(shape)
    yield f"{name}.bias", TensorSpec(shape[:1])
