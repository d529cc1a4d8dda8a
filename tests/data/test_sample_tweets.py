"""Tweets: the sentiment is in the lexicon's words alone, and the scene is known by its props only."""

import re
from string import Formatter

from sentifuse.data.dice import Dice
from sentifuse.data.sample_scenes import PROP_COLOURS, PROPS
from sentifuse.data.sample_tweets import LEXICONS, NAMES, PLACES, TEMPLATES, TIMES, compose_tweet
from sentifuse.data.source import SENTIMENT


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def lexicon_words(sentiment: str) -> set[str]:
    return {word for group in LEXICONS[sentiment].values() for entry in group for word in words_of(entry)}


def test_lexicons_share_no_word_with_each_other_nor_with_anything_else() -> None:
    everything = [lexicon_words(name) for name in SENTIMENT]
    fixed = " ".join(literal for template in TEMPLATES for literal, *_ in Formatter().parse(template))
    everything.append(words_of(" ".join((fixed, *PLACES, *TIMES, *NAMES, *PROPS, *PROP_COLOURS, "RT http htt t co"))))
    for place, group in enumerate(everything):
        for other in everything[place + 1 :]:
            assert not group & other


def test_words_of_a_tweet_tell_its_sentiment_and_no_other() -> None:
    for sentiment in SENTIMENT:
        for number in range(100):
            tweet = compose_tweet(sentiment, [("teal", "car")], Dice(f"{sentiment}{number}"))
            found = words_of(re.sub(r"http://t.co/\w+", "", tweet))
            assert len(found & lexicon_words(sentiment)) >= 2
            assert not any(found & lexicon_words(other) for other in SENTIMENT if other != sentiment)
            assert "car" in found


def test_same_dice_write_tweets_of_the_same_make_for_all_sentiments() -> None:
    for number in range(30):
        tweets = [compose_tweet(name, [("teal", "car")], Dice(f"{number}")) for name in SENTIMENT]
        assert len({(tweet.startswith("RT"), "http" in tweet, tweet.endswith("…")) for tweet in tweets}) == 1


def test_tweets_hold_what_real_ones_hold() -> None:
    tweets = [compose_tweet("neutral", [("teal", "car")], Dice(f"{number}")) for number in range(200)]
    for part in ("RT @", "@", "#", "http://t.co/", "htt…", "????"):
        assert any(part in tweet for tweet in tweets), part
    assert max(map(len, tweets)) <= 160
    for tweet in tweets:
        assert tweet.encode("gb18030").decode("gb18030") == tweet
