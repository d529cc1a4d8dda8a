"""Rows gathered from shards are those of the reader, in the order asked for."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import CacheError, ConfigError
from sentifuse.cache.current import read_current
from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.vectors import gather, parse_feature


def open_reader(artifacts: Path, encoder: str, **how: str) -> FeatureReader:
    return FeatureReader(read_current(artifacts / "cache" / "tweets").directory(encoder), **how)


@pytest.mark.parametrize("how", ["mmap", "h5py"])
def test_rows_come_in_the_order_asked_for(write_tweets: Callable[..., Path], make_tweet: Any, how: str) -> None:
    reader = open_reader(write_tweets([make_tweet(id=f"{i}-1") for i in range(9)]), "context", reader=how)
    ids = ["7-1", "0-1", "8-1", "2-1", "0-1"]  # of two shards
    found = gather(reader, "vector", ids)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.stack([reader.value(id_, "vector") for id_ in ids]))
    assert np.array_equal(gather(reader, "vector", ids, np.float16), found.astype(np.float16))
    assert gather(reader, "vector", []).shape == (0, 16)


def test_a_row_without_values_is_refused(write_tweets: Callable[..., Path], make_tweet: Any) -> None:
    artifacts = write_tweets([make_tweet(id="1-1"), make_tweet(id="2-1", probabilities=None)])
    with pytest.raises(CacheError, match=re.escape("no values of 2-1 (failed: too long)")):
        gather(open_reader(artifacts, "teacher"), "probabilities", ["1-1", "2-1"])


@pytest.mark.parametrize("text", ["context", ".vector", "context."])
def test_a_feature_is_an_encoder_and_a_field(text: str) -> None:
    with pytest.raises(ConfigError, match=r"context\.vector"):
        parse_feature(text)
