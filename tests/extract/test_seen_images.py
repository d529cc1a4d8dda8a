"""Images that a student saw: read as written, and a reason to refuse an extraction before any work."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentifuse import ConfigError, DataError
from sentifuse.data.files import write_table
from sentifuse.data.image_hashes import read_image_hashes
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import dataset_dir, prepare
from sentifuse.extract.job import ExtractRequest, resolve
from sentifuse.extract.profile import load_profile
from sentifuse.extract.runner import run
from sentifuse.extract.seen_images import SEEN_FILE, SeenImage, match_seen, read_seen, refuse_seen
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


def test_the_student_of_a_fold_saw_what_its_folder_says_but_for_the_fold(
    tmp_path: Path, student_parts: Callable[..., Any], write_probe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [replace(one, fold=place % 3) for place, one in enumerate(seen(6))]
    base = write_student(tmp_path / "base-student", student_parts("vit"), seen=[replace(seen(9)[8], fold=0)])
    probe = write_probe(tmp_path / "probe", "crowd", base, seen=images, folds=2)
    assert [(image.id, image.fold) for image in read_seen(probe / "fold-1")] == [(f"{i}-1", 0) for i in (0, 2, 3, 5, 8)]
    monkeypatch.chdir(probe / "fold-2")
    assert [image.id for image in read_seen(Path())] == ["0-1", "1-1", "3-1", "4-1", "8-1"]
    with pytest.raises(DataError, match="trained on the images of 1 of the 2 pairs"):
        refuse_seen(probe / "fold-2", {"a": f"{4:064x}", "b": f"{5:064x}"}, "photos")


def test_the_student_of_a_fold_away_from_its_folder_is_refused(
    tmp_path: Path, student_parts: Callable[..., Any]
) -> None:
    fold = replace(student_parts("vit", seed=1), notes={"held_out_fold": 1})
    folder = write_student(tmp_path / "student", student_parts("vit"), seen=seen(2, fold=1), folds=[fold])
    assert read_seen(folder / "fold-1") == ()
    for place in (tmp_path / "fold-1", tmp_path / "mine", folder / "fold-2"):
        shutil.copytree(folder / "fold-1", place)
        with pytest.raises(DataError, match="the student without fold 1, expected in the student folder"):
            read_seen(place)


def test_a_list_without_perceptual_hashes_is_still_read(tmp_path: Path) -> None:
    columns = {name: ("string", [name]) for name in ("image_digest", "id", "dataset")} | {"fold": ("int32", [2])}
    write_table(tmp_path / SEEN_FILE, columns, {"format": 1})
    assert read_seen(tmp_path) == (SeenImage(image_digest="image_digest", id="id", dataset="dataset", fold=2),)
    write_table(tmp_path / SEEN_FILE, columns, {"format": 3})
    with pytest.raises(DataError, match="expected format 2, found 3"):
        read_seen(tmp_path)


def test_an_image_is_known_by_its_bytes_its_pair_and_its_picture() -> None:
    images = [
        SeenImage(image_digest="a", id="1", dataset="tweets", fold=1, image_hash=0),
        SeenImage(image_digest="b", id="2", dataset="tweets", fold=2, image_hash=0),
        SeenImage(image_digest="c", id="3", dataset="tweets", fold=3),
        SeenImage(image_digest="", id="4", dataset="tweets", fold=4),
    ]
    digests = {"1": "x", "2": "c", "near": "y", "far": "z", "none": "", "same": "w"}
    hashes = {"x": None, "y": 0b1111, "z": 0b11111, "w": 0}
    elsewhere = {"2": {3}, "near": {1, 2}, "same": {1, 2}}
    assert match_seen(images, digests, "photos", hashes) == elsewhere
    assert match_seen(images, digests, "tweets", hashes) == elsewhere | {"1": {1}, "2": {2, 3}}
    assert match_seen(images, digests, "photos", {}) == {"2": {3}}
    assert match_seen([], digests, "tweets", hashes) == {}


@given(
    st.lists(st.tuples(st.integers(0, 63), st.integers(0, 4)), max_size=12), st.lists(st.integers(0, 63), max_size=12)
)
def test_pictures_are_matched_as_by_comparing_all(told: list[tuple[int, int]], own: list[int]) -> None:
    spread = [sum(1 << (bit * 11) for bit in range(6) if value >> bit & 1) for value in range(64)]
    images = [SeenImage(image_digest="", id="", dataset="", fold=k, image_hash=spread[v]) for v, k in told]
    digests = {f"p{i}": f"d{i}" for i in range(len(own))}
    hashes = {f"d{i}": spread[value] for i, value in enumerate(own)}
    expected = {
        f"p{i}": {k for v, k in told if (spread[v] ^ spread[value]).bit_count() <= 4} for i, value in enumerate(own)
    }
    assert match_seen(images, digests, "x", hashes) == {id_: folds for id_, folds in expected.items() if folds}


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


@pytest.mark.parametrize("dataset", ["mvsa_single", "tweets"])
def test_images_saved_anew_since_the_training_are_refused_too(
    tmp_path: Path, artifacts: Path, student_parts: Callable[..., Any], dataset: str
) -> None:
    """At home by the pair; anywhere by the picture, which `data prepare` looked at."""
    folder = dataset_dir(artifacts, "mvsa_single")
    pair = read_manifest(folder).pairs[1]
    told = {} if dataset == "mvsa_single" else {"image_hash": read_image_hashes(folder)[pair.image_digest]}
    image = SeenImage(image_digest="f" * 64, id=pair.id, dataset=dataset, **told)
    student = write_student(tmp_path / "student", student_parts("vit"), seen=[image])
    with pytest.raises(DataError, match=f"the images of [1-5] of the 5 pairs of mvsa_single .*{pair.id}"):
        resolve(extraction(artifacts, student))
    assert not (artifacts / "cache").exists()
