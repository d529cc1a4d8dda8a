"""Images that a student saw: read as written, and a reason to refuse an extraction before any work."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sentifuse import ConfigError, DataError
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import dataset_dir, prepare
from sentifuse.extract.job import ExtractRequest, resolve
from sentifuse.extract.profile import load_profile
from sentifuse.extract.runner import run
from sentifuse.extract.seen_images import SEEN_FILE, SeenImage, read_seen, refuse_seen
from sentifuse.extract.students import write_student


def seen(count: int, *, fold: int = 0) -> list[SeenImage]:
    return [SeenImage(image_digest=f"{i:064x}", id=f"{i}-1", dataset="tweets", fold=fold) for i in range(count)]


def test_what_is_written_is_read(tmp_path: Path, student_parts: Callable[..., Any]) -> None:
    folder = write_student(tmp_path / "student", student_parts("vit"), seen=seen(3))
    assert read_seen(folder) == tuple(seen(3))
    assert read_seen(write_student(tmp_path / "other", student_parts("vit"))) == ()


def test_what_the_base_saw_every_student_over_it_saw(
    tmp_path: Path, student_parts: Callable[..., Any], write_probe: Callable[..., Path]
) -> None:
    base = write_student(
        tmp_path / "base-student",
        student_parts("vit"),
        seen=[*seen(2), replace(seen(3)[2], fold=1)],
        folds=[student_parts("vit", seed=1)],
    )
    probe = write_probe(tmp_path / "probe", "crowd", base, seen=[replace(one, fold=1) for one in seen(1)], folds=1)
    assert [(image.id, image.fold) for image in read_seen(probe)] == [("0-1", 1), ("0-1", 0), ("1-1", 0), ("2-1", 0)]


def test_folds_that_are_not_there_are_refused(tmp_path: Path, student_parts: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="seen images of fold 1, expected the folds of 0 students"):
        write_student(tmp_path / "student", student_parts("vit"), seen=seen(2, fold=1))


def test_a_damaged_list_is_named(tmp_path: Path, student_parts: Callable[..., Any]) -> None:
    folder = write_student(tmp_path / "student", student_parts("vit"), seen=seen(2))
    (folder / SEEN_FILE).write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"seen\.parquet: not a readable Parquet file"):
        read_seen(folder)


def test_a_refusal_counts_pairs_and_names_the_line_to_type(tmp_path: Path, student_parts: Callable[..., Any]) -> None:
    folder = write_student(tmp_path / "student", student_parts("vit"), seen=seen(3))
    digests = {"a": f"{0:064x}", "b": f"{2:064x}", "c": f"{9:064x}", "d": ""}
    line = f"sentifuse distil features --student {folder} --dataset photos"
    with pytest.raises(DataError, match=f"the images of 2 of the 4 pairs of photos .*{line}"):
        refuse_seen(folder, digests, "photos")
    refuse_seen(folder, {"c": f"{9:064x}", "d": ""}, "photos")  # an image that is not there was not seen


@pytest.fixture
def artifacts(tmp_path: Path, write_small_mvsa: Callable[..., Path]) -> Path:
    folder = tmp_path / "artifacts"
    prepare("mvsa_single", artifacts=folder, root=write_small_mvsa(tmp_path / "MVSA_Single", 5))
    return folder


def extraction(artifacts: Path, student: Path) -> ExtractRequest:
    profile = artifacts / "mine.toml"
    profile.write_text(f'[encoders.crowd]\nmodel = {{ path = "{student}" }}\n', encoding="utf-8")
    return ExtractRequest(artifacts=artifacts, dataset="mvsa_single", profile=load_profile(profile), device="cpu")


def test_an_extraction_of_images_that_the_student_saw_is_refused_before_any_work(
    tmp_path: Path, artifacts: Path, student_parts: Callable[..., Any]
) -> None:
    pairs = read_manifest(dataset_dir(artifacts, "mvsa_single")).pairs
    images = [SeenImage(image_digest=pairs[i].image_digest, id="t-1", dataset="tweets") for i in (0, 3)]
    student = write_student(tmp_path / "student", student_parts("vit"), seen=images)
    with pytest.raises(DataError, match="the images of 2 of the 5 pairs of mvsa_single"):
        resolve(extraction(artifacts, student))
    assert not (artifacts / "cache").exists()
    stranger = write_student(tmp_path / "stranger", student_parts("vit"), seen=seen(3))
    assert run(resolve(extraction(artifacts, stranger))).encoders["crowd"].statuses == {"ok": 5}
