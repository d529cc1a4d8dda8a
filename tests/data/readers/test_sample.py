"""The embedded dataset: its answer is known by construction, and it is made once."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from sentifuse import DataError
from sentifuse.data.labels import merge_labels, read_labels
from sentifuse.data.prepare import prepare
from sentifuse.data.readers.sample import COMBINATIONS, Sample, bayes_accuracy, generate
from sentifuse.data.source import SENTIMENT, ReadRequest
from sentifuse.data.splits import read_split

FEW = dict.fromkeys(COMBINATIONS, 2)


def test_one_modality_alone_cannot_answer_and_both_together_can() -> None:
    best = bayes_accuracy()
    assert best["text"] == best["image"] == pytest.approx(5 / 7)
    assert best["text"] <= 0.75
    assert best["both"] >= 0.95


def test_there_are_enough_pairs_and_a_few_conflicts() -> None:
    kept = sum(count for (text, image), count in COMBINATIONS.items() if {text, image} != {"positive", "negative"})
    conflicts = sum(COMBINATIONS.values()) - kept
    assert kept >= 3200
    assert 0.04 <= conflicts / (kept + conflicts) <= 0.06


def test_files_are_in_the_published_layout(tmp_path: Path) -> None:
    generate(tmp_path, FEW)
    raw = (tmp_path / "labelResultAll.txt").read_bytes()
    assert raw.startswith(b"ID\ttext,image\r\n1\t")
    assert raw.endswith(b"\r\n")
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {f"{number}.{kind}" for number in range(1, 19) for kind in ("jpg", "txt")}
    with Image.open(tmp_path / "data" / "1.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (96, 96))


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        generate(tmp_path / name, FEW)
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path


def test_whole_sample_is_not_made_again_and_an_interrupted_one_is(tmp_path: Path) -> None:
    generate(tmp_path, FEW)
    edited = tmp_path / "data" / "1.txt"
    edited.write_bytes(b"edited by hand\n")
    generate(tmp_path, FEW)
    assert edited.read_bytes() == b"edited by hand\n"
    (tmp_path / "complete.json").unlink()
    generate(tmp_path, FEW)
    assert edited.read_bytes() != b"edited by hand\n"


def test_place_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the sample cannot be written"):
        generate(tmp_path / "file", FEW)


def test_labels_of_the_files_are_the_joint_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentifuse.data.readers.sample.COMBINATIONS", FEW)
    source = Sample().read(ReadRequest(dataset_dir=tmp_path))
    labels = merge_labels(source.annotations, source.rule, SENTIMENT)
    assert Counter(zip(labels.text_label, labels.image_label, strict=True)) == FEW
    assert labels.class_counts() == {"negative": 6, "neutral": 2, "positive": 6}
    assert labels.reason_counts() == {"conflict": 4}
    assert any(isinstance(pair.text, bytes) and b"\xa1\xad" in pair.text for pair in source.pairs)  # "…" in GB18030
    assert source.published == {}


@pytest.mark.slow
def test_whole_sample_leaves_enough_test_pairs_and_its_labels_keep_the_promise(tmp_path: Path) -> None:
    card = prepare("sample", artifacts=tmp_path)
    folder = tmp_path / "datasets" / "sample"
    assert card.counts["split"] == {"train": 2614, "val": 324, "test": 324}
    labels = read_labels(folder)
    text, image, both = labels.by_id("text_label"), labels.by_id("image_label"), labels.by_id()
    ids = read_split(folder, parts=("test",))["test"]
    for seen in (text, image):
        best = Counter((seen[id_], both[id_]) for id_ in ids)
        right = sum(max(best[word, label] for label in SENTIMENT) for word in SENTIMENT)
        assert right / len(ids) <= 0.78  # 0.714 and what 324 drawn pairs may differ from it
