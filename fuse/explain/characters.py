"""Which characters of a text as read a character of its cleaned form stands for. Reads nothing, cleans nothing.

Encoders cut the cleaned text into pieces; a person has the text as read before them. Any cleaning will do that keeps
the order of words: words are paired by the best alignment of both lists, then letters within each pair.
"""

# Shapes: N words of the text as read, M words of the cleaned one.

import re
from difflib import SequenceMatcher
from itertools import pairwise

Range = tuple[int, int]  # first character, and the one behind the last

_WORDS = re.compile(r"\S+")


def trace_characters(text: str, cleaned: str) -> list[Range]:
    """For every character of `cleaned`, the range of `text` that it stands for; ranges never go backwards.

    What cleaning replaced inside a word stands for the letters it replaced, and what it cut off belongs to the letter
    before. A character that has nothing to stand for has an empty range.

    >>> trace_characters("RT hi @bob", "hi @user")[3:]
    [(6, 7), (7, 10), (7, 10), (7, 10), (7, 10)]
    >>> trace_characters("see https://t.co/x", "see http")[-1]
    (7, 18)
    """
    if text == cleaned:
        return [(i, i + 1) for i in range(len(text))]
    raw, kept = _words(text), _words(cleaned)
    traced: list[Range | None] = [None] * len(cleaned)
    together = _pair_words([text[a:b] for a, b in raw], [cleaned[a:b] for a, b in kept])
    for (i, j), (next_i, next_j) in pairwise([(-1, -1), *together, (len(raw), len(kept))]):
        if j >= 0:
            (a, b), (c, d) = raw[i], kept[j]
            traced[c:d] = _trace_letters(text[a:b], cleaned[c:d], a)
        lost, lone = raw[i + 1 : next_i], kept[j + 1 : next_j]
        if lost and lone:  # words without a partner stand for all between their neighbours' words
            (a, _), (_, b), (c, _), (_, d) = lost[0], lost[-1], lone[0], lone[-1]
            traced[c:d] = [(a, b)] * (d - c)
    last = 0
    filled: list[Range] = []
    for found in traced:  # blanks between words, and words that cleaning invented, stand for nothing
        filled.append(found or (last, last))
        last = filled[-1][1]
    return filled


def piece_range(traced: list[Range], start: int, end: int) -> Range:
    """The range of the text as read that cleaned characters `start` to `end` (exclusive) stand for; (0, 0) for none."""
    ranges = [found for found in traced[start:end] if found[1] > found[0]]
    if not ranges:
        return 0, 0
    return min(first for first, _ in ranges), max(last for _, last in ranges)


def _words(text: str) -> list[Range]:
    return [found.span() for found in _WORDS.finditer(text)]


def _pair_words(raw: list[str], kept: list[str]) -> list[tuple[int, int]]:
    """Positions of words that belong together, in order, such that they resemble each other most in all."""
    scores = [[_resemblance(one, other) for other in kept] for one in raw]
    best = [[0.0] * (len(kept) + 1) for _ in range(len(raw) + 1)]  # (N + 1, M + 1): of the words behind i and j
    for i in reversed(range(len(raw))):
        for j in reversed(range(len(kept))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + scores[i][j])
    pairs = []
    i = j = 0
    while i < len(raw) and j < len(kept):
        if scores[i][j] > 0 and best[i][j] == best[i + 1][j + 1] + scores[i][j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _resemblance(raw: str, kept: str) -> float:
    """1 for equal words, else the share of the longer one that both begin or end with, or that is all of the other.

    >>> _resemblance("@ann:", "@user:"), _resemblance("RT", "@user:")
    (0.3, 0.0)
    """
    if raw == kept:
        return 1.0
    shorter = min(len(raw), len(kept))
    if kept in raw:
        return 0.9 * shorter / len(raw)
    ahead = next((i for i in range(shorter) if raw[i] != kept[i]), shorter)
    behind = next((i for i in range(shorter - ahead) if raw[-1 - i] != kept[-1 - i]), shorter - ahead)
    return 0.9 * (ahead + behind) / max(len(raw), len(kept))


def _trace_letters(raw: str, kept: str, offset: int) -> list[Range]:
    """One range per letter of a cleaned word, which stands where `raw` stood, `offset` characters into the text."""
    traced: list[Range] = []
    for kind, a, b, c, d in SequenceMatcher(None, raw, kept, autojunk=False).get_opcodes():
        if kind == "equal":
            traced += [(offset + i, offset + i + 1) for i in range(a, b)]
        elif kind == "delete" and traced:  # belongs to the letter before
            traced[-1] = traced[-1][0], offset + b
        else:
            traced += [(offset + a, offset + b)] * (d - c)
    return traced
