"""The cached teacher labels every pair with a usable text; what it cannot label is named, and a stale row is refused.

Labels by a run of our own are tested where a run is trained: tests/commands/test_distil.py.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import CacheError, DataError
from sentifuse.crowd.labels.teachers import label_by_encoder
from sentifuse.data.files import digest
from sentifuse.data.manifest import read_manifest, write_manifest

Write = Callable[..., Path]


def test_every_pair_has_probabilities_or_a_reason(write_tweets: Write, make_tweet: Any) -> None:
    tweets = [
        make_tweet(id="1-1", probabilities=(0.1, 0.2, 0.7)),
        make_tweet(id="1-2", probabilities=(0.1, 0.2, 0.7), text="the same"),
        make_tweet(id="2-1", text=None),
        make_tweet(id="3-1", text=" \n "),
        make_tweet(id="4-1", probabilities=None),
        make_tweet(id="5-1", picture="gone", text_label="positive"),
    ]
    labels = label_by_encoder(write_tweets(tweets), "tweets")
    assert labels.ids == ("1-1", "1-2", "5-1")
    assert np.array_equal(labels.probabilities[0], np.array([0.1, 0.2, 0.7], np.float32))
    assert labels.left_out == {"2-1": "text: missing", "3-1": "text: blank", "4-1": "teacher: failed: too long"}
    assert not labels.gold_seen.any()
    assert labels.provenance["teacher"] == "encoder"
    assert labels.provenance["cleaning"] == "teacher"
    assert re.fullmatch("[0-9a-f]{64}", labels.provenance["digest"])


def test_without_the_features_both_ways_to_a_teacher_are_named(write_tweets: Write, make_tweet: Any) -> None:
    artifacts = write_tweets([make_tweet(id="1-1")], with_teacher=False)
    with pytest.raises(CacheError) as raised:
        label_by_encoder(artifacts, "tweets")
    assert "sentifuse extract --dataset tweets --encoders teacher" in str(raised.value)
    assert "sentifuse train --head text_only --target text_label --dataset tweets" in str(raised.value)
    assert "sentifuse distil label --dataset tweets --teacher RUN" in str(raised.value)


def test_a_profile_whose_features_are_not_there_names_the_line(write_tweets: Write, make_tweet: Any) -> None:
    artifacts = write_tweets([make_tweet(id="1-1"), make_tweet(id="2-1")])
    line = "2 are still to be computed. Run: sentifuse extract --dataset tweets --encoders teacher --profile tiny"
    with pytest.raises(CacheError, match=re.escape(line)):
        label_by_encoder(artifacts, "tweets", profile="tiny")


def test_a_text_that_changed_or_came_since_is_refused_by_name(write_tweets: Write, make_tweet: Any) -> None:
    artifacts = write_tweets([make_tweet(id="1-1"), make_tweet(id="2-1")])
    folder = artifacts / "datasets" / "tweets"
    manifest = read_manifest(folder)
    changed = replace(manifest.pairs[1], text="other words", text_digest=digest(b"other words"))
    write_manifest(folder, replace(manifest, pairs=(manifest.pairs[0], changed)))
    with pytest.raises(CacheError, match="1 of 2 pairs have another text than the one that was encoded: 2-1"):
        label_by_encoder(artifacts, "tweets")
    write_manifest(folder, replace(manifest, pairs=(*manifest.pairs, replace(manifest.pairs[0], id="9-1"))))
    with pytest.raises(CacheError, match="1 of 3 pairs are in no row: 9-1"):
        label_by_encoder(artifacts, "tweets")


def test_a_dataset_without_texts_is_refused(write_tweets: Write, make_tweet: Any) -> None:
    artifacts = write_tweets([make_tweet(id="1-1", text=None), make_tweet(id="2-1", text="")])
    with pytest.raises(DataError, match="expected pairs with a text to label, found none of 2"):
        label_by_encoder(artifacts, "tweets")
