"""What is known of the detector's sources is honest: evidence for each word, no digest, no claim to have tried."""

import io
import pickle  # to write files as others do
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from sentifuse.extract.detector.architecture import ARCHITECTURES
from sentifuse.extract.models.known_sources import (
    DETECTOR,
    DETECTOR_FILE,
    KNOWN_SOURCES,
    KnownSource,
    advise_conversion,
    known_source,
)
from sentifuse.extract.profile import load_profile

PAGE = Path(__file__).resolve().parents[3] / "docs" / "weights.md"


@pytest.mark.parametrize("source", KNOWN_SOURCES, ids=lambda source: source.file)
def test_every_source_says_what_it_is_and_who_says_so(source: KnownSource) -> None:
    assert source.status in {"dead", "unclear"}
    assert source.variant in {"36 boxes", "10-100 boxes"}
    assert source.layout in {"pickle", "milvlg", "caffe", ""}
    assert source.evidence
    assert all(page.startswith("https://github.com/") for page in source.evidence)
    assert source.said
    assert source.licence.startswith("code ")


def test_no_digest_is_made_up() -> None:
    assert not any("sha" in field.name or "digest" in field.name for field in fields(KnownSource))


def test_both_trainings_and_every_layout_are_listed_once() -> None:
    assert len({(source.repository, source.file) for source in KNOWN_SOURCES}) == len(KNOWN_SOURCES) == 9
    assert {source.layout for source in KNOWN_SOURCES} == {"pickle", "milvlg", "caffe", ""}
    assert {source.file for source in KNOWN_SOURCES if not source.layout} == {"bua-caffe-frcn-r152.pth"}


def test_the_page_names_every_source_with_its_status() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for source in KNOWN_SOURCES:
        row = next((row for row in rows if f"`{source.file}`" in row), "")
        for word in (source.variant, source.status):
            assert word in row, (source.file, word)


def test_the_file_that_is_written_is_the_one_the_paper_profile_looks_for() -> None:
    model = load_profile("paper").encoders["regions"].model
    assert (model.name, model.architecture) == (DETECTOR_FILE, DETECTOR)
    assert DETECTOR in ARCHITECTURES


ONE = np.zeros(20, dtype=np.float32)
OURS = {"proposal_generator.rpn_head.conv.weight": ONE, "roi_heads.res5.0.conv1.weight": ONE}


def saved(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "is_original"),
    [
        (pickle.dumps({"model": OURS}, protocol=2), True),
        (saved({name: torch.from_numpy(value) for name, value in OURS.items()}), True),
        (b"\xa2\x06\x80\x01 rpn_conv/3x3 and res5a_branch1" + bytes(100), True),
        (pickle.dumps({"model": {"fc.weight": ONE}}, protocol=2), False),
        (save({name: torch.from_numpy(value.copy()) for name, value in OURS.items()}), False),  # nothing to convert
        (b"version https://git-lfs.github.com/spec/v1", False),
        (b"", False),
    ],
    ids=["pickle", "torch", "caffe", "another pickle", "safetensors", "pointer", "empty"],
)
def test_original_files_are_known_by_their_content(content: bytes, is_original: bool, tmp_path: Path) -> None:
    for name in ("net", "faster_rcnn_from_caffe_attr.pkl"):
        (tmp_path / name).write_bytes(content)
        advice = advise_conversion(tmp_path / name)
        assert (f"sentifuse weights convert {tmp_path / name}" in advice) == is_original
        assert bool(advice) == is_original


def test_a_folder_needs_no_advice(tmp_path: Path) -> None:
    assert advise_conversion(tmp_path) == ""


def test_a_source_is_found_by_its_name() -> None:
    found = known_source("faster_rcnn_from_caffe_attr_original.pkl")
    assert found is not None
    assert found.variant == "10-100 boxes"
    assert known_source("other.pkl") is None
