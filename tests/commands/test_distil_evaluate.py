"""`distil evaluate` as it is typed: numbers of a hand on the test part, both ways to answer, refusals of what leaks."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.benchmarks.own_pairs import MAJORITY, TEACHER, read_answers
from sentifuse.data.source import SENTIMENT
from sentifuse.data.splits import read_split

Type = Callable[..., Any]
SMALL = ("--set", "epochs=2", "--set", "batch_size=16", "--set", "width=8")
SPLIT = ("--protocol", "random", "--seed", "0")


@pytest.fixture(scope="module")
def artifacts(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with two students that saw no pair of the test part, one of them taught by people."""
    from sentifuse import cli

    copied = tmp_path_factory.mktemp("evaluated") / "artifacts"
    shutil.copytree(pairs, copied)
    words = ["distil", "train", "--dataset", "shop", "--artifacts", str(copied), *SPLIT, *SMALL]
    assert cli.run([*words, "--name", "taught", "--folds", "2"]) == 0
    assert cli.run([*words, "--name", "by-people", "--label", "image_label"]) == 0
    return copied


def test_the_numbers_are_those_of_the_features_and_of_the_labels_by_people(artifacts: Path, type_command: Type) -> None:
    here = ("--dataset", "shop", "--artifacts", artifacts)
    typed = type_command("distil", "evaluate", "--student", "taught", "--student", "by-people", "--json", *SPLIT, *here)
    assert typed.code == 0, typed.err
    tested = read_split(artifacts / "datasets" / "shop", protocol="random", seed=0, parts=("test",))["test"]
    truth = np.array([int(id_) % 3 for id_ in tested])  # how the fixture labels
    features = type_command("distil", "features", "--student", "taught", "--json", *here)
    reader = FeatureReader(Path(features.document["feature_set"]))
    shares = np.stack([reader.value(id_, "probabilities") for id_ in tested])
    first, second, teacher, majority = typed.document["rows"]
    assert (first["n"], second["n"], teacher["n"], majority["n"]) == (len(tested),) * 4
    assert first["accuracy"] == pytest.approx(accuracy_score(truth, shares.argmax(1)))
    assert first["f1_macro"] == pytest.approx(f1_score(truth, shares.argmax(1), average="macro", zero_division=0.0))
    assert (teacher["name"], teacher["accuracy"]) == (TEACHER, 1.0)  # the fixture's teacher is right
    trained = read_split(artifacts / "datasets" / "shop", protocol="random", seed=0, parts=("train",))["train"]
    largest = np.bincount([int(id_) % 3 for id_ in trained]).argmax()
    assert (majority["name"], majority["kind"]) == (MAJORITY, SENTIMENT[largest])
    assert majority["accuracy"] == pytest.approx((truth == largest).mean())
    assert [one["against"] for one in typed.document["comparisons"]] == ["by-people", TEACHER, MAJORITY]
    assert typed.document["comparisons"][1]["difference"] == pytest.approx(first["accuracy"] - 1.0)
    written = read_answers(Path(typed.document["files"]["folder"]))
    assert set(written) == {"taught", "by-people", TEACHER, MAJORITY}
    assert np.allclose(written["taught"].probabilities, shares, atol=1e-6)


def test_without_cached_vectors_the_images_are_answered_alike(
    artifacts: Path, tmp_path: Path, type_command: Type
) -> None:
    shutil.copytree(artifacts, tmp_path / "artifacts")
    words = ("distil", "evaluate", "--student", "taught", "--dataset", "shop", "--device", "cpu", *SPLIT)
    out = (tmp_path / "cached", tmp_path / "images")
    assert type_command(*words, "--artifacts", tmp_path / "artifacts", "--out", out[0]).code == 0
    shutil.rmtree(tmp_path / "artifacts" / "cache")
    typed = type_command(*words, "--artifacts", tmp_path / "artifacts", "--out", out[1])
    assert typed.code == 0, typed.err
    cached, computed = (read_answers(folder)["taught"] for folder in out)
    assert cached.ids == computed.ids
    assert np.allclose(cached.probabilities, computed.probabilities, atol=1e-5)
    assert "macro F1" in typed.out


@pytest.mark.parametrize("is_saved_anew", [False, True])
def test_an_image_that_is_another_pairs_of_the_training_is_left_out_by_name(
    artifacts: Path, tmp_path: Path, type_command: Type, is_saved_anew: bool
) -> None:
    from sentifuse.data.image_hashes import read_image_hashes
    from sentifuse.extract.seen_images import SeenImage, read_seen, write_seen

    shutil.copytree(artifacts, tmp_path / "artifacts")
    folder = tmp_path / "artifacts" / "crowd" / "students" / "taught"
    tested = read_split(artifacts / "datasets" / "shop", protocol="random", seed=0, parts=("test",))["test"]
    from sentifuse.data.manifest import read_manifest

    digest = read_manifest(artifacts / "datasets" / "shop").by_id()[tested[0]].image_digest
    image = SeenImage(image_digest=digest, id="elsewhere", dataset="other")
    if is_saved_anew:
        hashes = read_image_hashes(artifacts / "datasets" / "shop")
        image = replace(image, image_digest="f" * 64, image_hash=hashes[digest])
    write_seen(folder, [*read_seen(folder), image])
    words = ("distil", "evaluate", "--student", "taught", "--dataset", "shop", "--json", *SPLIT)
    typed = type_command(*words, "--artifacts", tmp_path / "artifacts")
    assert typed.code == 0, typed.err
    assert typed.document["rows"][0]["excluded"] == {tested[0]: "seen in training"}
    assert typed.document["rows"][0]["n"] == len(tested) - 1
    assert typed.document["comparisons"][0]["n"] == len(tested) - 1


def test_a_student_that_saw_the_part_or_whose_teacher_did_is_refused(
    artifacts: Path, tmp_path: Path, type_command: Type
) -> None:
    here = ("--dataset", "shop", "--artifacts", artifacts)
    other = type_command("distil", "evaluate", "--student", "taught", "--protocol", "random", "--seed", "1", *here)
    assert other.code == 3
    assert "was trained on" in other.err
    shutil.copytree(artifacts, tmp_path / "artifacts")
    tested = read_split(artifacts / "datasets" / "shop", protocol="random", seed=0, parts=("test",))["test"]
    path = tmp_path / "artifacts" / "crowd" / "students" / "taught" / "student.json"
    document = json.loads(path.read_text())
    there = ("--dataset", "shop", *SPLIT, "--artifacts", tmp_path / "artifacts")
    for known in (
        {"gold_seen": {tested[0]: ""}},
        {"trained_on": {"dataset": "other"}, "gold_seen": {}, "gold_seen_elsewhere": {"shop": {tested[0]: ""}}},
    ):
        path.write_text(json.dumps(document | known))
        told = type_command("distil", "evaluate", "--student", "taught", *there)
        assert told.code == 3
        assert f"saw the labels of 1 of the {len(tested)} pairs of this part ({tested[0]})" in told.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--student", "taught", "--split", "tests"), 2, "did you mean 'test'"),
        (("--student", "taught", "--student", "taught"), 2, "each once"),
        (("--student", "nobody"), 2, "there are: by-people, taught"),
        (("--student", "taught", "--out", "."), 2, "expected a new or an empty folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    artifacts: Path, type_command: Type, words: tuple[str, ...], code: int, said: str
) -> None:
    typed = type_command("distil", "evaluate", *words, "--dataset", "shop", "--artifacts", artifacts)
    assert typed.code == code
    assert said in typed.err
