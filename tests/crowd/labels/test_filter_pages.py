"""What a person reads of a filter, and that its files come whole, the kept set last, or not at all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sentifuse import ConfigError, DataError
from sentifuse.crowd.labels.choose import Chosen, FilterRequest, choose
from sentifuse.crowd.labels.filter_pages import report_lines, write_filtered
from sentifuse.crowd.labels.filter_report import build_report
from sentifuse.crowd.labels.kept import read_kept
from sentifuse.crowd.labels.pseudo_labels import write_pseudo_labels
from sentifuse.crowd.labels.teachers import label_by_encoder
from sentifuse.data import files

Made = tuple[FilterRequest, Chosen, dict[str, Any]]
SURE = ((0.8, 0.1, 0.1), (0.02, 0.95, 0.03), (0.01, 0.03, 0.96), (0.3, 0.4, 0.3))
WORDS = ("negative", "neutral", "positive", "neutral")


@pytest.fixture
def make(write_tweets: Callable[..., Path], make_tweet: Any) -> Callable[..., Made]:
    def build(*, is_labelled: bool = True, **changes: Any) -> Made:
        tweets = [
            make_tweet(id=f"{i}-1", probabilities=SURE[i % 4], image_label=WORDS[i % 4] if is_labelled else None)
            for i in range(12)
        ]
        artifacts = write_tweets(tweets)
        write_pseudo_labels(artifacts, "tweets", "default", label_by_encoder(artifacts, "tweets"))
        request = FilterRequest(artifacts=artifacts, dataset="tweets", **changes)
        chosen = choose(request)
        return request, chosen, build_report(artifacts, chosen)

    return build


def test_all_files_are_there_and_say_the_same(make: Callable[..., Made]) -> None:
    request, chosen, report = make()
    paths = write_filtered(request, "sure", chosen, report)
    assert sorted(path.name for path in paths.values()) == [
        "kept-sure-reliability.png",
        "kept-sure.json",
        "kept-sure.md",
        "kept-sure.parquet",
        "left-out-sure.parquet",
    ]
    kept = read_kept(request.artifacts, "tweets", "sure")
    assert kept.ids == chosen.kept.ids
    assert kept.metadata["report"]["counts"] == report["counts"]
    assert json.loads(paths["numbers"].read_text("utf-8"))["counts"]["kept"] == 9
    columns, _ = files.read_table(paths["left_out"], ("id", "reason"), hint="")
    assert columns == {"id": ["3-1", "7-1", "11-1"], "reason": ["unsure: neutral"] * 3}
    page = paths["report"].read_text("utf-8")
    assert "9 of 12 pseudo-labels kept (surer than: negative 0.7, neutral 0.9, positive 0.9)" in page
    assert "![kept-sure-reliability.png](kept-sure-reliability.png)" in page
    with Image.open(paths["reliability"]) as picture:
        assert picture.size[0] > 400


def test_the_terminal_shows_classes_reasons_and_people(make: Callable[..., Made]) -> None:
    _, _, report = make(dedup="hash")
    text = "\n".join(report_lines(report))
    assert "teacher: encoder teacher" in text
    assert "at most 4 bits): 12 images compared, 0 groups of several, 0 dropped" in text
    assert "of the image    unseen  kept     9   100.0" in text
    assert "Images of a tweet" not in text  # of every tweet one
    assert "The validation part has no image of negative, neutral, positive" in text
    assert all(len(line) <= 130 for line in text.splitlines())


def test_without_people_there_is_no_picture_and_an_old_one_goes(make: Callable[..., Made]) -> None:
    request, chosen, report = make()
    picture = write_filtered(request, "a", chosen, report)["reliability"]
    request, chosen, report = make(is_labelled=False)
    paths = write_filtered(request, "a", chosen, report, overwrite=True)
    assert "reliability" not in paths
    assert not picture.exists()
    assert "not compared with people's labels: the dataset has no labels" in "\n".join(report_lines(report))


def test_people_who_see_text_and_image_otherwise_are_counted(
    write_tweets: Callable[..., Path], make_tweet: Any
) -> None:
    said = [("negative", "negative"), ("neutral", "positive"), ("positive", "negative"), (None, "positive")]
    tweets = [
        make_tweet(id=f"{i // 2}-{i}", probabilities=SURE[i % 3], text_label=text, image_label=image)
        for i, (text, image) in enumerate(said)
    ]
    artifacts = write_tweets(tweets)
    write_pseudo_labels(artifacts, "tweets", "default", label_by_encoder(artifacts, "tweets"))
    chosen = choose(FilterRequest(artifacts=artifacts, dataset="tweets"))
    report = build_report(artifacts, chosen)
    assert report["gold_agreement"] == {"unseen": {"n": 3, "share": 1 / 3}, "seen": {"n": 0, "share": None}}
    text = "\n".join(report_lines(report))
    assert "People gave text and image the same label in 33.3 % of 3 unseen pairs." in text
    assert "usable  2       4       2.00            0       2" in text


def test_a_report_beside_the_set_of_another_run_is_refused(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    request, chosen, report = make()
    paths = write_filtered(request, "a", chosen, report)
    assert json.loads(paths["numbers"].read_text("utf-8"))["kept_sha256"] == files.digest(paths["kept"].read_bytes())
    assert files.digest(paths["kept"].read_bytes()) in paths["report"].read_text("utf-8")
    other = replace(chosen, kept=replace(chosen.kept, metadata={**chosen.kept.metadata, "seed": 5}))

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sentifuse.crowd.labels.filter_pages.write_kept", stop)
        with pytest.raises(KeyboardInterrupt):
            write_filtered(request, "a", other, report, overwrite=True)
    with pytest.raises(DataError, match=r"kept-a\.json reports on, found another: .* --name a --force"):
        read_kept(request.artifacts, "tweets", "a")
    write_filtered(request, "a", other, report, overwrite=True)
    assert read_kept(request.artifacts, "tweets", "a").metadata["seed"] == 5


def test_a_set_made_in_another_way_is_refused_before_anything_is_written(make: Callable[..., Made]) -> None:
    request, chosen, report = make()
    paths = write_filtered(request, "a", chosen, report)
    before = {path: path.read_bytes() for path in paths.values()}
    write_filtered(request, "a", chosen, report)
    other = replace(chosen, kept=replace(chosen.kept, metadata={**chosen.kept.metadata, "seed": 5}))
    with pytest.raises(ConfigError, match="replace them: --force"):
        write_filtered(request, "a", other, report)
    assert {path: path.read_bytes() for path in paths.values()} == before
