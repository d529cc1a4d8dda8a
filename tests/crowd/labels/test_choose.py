"""Which images are kept: every pair is kept or has its reason; near-duplicates, tweets and empty classes."""

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentifuse import CacheError, ConfigError, DataError
from sentifuse.crowd.labels.choose import FilterRequest, choose
from sentifuse.crowd.labels.filtering import Thresholds
from sentifuse.crowd.labels.pseudo_labels import write_pseudo_labels
from sentifuse.crowd.labels.teachers import label_by_encoder

Write = Callable[..., Path]
NEGATIVE, NEUTRAL, POSITIVE = (0.8, 0.1, 0.1), (0.02, 0.95, 0.03), (0.01, 0.03, 0.96)


def labelled(artifacts: Path) -> Path:
    write_pseudo_labels(artifacts, "tweets", "default", label_by_encoder(artifacts, "tweets"))
    return artifacts


def request(artifacts: Path, **changes: Any) -> FilterRequest:
    return FilterRequest(artifacts=artifacts, dataset="tweets", **changes)


@pytest.fixture
def three(make_tweet: Any) -> list[Any]:
    """A sure tweet of every class."""
    return [make_tweet(id=f"{i}-1", probabilities=p) for i, p in enumerate((NEGATIVE, NEUTRAL, POSITIVE))]


def test_every_labelled_pair_is_kept_or_has_its_reason(write_tweets: Write, make_tweet: Any, three: list[Any]) -> None:
    tweets = [
        *three,
        make_tweet(id="4-1", probabilities=(0.3, 0.3, 0.4)),
        make_tweet(id="5-1", picture="gone"),  # several images of a tweet, one missing
        make_tweet(id="5-2"),
        make_tweet(id="6-1", picture="html"),
        make_tweet(id="7-1", text=None),
    ]
    chosen = choose(request(labelled(write_tweets(tweets))))
    assert chosen.kept.ids == ("0-1", "1-1", "2-1", "5-2")
    assert chosen.left_out == {
        "4-1": "unsure: positive",
        "5-1": "image: missing",
        "6-1": "image: cannot be decoded",
    }
    assert {*chosen.kept.ids, *chosen.left_out} == {*chosen.labels.ids}
    assert "7-1" in chosen.labels.left_out
    assert chosen.kept.classes.tolist() == [0, 1, 2, 0]
    assert chosen.kept.tweets == ("0", "1", "2", "5")
    assert chosen.kept.metadata["labels"] == {"name": "default", "digest": chosen.labels.digest}


def test_an_image_that_went_or_changed_since_it_was_registered_is_named(
    write_tweets: Write, make_tweet: Any, three: list[Any]
) -> None:
    artifacts = labelled(write_tweets([*three, make_tweet(id="4-1"), make_tweet(id="5-1")]))
    (artifacts / "datasets/tweets/4-1.jpg").unlink()
    (artifacts / "datasets/tweets/5-1.jpg").write_bytes((artifacts / "datasets/tweets/0-1.jpg").read_bytes())
    found = choose(request(artifacts)).left_out
    assert found == dict.fromkeys(("4-1", "5-1"), "image: gone or changed since it was registered")


@pytest.mark.parametrize("dedup", ["hash", "cosine"])
def test_of_near_duplicates_the_first_stays(
    write_tweets: Write, make_tweet: Any, three: list[Any], dedup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same picture saved in another quality, by another tweet; and by the same one.
    copies = [make_tweet(id=id_, picture=5, probabilities=POSITIVE) for id_ in ("8-1", "8-2", "9-1")]
    artifacts = labelled(write_tweets([*three, *copies]))
    same = np.eye(16, dtype=np.float32)[[0, 1, 2, 3, 3, 3]]
    monkeypatch.setattr("sentifuse.crowd.labels.choose.gather", lambda reader, name, ids, dtype: same)
    chosen = choose(request(artifacts, dedup=dedup))
    assert chosen.kept.ids == ("0-1", "1-1", "2-1", "8-1")
    assert chosen.left_out == dict.fromkeys(("8-2", "9-1"), "near-duplicate of an image before it")
    assert {name: chosen.dedup[name] for name in ("compared", "groups", "dropped")} == {
        "compared": 6,
        "groups": 1,
        "dropped": 2,
    }
    assert len(choose(request(artifacts, dedup="none")).kept) == 6


def test_hashes_drop_near_duplicates_unless_told_otherwise(
    write_tweets: Write, make_tweet: Any, three: list[Any]
) -> None:
    copies = [make_tweet(id=id_, picture=5) for id_ in ("8-1", "9-1")]
    chosen = choose(request(labelled(write_tweets([*three, *copies]))))
    assert (chosen.dedup["method"], chosen.dedup["dropped"]) == ("hash", 1)


def test_the_copy_of_an_unsure_image_is_not_kept_however_sure_it_is(
    write_tweets: Write, make_tweet: Any, three: list[Any]
) -> None:
    """Near-duplicates go before the filter: else 9-1, dropped at .90, would be there at .95."""
    shares = {"8-1": (0.04, 0.03, 0.93), "9-1": (0.01, 0.02, 0.97)}
    copies = [make_tweet(id=id_, picture=5, probabilities=found) for id_, found in shares.items()]
    artifacts = labelled(write_tweets([*three, *copies]))
    assert choose(request(artifacts)).kept.ids == ("0-1", "1-1", "2-1", "8-1")
    strict = choose(request(artifacts, thresholds=Thresholds(positive=0.95)))
    assert strict.kept.ids == ("0-1", "1-1", "2-1")
    assert strict.left_out == {"8-1": "unsure: positive", "9-1": "near-duplicate of an image before it"}


def test_comparing_very_many_by_cosine_is_announced(
    write_tweets: Write, three: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = labelled(write_tweets(three))
    said: list[str] = []
    done: list[tuple[int, int]] = []

    def look(dedup: str) -> list[str]:
        said.clear()
        choose(request(artifacts, dedup=dedup), cosine_progress=lambda *told: done.append(told), warn=said.append)
        return said

    assert look("cosine") == []
    assert done[-1] == (3, 3)
    monkeypatch.setattr("sentifuse.crowd.labels.choose.MANY_IMAGES", 2)
    assert "compares each of 3 images with every other" in look("cosine")[0]
    assert look("hash") == []


def test_parts_divide_no_tweet_and_no_near_duplicates(write_tweets: Write, make_tweet: Any) -> None:
    tweets = []
    for i in range(24):
        # Four images of a tweet; every third tweet shares a picture with the next.
        for k in range(1, 5):
            shared = 900 + i // 3 if k == 4 and i % 3 < 2 else None
            tweets.append(make_tweet(id=f"{i}-{k}", probabilities=(NEGATIVE, NEUTRAL, POSITIVE)[i % 3], picture=shared))
    chosen = choose(request(labelled(write_tweets(tweets)), val_share=0.3))
    parts = defaultdict(set)
    for id_, part in zip(chosen.kept.ids, chosen.kept.split, strict=True):
        tweet = int(id_.split("-")[0])
        parts[tweet - 1 if tweet % 3 == 1 else tweet].add(part)  # both tweets of a shared picture
    assert all(len(found) == 1 for found in parts.values())
    assert 10 < chosen.kept.split.count("val") < 50


@pytest.fixture
def many(write_tweets: Write, make_tweet: Any) -> Path:
    rng = np.random.default_rng(3)
    tweets = []
    for i in range(40):
        shares = tuple(np.roll(rng.dirichlet((6.0, 1.0, 1.0)), i % 3).tolist())
        tweets.append(make_tweet(id=f"{i // 2}-{i % 2}", probabilities=shares, picture=i % 20))
    return labelled(write_tweets(tweets))


def kept_ids(artifacts: Path, values: list[float], dedup: str) -> set[str]:
    """None where a class is empty."""
    thresholds = Thresholds(negative=values[0], neutral=values[1], positive=values[2])
    try:
        return {*choose(request(artifacts, thresholds=thresholds, dedup=dedup)).kept.ids}
    except DataError:
        return set()


limits = st.tuples(*[st.integers(0, 14).map(lambda n: n / 20)] * 3)


@given(limits, limits, st.sampled_from(["none", "hash"]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_raising_a_threshold_never_adds_an_image_near_duplicates_or_not(
    many: Path, one: tuple[float, ...], other: tuple[float, ...], dedup: str
) -> None:
    loose = kept_ids(many, np.minimum(one, other).tolist(), dedup)
    strict = kept_ids(many, np.maximum(one, other).tolist(), dedup)
    assert strict <= loose


def test_an_empty_class_is_refused_with_what_would_do(write_tweets: Write, make_tweet: Any, three: list[Any]) -> None:
    artifacts = labelled(write_tweets([make_tweet(id="7-1", probabilities=(0.6, 0.3, 0.1)), *three[1:]]))
    message = (
        "found none of negative (threshold 0.7, 1 images with this pseudo-label and no near-duplicate before "
        "them, the surest 0.6). Nothing was "
        "written. Try --negative 0.59, or take another teacher"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        choose(request(artifacts))
    assert "7-1" in choose(request(artifacts, thresholds=Thresholds(negative=0.59))).kept.ids


def test_a_class_that_the_teacher_never_names_is_refused(write_tweets: Write, three: list[Any]) -> None:
    artifacts = labelled(write_tweets(three[:2]))
    with pytest.raises(
        DataError,
        match=re.escape(
            "positive (threshold 0.9, 0 images with this pseudo-label and no near-duplicate before them). Nothing"
        ),
    ):
        choose(request(artifacts))


def test_a_class_that_near_duplicates_took_is_named_with_the_way_to_keep_it(
    write_tweets: Write, make_tweet: Any, three: list[Any]
) -> None:
    copies = [
        make_tweet(id="2-1", picture=5, probabilities=NEUTRAL),
        make_tweet(id="3-1", picture=5, probabilities=POSITIVE),
    ]
    artifacts = labelled(write_tweets([*three[:2], *copies]))
    with pytest.raises(DataError, match=r"written\. Try --dedup none, or take another teacher"):
        choose(request(artifacts))
    assert choose(request(artifacts, dedup="none")).kept.ids == ("0-1", "1-1", "2-1", "3-1")


def test_a_dataset_without_a_usable_image_is_refused(write_tweets: Write, make_tweet: Any) -> None:
    tweets = [make_tweet(id="1-1", picture="gone"), make_tweet(id="2-1", picture="html")]
    with pytest.raises(DataError, match=re.escape("found none that can be used of 2 (image: missing)")):
        choose(request(labelled(write_tweets(tweets))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dedup": "phash"}, "--dedup: unknown method 'phash'"),
        ({"dedup": "none", "dedup_threshold": 4}, "--threshold: expected --dedup hash or cosine beside it"),
        ({"dedup": "hash", "dedup_threshold": 0.9}, "expected whole bits from 0 to 31"),
        ({"dedup": "cosine", "dedup_threshold": 4.0}, "expected a cosine above 0, at most 1"),
        ({"val_share": 1.5}, "--val-share: expected a share"),
        ({"dedup": "cosine", "features": "context"}, "--features context: expected encoder.field"),
    ],
)
def test_words_and_numbers_that_cannot_be_are_refused(
    write_tweets: Write, three: list[Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        choose(request(labelled(write_tweets(three)), **changes))


def test_embeddings_that_were_not_extracted_name_the_line(write_tweets: Write, three: list[Any]) -> None:
    with pytest.raises(CacheError, match="run: sentifuse extract --dataset tweets --encoders clip"):
        choose(request(labelled(write_tweets(three)), dedup="cosine", features="clip.image"))
