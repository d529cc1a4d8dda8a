"""The report of a run: its numbers are those of the files, texts survive, everybody can read it, looks are counted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse import ConfigError
from sentifuse.fuse.report.run_report import report_run
from sentifuse.fuse.run import RunDirectory
from sentifuse.fuse.train import TrainRequest, train

ReadPage = Callable[[Path], Any]


@pytest.fixture(scope="module")
def found(odd_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a report said that the tests of this module read; the run is a copy, evaluated once before."""
    artifacts = tmp_path_factory.mktemp("report") / "artifacts"
    shutil.copytree(odd_run.artifacts, artifacts)
    return report_run(artifacts / "runs" / odd_run.name, device="cpu")


@pytest.fixture(scope="module")
def page_file(found: dict[str, Any]) -> Path:
    """The report itself."""
    return Path(found["html"])


def test_everybody_can_read_it_without_network_or_script(page_file: Path, read_page: ReadPage) -> None:
    read_page(page_file).refuse_what_others_cannot_read()
    content = page_file.read_text(encoding="utf-8")
    assert "default-src 'none'" in content
    assert "prefers-color-scheme" not in content  # paper is white
    assert "@media print" in content


def test_the_numbers_are_those_of_the_metrics(page_file: Path, odd_run: RunDirectory, read_page: ReadPage) -> None:
    metrics = json.loads((odd_run.path / "metrics-test.json").read_text(encoding="utf-8"))
    text = read_page(page_file).text
    for name in ("accuracy", "f1_weighted", "f1_macro", "balanced_accuracy"):
        found = metrics["intervals"][name]
        ends = "[unknown]" if found["low"] is None else f"[{found['low']:.4f}, {found['high']:.4f}]"
        assert text.count(ends) >= 2  # above, and in the table
        assert text.count(f"{metrics[name]:.4f}") >= 2
    assert f"{metrics['ece']:.4f}" in text
    for figures in metrics["per_class"].values():
        assert f"{figures['precision']:.4f}" in text


def test_texts_survive_and_nothing_in_them_is_executed(page_file: Path, read_page: ReadPage) -> None:
    page = read_page(page_file)
    for words in ("Grüße aus München", "😀👩‍👧", "שלום", "<script>alert('x')</script> &amp; a␀b"):
        assert words in page.text
    assert "note=<b>" in page.text  # the command
    directed = [attributes for tag, attributes in page.tags if tag == "p" and attributes.get("class") == "text"]
    assert directed
    assert all(attributes["dir"] == "auto" for attributes in directed)


def test_all_sections_and_pictures_are_there(page_file: Path, read_page: ReadPage) -> None:
    page = read_page(page_file)
    assert [found["id"] for found in page.all("h2")] == [
        "metrics", "subsets", "calibration", "errors", "attention", "training", "data", "recipe", "making"
    ]  # fmt: skip
    alts = " ".join(image["alt"] for image in page.all("img"))
    for picture in ("Confusion matrix: of 3 negative", "Accuracy by subset", "Reliability diagram", "Curves over 2"):
        assert picture in alts
    assert "The test part was opened" in page.text


def test_a_missing_image_has_a_placeholder(page_file: Path, read_page: ReadPage, odd_run: RunDirectory) -> None:
    holders = [attributes for tag, attributes in read_page(page_file).tags if attributes.get("class") == "none"]
    assert holders
    assert all(attributes["aria-label"] == "No image: the image file is gone" for attributes in holders)


def test_a_report_is_one_look_that_is_counted_and_said(
    found: dict[str, Any], odd_run: RunDirectory, page_file: Path, read_page: ReadPage
) -> None:
    assert odd_run.document["evaluations"] == {"test": 1}
    assert found["evaluations"] == 2
    assert RunDirectory.open(Path(found["run"])).document["evaluations"] == {"test": 2}
    assert page_file == Path(found["run"]) / "report-test.html"
    assert found["size_bytes"] == page_file.stat().st_size < 5_000_000
    assert not found["is_evaluated_now"]
    text = read_page(page_file).text
    assert "was opened 2 times for this run, this report included (counted in run.json)" in text
    assert "were chosen on validation" in text


@pytest.mark.slow
def test_a_report_of_validation_says_that_it_flatters(own_run: RunDirectory, read_page: ReadPage) -> None:
    heard: list[str] = []
    found = report_run(own_run, split="val", device="cpu", note=heard.append)
    assert found["is_evaluated_now"]
    assert "the val part was not evaluated yet: evaluated now, and counted in run.json" in heard
    text = read_page(Path(found["html"])).text
    assert "It was evaluated for this report." in text
    assert "its numbers flatter the head" in text


def test_without_features_all_else_is_there_and_the_look_is_counted(own_run: RunDirectory, read_page: ReadPage) -> None:
    shutil.rmtree(own_run.artifacts / "cache")
    heard: list[str] = []
    found = report_run(own_run, device="cpu", note=heard.append)
    assert found["evaluations"] == 2
    assert "sentifuse extract" in found["left_out"]["attention"]
    assert any(line.startswith("no attention figures: ") for line in heard)
    page = read_page(Path(found["html"]))
    page.refuse_what_others_cannot_read()
    assert "Not shown. " in page.text
    assert "Reliability diagram" in " ".join(image["alt"] for image in page.all("img"))


def test_another_file_is_not_overwritten_and_nothing_is_counted(own_run: RunDirectory, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.html"
    thesis.write_text("years of work", encoding="utf-8")
    with pytest.raises(ConfigError, match="found another file"):
        report_run(own_run, out=thesis, device="cpu")
    assert thesis.read_text(encoding="utf-8") == "years of work"
    assert RunDirectory.open(own_run.path).document["evaluations"] == {"test": 1}


@pytest.mark.slow
def test_a_closed_fit_without_weights_to_show_is_reported_too(
    make_world: Callable[..., Any], read_page: ReadPage
) -> None:
    world = make_world()
    run = train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head="logreg"))
    page = read_page(Path(report_run(run, device="cpu")["html"]))
    page.refuse_what_others_cannot_read()
    assert "penalties tried" in " ".join(image["alt"] for image in page.all("img"))
    assert "shows no weights, gates or voices" in page.text
    assert "This head has a closed fit" in page.text
