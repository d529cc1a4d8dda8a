"""Images of one tweet are known by it, and nothing else becomes one tweet by accident."""

from hypothesis import given
from hypothesis import strategies as st

from sentifuse.data.tweets import tweet_of

ids = st.text(min_size=1).filter(lambda text: not text.rpartition("-")[2].isdecimal() or "-" not in text)


@given(ids, st.lists(st.integers(min_value=0, max_value=9999), min_size=1))
def test_all_images_of_a_tweet_are_its_and_only_its(tweet: str, numbers: list[int]) -> None:
    assert {tweet_of(f"{tweet}-{k}") for k in numbers} == {tweet}


@given(ids)
def test_an_id_without_an_images_number_is_its_own_tweet(id_: str) -> None:
    assert tweet_of(id_) == id_


def test_only_the_last_number_is_the_images() -> None:
    assert tweet_of("2019-05-2") == "2019-05"
    assert tweet_of("-1") == "-1"
    assert tweet_of("769573412310167552-") == "769573412310167552-"
