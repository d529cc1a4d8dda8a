"""Where the weights of the Visual Genome detector were offered, and what is publicly said of those places today.

Read off public threads and pages; no link was followed and no file was at hand. So there are no digests here: none of
these projects has published one, and none is made up. Downloads nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from sentifuse.extract.models.source import DETECTOR

__all__ = ["DETECTOR", "DETECTOR_FILE", "KNOWN_SOURCES", "KnownSource", "advise_conversion", "known_source"]

# What the profile `paper` looks for.
DETECTOR_FILE = "vg-faster-rcnn-resnet101-c4.safetensors"

GITHUB = "https://github.com"
AIRSPLAY = "airsplay/py-bottom-up-attention"
MILVLG = "MILVLG/bottom-up-attention.pytorch"
ORIGIN = "peteanderson80/bottom-up-attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSource:
    """A file that was offered.

    Attributes
    ----------
    layout
        "pickle", "milvlg" or "caffe", as `weights convert` names it; "" for a network it refuses.
    variant
        Which of the two trainings: "36 boxes" or "10-100 boxes"; they give different features.
    status
        "dead": its own place says so, or is said to be empty. "unclear": offered on a cloud drive, of which some say
        that it works and some that it does not.
    said
        What is said, by whom, when.
    evidence
        Pages that say it.
    licence
        Of the code beside it. None of them states one for the weights.
    size_mb
        About, where it is told.
    """

    file: str
    repository: str
    layout: str
    variant: str
    has_attributes: bool
    status: str
    said: str
    evidence: tuple[str, ...]
    licence: str
    size_mb: int | None = None


def _airsplay(file: str, variant: str, *, has_attributes: bool, size_mb: int | None = None) -> KnownSource:
    return KnownSource(
        file=file,
        repository=AIRSPLAY,
        layout="pickle",
        variant=variant,
        has_attributes=has_attributes,
        status="dead",
        said="that repository says that its backup links no longer work",
        evidence=(f"{GITHUB}/{AIRSPLAY}",),
        licence="code Apache-2.0 (a fork of detectron2)",
        size_mb=size_mb,
    )


def _milvlg(file: str, variant: str, *, layout: str = "milvlg", said: str = "") -> KnownSource:
    return KnownSource(
        file=file,
        repository=MILVLG,
        layout=layout,
        variant=variant,
        has_attributes=True,
        status="unclear",
        said=said or "offered on a cloud drive; an issue of 2023 asks where to get them and has no answer",
        evidence=(f"{GITHUB}/{MILVLG}/issues/104",),
        licence="code Apache-2.0",
    )


KNOWN_SOURCES: tuple[KnownSource, ...] = (
    _airsplay("faster_rcnn_from_caffe_attr.pkl", "36 boxes", has_attributes=True, size_mb=262),
    _airsplay("faster_rcnn_from_caffe.pkl", "36 boxes", has_attributes=False),
    _airsplay("faster_rcnn_from_caffe_attr_original.pkl", "10-100 boxes", has_attributes=True),
    KnownSource(
        file="pytorch_model.bin",
        repository="unc-nlp/frcnn-vg-finetuned (on the Hugging Face hub, for LXMERT)",
        layout="pickle",
        variant="36 boxes",
        has_attributes=True,
        status="dead",
        said="an issue of 2025 says that it is gone from the hub; it was made from faster_rcnn_from_caffe_attr.pkl",
        evidence=(
            f"{GITHUB}/hila-chefer/Transformer-MM-Explainability/issues/42",
            f"{GITHUB}/huggingface/transformers/pull/6986",
        ),
        licence="code Apache-2.0 (an example of transformers)",
    ),
    _milvlg("bua-caffe-frcn-r101-k36.pth", "36 boxes"),
    _milvlg("bua-caffe-frcn-r101-k10-100.pth", "10-100 boxes"),
    _milvlg(
        "bua-caffe-frcn-r152.pth", "10-100 boxes", layout="", said="the r152 is a network of another kind: refused here"
    ),
    KnownSource(
        file="resnet101_faster_rcnn_final_iter_320000.caffemodel",
        repository=ORIGIN,
        layout="caffe",
        variant="36 boxes",
        has_attributes=True,
        status="dead",
        said="issues of 2021 to 2024 say that the links of the 36-box file are gone",
        evidence=tuple(f"{GITHUB}/{ORIGIN}/issues/{number}" for number in (100, 117, 119)),
        licence="code MIT",
    ),
    KnownSource(
        file="resnet101_faster_rcnn_final.caffemodel",
        repository=ORIGIN,
        layout="caffe",
        variant="10-100 boxes",
        has_attributes=True,
        status="unclear",
        said="the author said in 2021 that a copy of the 10-100-box file on a cloud drive works; by issues of 2025 the "
        "project's bucket is gone",
        evidence=tuple(f"{GITHUB}/{ORIGIN}/issues/{number}" for number in (94, 131, 132)),
        licence="code MIT",
    ),
)


def known_source(name: str) -> KnownSource | None:
    """The source of a file by its name, which proves nothing."""
    return next((source for source in KNOWN_SOURCES if source.file == name), None)


def advise_conversion(file: Path) -> str:
    """What to type with a file that holds, by its content, original weights of the detector; "" for others."""
    from sentifuse.extract.detector.checkpoints.recognise import holds_original

    if not file.is_file() or not holds_original(file):
        return ""
    return (
        f"{file.name} holds a Faster R-CNN in a layout it was published in. For the Visual Genome detector of the "
        f"profile paper rewrite it first: sentifuse weights convert {file}"
    )
