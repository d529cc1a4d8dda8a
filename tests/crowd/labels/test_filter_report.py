"""The numbers of a report add up, and people's labels are compared by hand-computed values, seen and unseen apart."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse.crowd.labels.choose import FilterRequest, choose
from sentifuse.crowd.labels.filter_report import build_report
from sentifuse.crowd.labels.filtering import Thresholds
from sentifuse.crowd.labels.pseudo_labels import write_pseudo_labels
from sentifuse.crowd.labels.teachers import label_by_encoder

Write = Callable[..., Path]
SURE = {"negative": (0.8, 0.1, 0.1), "neutral": (0.02, 0.95, 0.03), "positive": (0.01, 0.03, 0.96)}


def report_of(artifacts: Path, seen: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    labels = label_by_encoder(artifacts, "tweets")
    labels = replace(labels, gold_seen=np.array([id_ in seen for id_ in labels.ids]))
    write_pseudo_labels(artifacts, "tweets", "default", labels)
    return build_report(artifacts, choose(FilterRequest(artifacts=artifacts, dataset="tweets", **changes)))


@pytest.fixture
def tweets(make_tweet: Any) -> list[Any]:
    """Ten pairs: nine with a text, eight of them with an image, six sure."""
    words = ["negative", "neutral", "neutral", "positive", "positive", "positive"]
    people = ["negative", "neutral", "positive", "positive", "positive", "negative"]
    pairs = [
        make_tweet(id=f"{i // 2}-{i % 2}", probabilities=SURE[word], image_label=said, text_label=word)
        for i, (word, said) in enumerate(zip(words, people, strict=True))
    ]
    unsure = [make_tweet(id=f"9-{i}", probabilities=(0.2, 0.3, 0.5), image_label="neutral") for i in range(2)]
    return [*pairs, *unsure, make_tweet(id="10-1", picture="gone"), make_tweet(id="11-1", text=None)]


def test_counts_add_up_and_shares_are_of_usable_images(write_tweets: Write, tweets: list[Any]) -> None:
    report = report_of(write_tweets(tweets))
    assert report["counts"] == {"pairs": 10, "labelled": 9, "usable": 8, "sure": 6, "kept": 6}
    assert report["left_out"] == {"unsure: positive": 2, "image: missing": 1}
    assert report["without_label"] == {"text: missing": 1}
    assert report["counts"]["labelled"] == report["counts"]["kept"] + sum(report["left_out"].values())
    positive = report["per_class"]["positive"]
    assert (positive["labelled"], positive["usable"], positive["kept"]) == (5, 5, 3)
    assert positive["kept_share"] == 3 / 5
    assert positive["balance_before"] == 5 / 8
    assert positive["balance_after"] == 3 / 6
    assert report["per_class"]["negative"]["labelled"] == 2  # one of them without an image
    assert report["tweets"]["kept"] == {
        "tweets": 3,
        "images": 6,
        "mean": 2.0,
        "images_per_tweet": {"1": 0, "2": 3, "3": 0, "4": 0, "5+": 0},
    }
    assert report["split"] == {"train": 6, "val": 0, "absent": ["negative", "neutral", "positive"]}


def test_people_are_compared_by_hand(write_tweets: Write, tweets: list[Any]) -> None:
    report = report_of(write_tweets(tweets))
    kept = report["gold"]["image_label"]["unseen"]["kept"]
    assert kept["n"] == 6
    assert kept["accuracy"] == pytest.approx(4 / 6)
    assert kept["majority"] == pytest.approx(3 / 6)
    assert kept["confusion"] == [[1, 0, 1], [0, 1, 0], [0, 1, 2]]  # rows: people; columns: pseudo-labels
    assert kept["per_class"]["positive"]["precision"] == pytest.approx(2 / 3)
    assert kept["per_class"]["negative"]["recall"] == pytest.approx(1 / 2)
    # One bin a confidence: |1 - .8| / 6 + 2 |1/2 - .95| / 6 + 3 |2/3 - .96| / 6; .95 and .96 share the last bin.
    assert kept["ece"] == pytest.approx((0.2 + abs(3 - (2 * 0.95 + 3 * 0.96))) / 6, abs=1e-6)
    usable = report["gold"]["image_label"]["unseen"]["usable"]
    assert usable["n"] == 8
    assert usable["accuracy"] == pytest.approx(4 / 8)
    assert report["gold"]["text_label"]["unseen"]["kept"]["accuracy"] == 1.0


def test_pairs_whose_labels_the_teacher_saw_are_counted_apart(write_tweets: Write, tweets: list[Any]) -> None:
    report = report_of(write_tweets(tweets), seen=("0-0", "0-1", "1-0", "1-1"))
    of_images = report["gold"]["image_label"]
    assert (of_images["seen"]["kept"]["n"], of_images["unseen"]["kept"]["n"]) == (4, 2)
    assert of_images["seen"]["kept"]["accuracy"] == pytest.approx(3 / 4)
    assert of_images["unseen"]["kept"]["accuracy"] == pytest.approx(1 / 2)


def test_the_words_of_a_seen_pair_are_seen_under_every_id(write_tweets: Write, tweets: list[Any]) -> None:
    same = {"0-0": "So cold! http://t.co/x", "1-0": "so COLD", "2-1": "...", "1-1": "http://t.co/y"}
    told = [replace(tweet, text=same.get(tweet.id, tweet.text)) for tweet in tweets]
    of_texts = report_of(write_tweets(told), seen=("0-0", "1-1"))["gold"]["text_label"]
    assert of_texts["seen"]["kept"]["n"] == 3  # 1-0 too; a text without words is like no other
    assert of_texts["unseen"]["kept"]["n"] == 3


def test_without_people_there_is_a_reason(write_tweets: Write, tweets: list[Any]) -> None:
    nobody = [replace(tweet, image_label=None, text_label=None) for tweet in tweets]
    report = report_of(write_tweets(nobody), thresholds=Thresholds())
    assert report["gold"] is None
    assert report["gold_reason"] == "the dataset has no labels of images or texts by people"
