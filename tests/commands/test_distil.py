"""`distil label` and `distil filter` as they are typed: both teachers, the report, and refusals that write nothing."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse.crowd.labels.kept import read_kept
from sentifuse.crowd.labels.pseudo_labels import PseudoLabels, read_pseudo_labels, write_pseudo_labels
from sentifuse.crowd.labels.teachers import label_by_run
from sentifuse.data.manifest import read_manifest
from sentifuse.data.splits import read_split
from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.run import read_predictions
from sentifuse.fuse.train import TrainRequest, train

Type = Callable[..., Any]
SURE = ((0.8, 0.1, 0.1), (0.02, 0.95, 0.03), (0.01, 0.03, 0.96))


@pytest.fixture(scope="module")
def taught(project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A copy of the small project, and in it a run that was trained on the texts' labels."""
    torch.set_num_threads(1)
    artifacts = tmp_path_factory.mktemp("taught") / "artifacts"
    shutil.copytree(project, artifacts)
    run = train(
        TrainRequest(
            artifacts=artifacts,
            dataset="mvsa_single",
            head="text_only",
            target="text_label",
            device="cpu",
            overrides={"epochs": "8", "learning_rate": "0.01"},
        )
    )
    return artifacts, run


@pytest.fixture
def labelled(taught: tuple[Path, Any]) -> Path:
    """The same with labels of a teacher that is sure of three classes by turns, about the pictures' own colours."""
    artifacts, _ = taught
    ids = read_manifest(artifacts / "datasets/mvsa_single").ids
    shares = np.array([SURE[(2 - i) % 3] for i in range(1, len(ids) + 1)], dtype=np.float32)
    labels = PseudoLabels(
        ids=ids,
        probabilities=shares,
        gold_seen=np.zeros(len(ids), dtype=np.bool_),
        provenance={"dataset": "mvsa_single", "teacher": "encoder", "model": "made up"},
    )
    write_pseudo_labels(artifacts, "mvsa_single", "sure", labels)
    return artifacts


def test_a_run_of_our_own_labels_every_text_and_its_training_pairs_are_marked(
    type_command: Type, taught: tuple[Path, Any]
) -> None:
    artifacts, run = taught
    here = ("--dataset", "mvsa_single", "--artifacts", artifacts)
    typed = type_command("distil", "label", "--teacher", run.name, "--name", "own", "--json", *here)
    assert typed.code == 0, typed.err
    assert typed.document["labelled"] == typed.document["pairs"] == 90
    assert "next: sentifuse distil filter --dataset mvsa_single --labels own" in typed.err
    labels = read_pseudo_labels(artifacts, "mvsa_single", "own")
    assert labels.provenance["target"] == "text_label"
    parts = read_split(artifacts / "datasets/mvsa_single", parts=("train", "val"))
    seen = {id_ for id_, is_seen in zip(labels.ids, labels.gold_seen, strict=True) if is_seen}
    assert seen == {*parts["train"], *parts["val"]}
    pairs = read_manifest(artifacts / "datasets/mvsa_single").by_id()
    assert labels.gold_pairs == {"mvsa_single": {id_: pairs[id_].image_digest for id_ in sorted(seen)}}
    assert len(seen) == typed.document["gold_seen"] < 90


def test_labels_of_a_run_are_its_own_predictions(taught: tuple[Path, Any]) -> None:
    artifacts, run = taught
    labels = label_by_run(artifacts, "mvsa_single", run.path, device="cpu")
    evaluate(run, split="test", device="cpu")
    predictions = read_predictions(run, "test")
    place = {id_: row for row, id_ in enumerate(labels.ids)}
    ours = labels.probabilities[[place[id_] for id_ in predictions.ids]]
    assert predictions.classes == ("negative", "neutral", "positive")
    np.testing.assert_allclose(ours, predictions.probabilities, atol=1e-6)


def test_a_run_may_have_its_classes_in_any_order(taught: tuple[Path, Any], tmp_path: Path) -> None:
    """The same head, told that its first output is positive: the columns of the labels change places."""
    artifacts, run = taught
    other = shutil.copytree(run.path, tmp_path / "other")
    document = json.loads((other / "run.json").read_text(encoding="utf-8"))
    assert document["classes"] == ["negative", "neutral", "positive"]
    (other / "run.json").write_text(json.dumps(document | {"classes": ["positive", "neutral", "negative"]}))
    labels, turned = (label_by_run(artifacts, "mvsa_single", path, device="cpu") for path in (run.path, other))
    assert np.array_equal(turned.probabilities, labels.probabilities[:, ::-1])
    assert not np.allclose(labels.probabilities[:, 0], labels.probabilities[:, 2])


def test_pairs_of_another_dataset_with_the_same_words_are_marked(
    type_command: Type, taught: tuple[Path, Any], tmp_path: Path
) -> None:
    artifacts, run = taught
    own = read_manifest(artifacts / "datasets/mvsa_single")
    parts = read_split(artifacts / "datasets/mvsa_single", parts=("train", "val", "test"))
    texts = own.by_id()
    rows = {"a": texts[parts["train"][0]].text.upper(), "b": texts[parts["test"][0]].text, "c": "quite other words"}
    with (tmp_path / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "text", "label"])
        writer.writerows([id_, str(own.image_file(own.pairs[0])), text, "neutral"] for id_, text in rows.items())
    here = ("--artifacts", artifacts)
    prepared = type_command("data", "prepare", "pairs", "--name", "others", "--table", tmp_path / "pairs.csv", *here)
    assert prepared.code == 0, prepared.err
    words = ("distil", "label", "--dataset", "others", "--teacher", run.name, *here)
    missing = type_command(*words)
    assert missing.code == 4
    assert "sentifuse extract --dataset others" in missing.err
    extract = ("extract", "--dataset", "others", "--encoders", "tokens", "--profile", "tiny", "--device", "cpu")
    assert type_command(*extract, *here).code == 0
    assert type_command(*words).code == 0
    labels = read_pseudo_labels(artifacts, "others")
    assert dict(zip(labels.ids, labels.gold_seen.tolist(), strict=True)) == {"a": True, "b": False, "c": False}
    taught_on = {id_: texts[id_].image_digest for id_ in (*parts["train"], *parts["val"])}
    assert labels.gold_pairs == {"mvsa_single": taught_on}


def test_a_head_that_sees_the_image_is_no_teacher(type_command: Type, taught: tuple[Path, Any]) -> None:
    artifacts, _ = taught
    itin = next(path for path in (artifacts / "runs").iterdir() if "-itin-" in path.name)
    typed = type_command("distil", "label", "--dataset", "mvsa_single", "--teacher", itin, "--artifacts", artifacts)
    assert typed.code == 2
    assert "expected a head that reads texts alone, found itin, which reads" in typed.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--teacher", "no-such-run"), 2, "expected a run directory"),
        ((), 4, "sentifuse train --head text_only --target text_label --dataset mvsa_single"),
        (("--name", "a/b"), 2, "--name: expected letters"),
        (("--teacher", "RUN", "--profile", "tiny"), 2, "a run knows its features"),
    ],
)
def test_labels_that_cannot_be_are_refused(
    type_command: Type, taught: tuple[Path, Any], words: tuple[str, ...], code: int, message: str
) -> None:
    artifacts, run = taught
    words = tuple(run.name if word == "RUN" else word for word in words)
    typed = type_command("distil", "label", "--dataset", "mvsa_single", "--artifacts", artifacts, *words)
    assert (typed.code, message in typed.err) == (code, True), typed.err
    assert not (artifacts / "crowd/mvsa_single/labels-default.parquet").exists()


def test_a_filter_reports_and_writes_what_it_says(type_command: Type, labelled: Path) -> None:
    here = ("--dataset", "mvsa_single", "--labels", "sure", "--name", "one", "--artifacts", labelled)
    here = (*here, "--dedup", "none")  # plain colours: all alike
    typed = type_command("distil", "filter", *here)
    assert typed.code == 0, typed.err
    assert "90 of 90 pseudo-labels kept (surer than: negative 0.7, neutral 0.9, positive 0.9)" in typed.out
    assert "of the image    unseen  kept" in typed.out
    document = type_command("distil", "filter", "--json", *here).document
    assert document["counts"]["kept"] == len(read_kept(labelled, "mvsa_single", "one")) == 90
    assert all(Path(path).is_file() for path in document["files"].values())
    # Every seventh pair that is not neutral contradicts itself: the teacher says what the texts are labelled.
    assert document["gold"]["text_label"]["unseen"]["kept"]["accuracy"] == 1.0
    assert document["gold"]["image_label"]["unseen"]["kept"]["accuracy"] < 1.0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--positive", "1.5"), 2, "--positive: expected a threshold from 0 to 1, found 1.5"),
        (("--negative", "nan"), 2, "--negative: expected a threshold from 0 to 1, found no number"),
        (("--mixed", "0.5"), 2, "No such option: --mixed"),
        (
            ("--neutral", "0.96", "--dedup", "none"),
            3,
            "found none of neutral (threshold 0.96, 30 images with this pseudo-label, the surest 0.95)",
        ),
        (("--dedup", "md5"), 2, "--dedup: unknown method 'md5'"),
        (("--labels", "none"), 3, "Run: sentifuse distil label --dataset mvsa_single --name none"),
        (("--dedup", "hash"), 3, "Try --dedup none"),  # plain colours: all alike
    ],
)
def test_a_filter_that_cannot_be_is_refused_and_nothing_is_written(
    type_command: Type, labelled: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    here = ("--dataset", "mvsa_single", "--name", "refused", "--artifacts", labelled)
    typed = type_command("distil", "filter", "--labels", "sure", *words, *here)
    assert (typed.code, message in typed.err) == (code, True), typed.err
    assert not list((labelled / "crowd/mvsa_single").glob("*refused*"))
