"""Texts: bytes are decoded strictly by the dataset's rule, and cleaned only when an encoder asks for it.

The manifest keeps texts as read; cleaning is a setting of each text encoder. `normalise` is for comparing texts, never
for encoding them. Does not tokenise.
"""

import codecs
import html
import re
from collections.abc import Callable

from sentifuse import ConfigError, DataError


class UndecodableText(DataError):
    """These bytes are no text in the encoding asked for; `reason` says where they stop being one."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"text: expected bytes of the dataset's encoding, found: {reason}. Try another --encoding")
        self.reason = reason


def encoding_name(name: str) -> str:
    """The one spelling of an encoding's name, or `ConfigError`.

    >>> encoding_name("UTF8"), encoding_name("GB18030")
    ('utf-8', 'gb18030')
    """
    try:
        " ".encode(name)  # also refuses codecs that do not make text, such as "hex"
        return codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        raise ConfigError(
            f"--encoding: expected the name of a text encoding such as utf-8, gb18030 or latin-1, found {name!r}"
        ) from error


def decode(raw: bytes, encoding: str) -> str:
    """Text of `raw`, strictly: no byte is dropped or replaced. A byte order mark is removed, nothing else.

    Raises
    ------
    UndecodableText
        Some byte is impossible in this encoding.

    >>> decode(b"so cold\\xa1\\xad", "gb18030")
    'so cold…'
    """
    try:
        return raw.decode(encoding, errors="strict").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        found = raw[error.start : error.start + 4].hex(" ")
        raise UndecodableText(f"bytes {found} at {error.start} are not {encoding}") from error
    except UnicodeError as error:
        raise UndecodableText(f"not {encoding}: {error}") from error


# Control characters other than white space. NUL, one of them, stops some tokenizers.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")

_LINK = re.compile(r"https?://\S+", re.IGNORECASE)
# Tweets cut at 140 characters end in a cut link: "http:/…", "htt…"; where "…" was lost too, in "http:/" or "htt".
_CUT_LINK = re.compile(
    r"(?<!\w)(?:https?:?/{0,2}(?:…|\.\.\.)?|htt?(?:…|\.\.\.)|htt)\s*$|(?<!\w)https?:/{0,2}(?!\S)", re.IGNORECASE
)
_MENTION = re.compile(r"(?<!\w)@\w+")
_RETWEET = re.compile(r"^\s*RT(?=[\s:@])[\s:]*")
_RETWEET_LOWER = re.compile(_RETWEET.pattern, re.IGNORECASE)
_CUT_END = re.compile(r"[\s…]*…[\s…]*$")


def _raw(text: str) -> str:
    return text


def _teacher(text: str) -> str:
    # Word for word what the published teacher was fed: single blanks split, everything else stays, also newlines.
    words = (
        "@user" if word.startswith("@") and len(word) > 1 else "http" if word.startswith("http") else word
        for word in text.split(" ")
    )
    return " ".join(words)


def _tweet(text: str) -> str:
    text = html.unescape(text)
    text = _RETWEET.sub("", text)
    text = _LINK.sub("http", text)
    text = _CUT_LINK.sub("http", text)
    text = _MENTION.sub("@user", text)
    text = _CUT_END.sub("", text)
    return " ".join(_CONTROLS.sub("", text).split())


_CLEANERS: dict[str, Callable[[str], str]] = {"raw": _raw, "tweet": _tweet, "teacher": _teacher}
CLEANERS = tuple(_CLEANERS)


def clean(text: str, mode: str) -> str:
    r"""`text` as an encoder wants it. Every mode removes control characters that are no white space (NUL above all).

    raw
        Nothing else is changed.
    tweet
        HTML entities resolved; a leading ``RT`` removed; links, whole or cut, become ``http``; mentions become
        ``@user``; a trailing ``…`` removed; runs of white space become one blank, none at the ends.
    teacher
        The preprocessing of the Twitter sentiment models: split on single blanks, words that start with ``@`` (and are
        longer) become ``@user``, words that start with ``http`` become ``http``.

    >>> clean("RT @ann: so &amp; so http://t.co/x htt…", "tweet")
    '@user: so & so http http'
    >>> clean("hi\nyou @bob see https://t.co/x", "teacher")
    'hi\nyou @user see http'
    >>> clean("a\x00b", "raw")
    'ab'
    """
    if mode not in _CLEANERS:
        raise ConfigError.unknown("text cleaning", mode, CLEANERS)
    return _CLEANERS[mode](_CONTROLS.sub("", text))


def is_bare(text: str) -> bool:
    """Whether nothing is left once links, ``RT``, mentions and punctuation are gone; legal, but without a word.

    >>> is_bare("RT @ann: http://t.co/x …"), is_bare("ok")
    (True, False)
    """
    words = re.sub(r"(?<!\w)http(?!\w)|@user(?!\w)", " ", _tweet(text))
    return not re.search(r"\w", words)


# One letter is left of these links. Only the ellipsis tells them from a word, so no cleaning touches them.
_CUT_AT_ITS_FIRST_LETTER = re.compile(r"(?<!\w)h(?:…|\.\.\.)\s*$")
_SEPARATORS = re.compile(r"[^\w#]+")


def normalise(text: str) -> str:
    """`text` reduced to what near-duplicates share: two texts that give the same string here are called the same.

    Lower case; whole and cut links, a leading ``RT`` and mentions removed; every run of other signs than letters,
    digits, ``_`` and ``#`` becomes one blank. "" when nothing is left, which equals no other text.

    >>> normalise("RT @ann: So COLD!! #ice http://t.co/x htt…"), normalise("so cold, #ice h…")
    ('so cold #ice', 'so cold #ice')
    """
    text = text.lower()
    for pattern in (_LINK, _CUT_LINK, _CUT_AT_ITS_FIRST_LETTER, _RETWEET_LOWER, _MENTION):
        text = pattern.sub(" ", text)
    return _SEPARATORS.sub(" ", text).strip()
