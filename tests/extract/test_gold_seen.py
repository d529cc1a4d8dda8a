"""What a student's teacher knew follows the student: into folds, over bases, and into extracted features."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sentifuse import DataError
from sentifuse.cache.featureset import open_feature_set
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import dataset_dir, prepare
from sentifuse.extract.gold_seen import KEY, digest_ids, read_gold_seen, resolve
from sentifuse.extract.job import ExtractRequest
from sentifuse.extract.job import resolve as resolve_job
from sentifuse.extract.models.located import read_folder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.profile import load_profile
from sentifuse.extract.runner import run
from sentifuse.extract.seen_images import SeenImage, read_seen
from sentifuse.extract.student_base import copy_base
from sentifuse.extract.students import write_student
from sentifuse.fuse import seen as fusion

Parts = Callable[..., Any]


def known(home: str, ids: dict[str, str], **elsewhere: dict[str, str]) -> dict[str, Any]:
    return {"trained_on": {"dataset": home}, "gold_seen": ids, "gold_seen_elsewhere": elsewhere}


def test_a_student_knows_what_its_own_notes_and_those_of_its_base_say(
    tmp_path: Path, student_parts: Parts, write_probe: Callable[..., Path]
) -> None:
    notes = known("tweets", {"1": "a"}, photos={"7": ""}, tweets={"2": "b"})
    base = write_student(tmp_path / "base-student", replace(student_parts("vit"), notes=notes))
    assert read_gold_seen(base) == {"tweets": {"1": "a", "2": "b"}, "photos": {"7": ""}}
    probe = write_probe(tmp_path / "probe", "crowd", base, folds=1)
    (probe / "student.json").write_text(json.dumps(known("photos", {"8": "c"})))
    both = {"tweets": {"1": "a", "2": "b"}, "photos": {"7": "", "8": "c"}}
    assert read_gold_seen(probe) == read_gold_seen(probe / "fold-1") == both


def test_a_network_that_is_no_student_knows_nothing(vit_folder: Path) -> None:
    assert read_gold_seen(vit_folder) == {}


def test_a_student_that_cannot_say_is_refused(tmp_path: Path, student_parts: Parts) -> None:
    image = SeenImage(image_digest="a" * 64, id="1", dataset="tweets")
    folder = write_student(tmp_path / "student", student_parts("vit"), seen=[image])
    notes = folder / "student.json"
    notes.write_text(json.dumps({"gold_seen": ["1"]}))
    with pytest.raises(DataError, match="expected ids with digests, found something else"):
        read_gold_seen(folder)
    notes.unlink()
    with pytest.raises(DataError, match=r"expected student\.json beside seen\.parquet, found none"):
        read_gold_seen(folder)


def test_pairs_are_known_by_id_at_home_and_by_image_elsewhere() -> None:
    told = {"tweets": {"1": "a", "2": ""}, "photos": {"3": "c"}}
    digests = {"1": "x", "4": "a", "5": "c", "6": "", "3": "y"}
    assert resolve(told, "tweets", digests) == ["1", "2", "4", "5"]
    assert resolve(told, "photos", digests) == ["3", "4", "5"]
    assert resolve(told, "others", digests) == ["4", "5"]
    assert resolve({}, "tweets", digests) == []


def test_the_digest_tells_lists_apart_and_is_empty_of_none() -> None:
    assert len({digest_ids([]), digest_ids(["1"]), digest_ids(["1", "2"]), digest_ids(["12"])}) == 4
    assert digest_ids([]) == ""


def test_the_copy_of_a_fold_says_what_the_fold_saw_and_knows(tmp_path: Path, student_parts: Parts) -> None:
    images = [SeenImage(image_digest=f"{i:064x}", id=str(i), dataset="tweets", fold=i % 3) for i in range(5)]
    fold = replace(student_parts("vit", seed=1), notes={"held_out_fold": 1})
    whole = replace(student_parts("vit"), notes=known("tweets", {"1": "a"}))
    folder = write_student(tmp_path / "student", whole, seen=images, folds=[fold, fold])
    copy = tmp_path / "copy"
    copy.mkdir()
    source = ModelSource(kind="path", name=str(folder / "fold-1"))
    copy_base(read_folder(source, folder / "fold-1"), copy)
    assert [image.id for image in read_seen(copy)] == ["0", "2", "3"]
    assert read_gold_seen(copy) == {"tweets": {"1": "a"}}
    assert read_folder(source, copy).digest == read_folder(source, folder / "fold-1").digest


@pytest.fixture
def artifacts(tmp_path: Path, write_small_mvsa: Callable[..., Path]) -> Path:
    folder = tmp_path / "artifacts"
    prepare("mvsa_single", artifacts=folder, root=write_small_mvsa(tmp_path / "MVSA_Single", 5))
    return folder


def extract(artifacts: Path, student: Path) -> Path:
    """The folder of the feature set."""
    profile = artifacts / "mine.toml"
    profile.write_text(f'[encoders.crowd]\nmodel = {{ path = "{student}" }}\n', encoding="utf-8")
    request = ExtractRequest(artifacts=artifacts, dataset="mvsa_single", profile=load_profile(profile), device="cpu")
    return artifacts / "cache" / "mvsa_single" / run(resolve_job(request)).encoders["crowd"].directory


def test_extracted_features_name_the_pairs_whose_labels_the_teacher_knew(
    tmp_path: Path, artifacts: Path, student_parts: Parts
) -> None:
    pairs = read_manifest(dataset_dir(artifacts, "mvsa_single")).pairs
    stranger = write_student(tmp_path / "stranger", student_parts("vit"))
    student = tmp_path / "student"
    found = []
    for told in (known("tweets", {"t": pairs[3].image_digest}), known("mvsa_single", {pairs[0].id: ""})):
        write_student(student, replace(student_parts("vit"), notes=told))
        found.append(open_feature_set(extract(artifacts, student)))
        shutil.rmtree(student)
    assert KEY == fusion.KEY
    assert [one.details[KEY] for one in found] == [[pairs[3].id], [pairs[0].id]]
    plain = open_feature_set(extract(artifacts, stranger))  # the same numbers: the recipe tells the lists apart
    assert KEY not in plain.details
    assert "gold_seen" not in plain.recipe
    assert len({one.fingerprint for one in (plain, *found)}) == 3


def test_an_extraction_by_a_student_that_cannot_say_is_refused(
    tmp_path: Path, artifacts: Path, student_parts: Parts
) -> None:
    image = SeenImage(image_digest="a" * 64, id="1", dataset="tweets")
    student = write_student(tmp_path / "student", student_parts("vit"), seen=[image])
    (student / "student.json").unlink()
    with pytest.raises(DataError, match=r"expected student\.json"):
        extract(artifacts, student)
    assert not (artifacts / "cache").exists()
