"""Laws of decoding and cleaning."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse import ConfigError
from sentifuse.data.text import CLEANERS, UndecodableText, clean, decode, encoding_name, is_bare, normalise

any_text = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@settings(derandomize=True, max_examples=50)
@given(any_text.filter(lambda text: not text.startswith("\ufeff")))
def test_decoding_undoes_encoding(text: str) -> None:
    assert decode(text.encode("gb18030"), "gb18030") == text
    assert decode(text.encode("utf-8"), "utf-8") == text


def test_cut_tweet_of_published_bytes_is_read_as_an_ellipsis() -> None:
    assert decode(b"so long\xa1\xad", "gb18030") == "so long…"
    assert decode(b"\xd0\xa6", "gb18030") == "笑"  # also valid UTF-8, where it would be another letter


def test_byte_order_mark_is_removed_and_nothing_else() -> None:
    assert decode(b"\xef\xbb\xbf hi \r\n", "utf-8") == " hi \r\n"


def test_impossible_bytes_are_refused_with_their_place() -> None:
    with pytest.raises(UndecodableText, match="ff ff at 2") as caught:
        decode(b"ok\xff\xff", "gb18030")
    assert caught.value.reason == "bytes ff ff at 2 are not gb18030"


@pytest.mark.parametrize("name", ["klingon", "hex", ""])
def test_unknown_encoding_is_a_setting_error(name: str) -> None:
    with pytest.raises(ConfigError, match="--encoding"):
        encoding_name(name)


@settings(derandomize=True, max_examples=50)
@given(any_text, st.sampled_from(CLEANERS))
def test_no_cleaner_leaves_control_characters(text: str, mode: str) -> None:
    cleaned = clean(text + "\x00\x1f\x7f", mode)
    assert not {chr(code) for code in (*range(9), *range(14, 32), 127)} & set(cleaned)


@settings(derandomize=True, max_examples=50)
@given(st.text(alphabet="ab #.\n\t…é"))
def test_raw_changes_nothing_but_control_characters(text: str) -> None:
    assert clean(text, "raw") == text


@settings(derandomize=True, max_examples=50)
@given(st.text(alphabet="ab@:/.#… RThtps\n&;"))
def test_tweet_cleaning_leaves_no_link_no_mention_and_no_double_blank(text: str) -> None:
    cleaned = clean(text, "tweet")
    assert not re.search(r"https?://\S", cleaned, re.IGNORECASE)
    assert not re.search(r"(?<!\w)@(?!user)\w", cleaned)
    assert cleaned == " ".join(cleaned.split())
    assert not cleaned.endswith("…")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RT @ann: Tom &amp; I http://t.co/Ab1 \n", "@user: Tom & I http"),
        ("see https://t.co/x and http://t.co/y…", "see http and http"),
        ("so nice htt…", "so nice http"),
        ("so nice http:/…", "so nice http"),
        ("so nice https://t…", "so nice http"),
        ("so nice http:/", "so nice http"),
        ("so nice htt", "so nice http"),
        ("#lovely #cut… ", "#lovely #cut"),
        ("mail me a@b.org", "mail me a@b.org"),
        ("ART of it. RT", "ART of it. RT"),
        ("the hut… http is a word", "the hut… http is a word"),
        ("", ""),
    ],
)
def test_tweet_cleaning_of_what_tweets_hold(text: str, expected: str) -> None:
    assert clean(text, "tweet") == expected


def test_teacher_cleaning_is_the_published_preprocessing() -> None:
    def published(text: str) -> str:
        words = []
        for word in text.split(" "):
            word = "@user" if word.startswith("@") and len(word) > 1 else word
            word = "http" if word.startswith("http") else word
            words.append(word)
        return " ".join(words)

    for text in ("hi  @ann @ @@", "a\n@bob http://x https", " @x ", "httpx (http://y)", ""):
        assert clean(text, "teacher") == published(text)


def test_unknown_cleaner_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean 'tweet'"):
        clean("x", "tweets")


def test_long_and_empty_texts_are_legal() -> None:
    assert clean("", "tweet") == ""
    assert len(clean("word " * 10_000, "tweet").split()) == 10_000


def test_bare_text_has_no_word_of_its_own() -> None:
    assert is_bare("RT @ann: http://t.co/x htt…")
    assert is_bare(" !?? ")
    assert not is_bare("RT @ann: yes")
    assert not is_bare("@user_name's")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RT @Ann_1: What a DAY!!! #sun http://t.co/x", "what a day #sun"),
        ("rt @ann what a day #sun htt…", "what a day #sun"),
        ("What a day #sun h… \n", "what a day #sun"),  # a link cut after its first letter
        ("What a day #sun h", "what a day #sun h"),
        ("Shirt: RT", "shirt rt"),
        ("snow_day\u3000É,é", "snow_day é é"),
        ("http://t.co/x @ann …", ""),
        ("", ""),
    ],
)
def test_normalised_text_keeps_words_and_hashtags(text: str, expected: str) -> None:
    assert normalise(text) == expected


@settings(derandomize=True, max_examples=50)
@given(any_text)
def test_normalised_text_has_single_blanks_and_no_other_sign(text: str) -> None:
    assert not re.search(r"[^\w# ]|  |^ | $", normalise(text))
