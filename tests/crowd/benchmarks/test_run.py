"""A benchmark folder of 12 images from the list to the table, with a miniature ViT as transformers saves it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from sentifuse import ConfigError, DataError, ResourceError
from sentifuse.cache.errors import Locked
from sentifuse.crowd.benchmarks import trainers
from sentifuse.crowd.benchmarks.run import BenchmarkRequest, run_benchmarks
from sentifuse.crowd.benchmarks.table import grids_of
from sentifuse.crowd.folder_lock import only_here
from sentifuse.data.files import digest
from sentifuse.extract.seen_images import SeenImage

CLASSES = [1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0]  # 7 positive, 5 negative


@pytest.fixture
def root(tmp_path: Path, write_benchmark: Callable[..., Path]) -> Path:
    """Both codings, twelve images each; of 5agree one file is missing, one a web page, one cut off."""
    folder = tmp_path / "dataset" / "benchmark"
    write_benchmark(folder, "5agree", CLASSES)
    write_benchmark(folder, "FI_complete", CLASSES, "awe/")
    images = folder / "Twitter Testing Dataset I" / "images"
    (images / "0003.jpg").unlink()
    (images / "0004.jpg").write_bytes(b"<!DOCTYPE html><html><body>gone</body></html>")
    whole = (images / "0005.jpg").read_bytes()
    (images / "0005.jpg").write_bytes(whole[:-150])
    return folder


@pytest.fixture
def run(tmp_path: Path, root: Path, vit_classifier: Path) -> Callable[..., dict[str, Any]]:
    def run(*names: str, **more: Any) -> dict[str, Any]:
        values: dict[str, Any] = {"artifacts": tmp_path / "artifacts", "model": str(vit_classifier), "root": root}
        return run_benchmarks(BenchmarkRequest(names=names, device="cpu", **(values | more)))

    return run


def read_csv(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_twelve_images_run_end_to_end(run: Callable[..., dict[str, Any]]) -> None:
    document = run("5agree", "FI_complete", batch_rows=5)
    first, second = document["benchmarks"]
    assert first["statuses"] == {"missing": 1, "not an image": 1, "ok": 9, "truncated": 1}
    assert [(one["path"], one["status"]) for one in first["problems"]] == [
        ("0003.jpg", "missing"), ("0004.jpg", "not an image"), ("0005.jpg", "truncated"),
    ]  # fmt: skip
    assert (first["n_listed"], first["scores"]["n"], second["scores"]["n"]) == (12, 9, 12)
    rows = read_csv(first["predictions"]["csv"])
    assert [row["path"] for row in rows] == [f"{i:04d}.jpg" for i in range(12)]
    assert [row["class"] for row in rows] == ["positive" if k else "negative" for k in CLASSES]
    assert [row["status"] for row in rows if not row["p_positive"]] == ["missing", "not an image", "truncated"]
    # The score is that of the saved answers, by the rule written out once more.
    answered = [row for row in rows if row["status"] == "ok"]
    right = [(float(r["p_positive"]) > float(r["p_negative"])) == (r["class"] == "positive") for r in answered]
    assert first["scores"]["accuracy"] == pytest.approx(sum(right) / 9)
    for row in answered:
        assert sum(float(row[f"p_{name}"]) for name in ("negative", "neutral", "positive")) == pytest.approx(1)
    written = json.loads(Path(document["files"]["json"]).read_text(encoding="utf-8"))
    assert written["benchmarks"][0]["scores"]["accuracy"] == first["scores"]["accuracy"]


def test_both_codings_of_equal_images_give_equal_scores(
    tmp_path: Path, write_benchmark: Callable[..., Path], run: Callable[..., dict[str, Any]]
) -> None:
    folder = tmp_path / "whole"
    for name in ("twitter_testing_2", "FI_complete"):
        write_benchmark(folder, name, CLASSES)
    one, other = run("twitter_testing_2", "FI_complete", root=folder)["benchmarks"]
    assert one["scores"] == other["scores"]
    assert one["scores"]["majority"] == {"class": "positive", "share": pytest.approx(7 / 12)}


def test_parquet_and_csv_hold_the_same(run: Callable[..., dict[str, Any]]) -> None:
    predictions = run("5agree")["benchmarks"][0]["predictions"]
    table = pq.ParquetFile(predictions["parquet"]).read(use_threads=False)
    assert table.column_names == ["path", "class", "p_negative", "p_neutral", "p_positive", "status"]
    for row, line in zip(table.to_pylist(), read_csv(predictions["csv"]), strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == line
    assert table.column("p_neutral").null_count == 3
    metadata = json.loads(table.schema.metadata[b"sentifuse"])
    assert metadata["benchmark"] == "5agree"
    assert len(metadata["model"]["digest"]) == 64


def test_answers_are_those_of_transformers_by_class_name(
    run: Callable[..., dict[str, Any]], root: Path, vit_classifier: Path
) -> None:
    import torch
    from PIL import Image
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    rows = read_csv(run("FI_complete")["benchmarks"][0]["predictions"]["csv"])
    net = ViTForImageClassification.from_pretrained(vit_classifier).eval()
    image = Image.open(root / "FI" / "images" / rows[7]["path"]).convert("RGB")
    pixels = ViTImageProcessorPil.from_pretrained(vit_classifier)(image, return_tensors="pt").pixel_values
    with torch.no_grad():
        shares = torch.softmax(net(pixels).logits, 1)[0]
    for column, name in net.config.id2label.items():
        assert float(rows[7][f"p_{name}"]) == pytest.approx(float(shares[column]), abs=1e-5)


def test_the_size_of_a_batch_changes_no_answer(run: Callable[..., dict[str, Any]]) -> None:
    found = [run("FI_complete", batch_rows=n)["benchmarks"][0]["predictions"]["csv"] for n in (1, 7)]
    one, other = (np.array([float(row["p_positive"]) for row in read_csv(path)]) for path in found)
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_tables_mark_what_is_published_and_what_was_measured(run: Callable[..., dict[str, Any]]) -> None:
    side_by_side, closer = grids_of(run("5agree", "FI_complete"))
    marks = [row[1] for row in side_by_side.rows]
    assert marks == ["published"] * 8 + ["measured"] * 2
    assert side_by_side.rows[7][2:] == ("87.8", "–")
    notes = " ".join(closer.notes)
    assert "0003.jpg (missing)" in notes
    assert "the list has 12 images, published are 882" in notes


def test_images_that_the_model_was_trained_on_are_counted(
    tmp_path: Path, root: Path, vit_classifier: Path, run: Callable[..., dict[str, Any]]
) -> None:
    import shutil

    from sentifuse.extract.seen_images import write_seen

    model = tmp_path / "artifacts" / "weights" / "seen-it"
    shutil.copytree(vit_classifier, model)
    images = sorted((root / "FI" / "images" / "awe").iterdir())[:2]
    write_seen(model, [SeenImage(image_digest=digest(p.read_bytes()), id=p.stem, dataset="t4sa") for p in images])
    document = run("FI_complete", model="seen-it")  # by its name
    assert document["benchmarks"][0]["n_seen"] == 2
    assert "trained on 2 of these images" in " ".join(grids_of(document)[1].notes)


@pytest.mark.slow
def test_five_folds_fine_tune_the_model_and_answer_every_image(run: Callable[..., dict[str, Any]]) -> None:
    document = run("5agree", with_five_fold=True, overrides={"epochs": 1, "batch_size": 8})
    (found,) = document["five_fold"]
    rows = read_csv(found["predictions"]["csv"])
    assert sorted({row["fold"] for row in rows}) == ["1", "2", "3", "4", "5"]
    assert found["statuses"] == {"missing": 1, "not an image": 1, "ok": 9, "truncated": 1}
    assert sum(fold["n"] for fold in found["folds"]) == 9
    assert sum(fold["n_train"] for fold in found["folds"]) == 4 * 9  # each usable image is learned from four times
    accuracies = [fold["accuracy"] for fold in found["folds"]]
    assert found["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert found["accuracy"]["sd"] == pytest.approx(np.std(accuracies))
    left = sorted(path.name for path in Path(document["files"]["json"]).parent.iterdir())
    assert left == ["benchmark.json", "five_fold", "predictions", "table.md", "table.tex"]  # no weights stay behind


class Stopped(Exception):
    """Stands for a process that was killed."""


def times_taken_out(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in ("made", "files", "command")}


def test_a_stop_in_a_fold_loses_nothing_that_was_done(
    tmp_path: Path, root: Path, probe: Path, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"model": str(probe), "with_five_fold": True, "overrides": {"epochs": 2}}
    expected = run("5agree", out=tmp_path / "whole", **values)
    assert expected["is_complete"]
    tasks: list[str] = []
    look = trainers._ProbeTrainer.__call__

    def stop_in_fold_4(self: Any, task: Any) -> Any:
        tasks.append(task.name)
        if tasks == [f"5agree-fold-{k}" for k in (1, 2, 3, 4)]:
            raise Stopped
        return look(self, task)

    monkeypatch.setattr(trainers._ProbeTrainer, "__call__", stop_in_fold_4)
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        run("5agree", out=out, **values)
    written = json.loads((out / "benchmark.json").read_text(encoding="utf-8"))
    assert not written["is_complete"]
    assert written["benchmarks"][0]["scores"] == expected["benchmarks"][0]["scores"]
    assert sorted(path.name for path in (out / "fine-tuned").iterdir()) == [f"5agree-fold-{k}.json" for k in (1, 2, 3)]
    (out / ".training-killed").mkdir()  # what a process that is killed leaves behind
    tasks.clear()
    predictions = (out / "predictions" / "5agree.csv").stat().st_mtime_ns
    found = run("5agree", out=out, **values)
    assert tasks == ["5agree-fold-4", "5agree-fold-5"]
    assert (out / "predictions" / "5agree.csv").stat().st_mtime_ns == predictions

    def elsewhere(document: dict[str, Any]) -> str:
        return json.dumps(times_taken_out(document)).replace(str(out), str(tmp_path / "whole"))

    assert elsewhere(found) == elsewhere(expected)
    for name in ("five_fold/5agree.csv", "table.md"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    names = {path.name for path in out.iterdir()}
    assert names == {"benchmark.json", "five_fold", "predictions", "table.md", "table.tex"}
    tasks.clear()
    assert elsewhere(run("5agree", out=out, **values)) == elsewhere(expected)
    assert tasks == []


def test_the_splits_of_fi_are_gone_on_with_too(
    tmp_path: Path,
    probe: Path,
    write_fi_splits: Callable[[Path], None],
    run: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_fi_splits(tmp_path / "fi")
    values: dict[str, Any] = {"model": str(probe), "root": tmp_path / "fi", "with_fi_splits": True}
    tasks: list[str] = []
    look = trainers._ProbeTrainer.__call__

    def stop_in_split_3(self: Any, task: Any) -> Any:
        tasks.append(task.name)
        if len(tasks) == 3:
            raise Stopped
        return look(self, task)

    monkeypatch.setattr(trainers._ProbeTrainer, "__call__", stop_in_split_3)
    with pytest.raises(Stopped):
        run(out=tmp_path / "out", **values)
    found = run(out=tmp_path / "out", **values)
    assert tasks == [f"FI-split-{k}" for k in (1, 2, 3, 3, 4, 5)]
    accuracies = [one["accuracy"] for one in found["fi_splits"]["splits"]]
    assert len(accuracies) == 5
    assert found["fi_splits"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"seed": 1}, "seed"),
        ({"overrides": {"epochs": 3}}, "settings"),
        ({"with_five_fold": True}, "five_fold"),
        ({"names": ("5agree", "FI_complete")}, "lists"),
    ],
)
def test_another_benchmarking_is_not_gone_on_with(
    tmp_path: Path, root: Path, run: Callable[..., dict[str, Any]], changes: dict[str, Any], differs: str
) -> None:
    out = tmp_path / "out"
    run("5agree", out=out)
    before = (out / "benchmark.json").read_bytes()
    names = changes.pop("names", ("5agree",))
    with pytest.raises(ConfigError, match=rf"another benchmarking was begun there; these differ: {differs}\."):
        run(*names, out=out, **changes)
    assert (out / "benchmark.json").read_bytes() == before


def test_a_list_or_a_model_that_changed_is_not_gone_on_with(
    tmp_path: Path, root: Path, probe: Path, run: Callable[..., dict[str, Any]]
) -> None:
    out = tmp_path / "out"
    run("5agree", out=out)
    with pytest.raises(ConfigError, match=r"these differ: model\."):
        run("5agree", out=out, model=str(probe))
    file = root / "Twitter Testing Dataset I" / "5agree.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("0001.jpg,0", "0001.jpg,1"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"these differ: lists\."):
        run("5agree", out=out)


def test_two_benchmarkings_in_one_folder_are_refused(tmp_path: Path, run: Callable[..., dict[str, Any]]) -> None:
    with only_here(tmp_path / "out"), pytest.raises(Locked):
        run("5agree", out=tmp_path / "out")
    assert run("5agree", out=tmp_path / "out")["is_complete"]


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"names": ("5agre",)}, ConfigError, "5agree"),
        ({"names": ()}, ConfigError, "at least one benchmark"),
        ({"names": ("5agree", "5agree")}, ConfigError, "each benchmark once"),
        ({"names": ("FI_complete",), "with_five_fold": True}, ConfigError, "--fi-splits"),
        ({"names": ("4agree",)}, DataError, "4agree.csv"),
        ({"model": "nobody"}, ResourceError, "found none"),
        ({"overrides": {"epoch": "1"}, "with_five_fold": True}, ConfigError, "epochs"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    tmp_path: Path, root: Path, vit_classifier: Path, changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    values: dict[str, Any] = {
        "artifacts": tmp_path / "artifacts", "model": str(vit_classifier), "root": root, "names": ("5agree",),
        "device": "cpu",
    }  # fmt: skip
    with pytest.raises(error, match=says):
        run_benchmarks(BenchmarkRequest(**(values | changes)))
    assert not (tmp_path / "artifacts").exists()


def test_a_label_outside_the_coding_is_refused_with_its_line(root: Path, run: Callable[..., dict[str, Any]]) -> None:
    file = root / "Twitter Testing Dataset I" / "5agree.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("0001.jpg,0", "0001.jpg,2"), encoding="utf-8")
    with pytest.raises(DataError, match=r"5agree\.csv line 3"):
        run("5agree")


def test_a_folder_that_holds_something_is_not_written_to(tmp_path: Path, run: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="new or an empty folder"):
        run("5agree", out=tmp_path / "out")


@pytest.mark.slow
def test_fi_splits_choose_by_validation_and_answer_the_test_part(
    tmp_path: Path, write_fi_splits: Callable[[Path], None], run: Callable[..., dict[str, Any]]
) -> None:
    write_fi_splits(tmp_path / "fi")
    document = run(root=tmp_path / "fi", with_fi_splits=True, overrides={"epochs": 2, "learning_rate": 1e-3})
    found = document["fi_splits"]
    assert [one["split"] for one in found["splits"]] == [1, 2, 3, 4, 5]
    assert all(one["n_train"] == 12 and one["n"] == 4 for one in found["splits"])
    assert all(0 <= one["best"]["val_accuracy"] <= 1 for one in found["splits"])
    assert found["accuracy"]["mean"] == pytest.approx(np.mean([one["accuracy"] for one in found["splits"]]))
