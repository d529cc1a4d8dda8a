"""Label rules: the counts of the literature come out, wrong rules give other counts, no order matters."""

import lzma
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse import ConfigError
from sentifuse.data.labels import Labels, merge_labels
from sentifuse.data.readers.mvsa import LabelRow, read_label_file
from sentifuse.data.source import SENTIMENT, Annotation

FOLDER = Path(__file__).parent
NEGATIVE, NEUTRAL, POSITIVE = SENTIMENT
WordPairs = tuple[tuple[str, str], ...]


def annotations(rows: tuple[LabelRow, ...]) -> list[Annotation]:
    return [
        Annotation(row.id, modality, annotator, word)
        for row in rows
        for annotator, words in enumerate(row.words)
        for modality, word in zip(("text", "image"), words, strict=True)
    ]


@pytest.fixture(scope="module")
def label_rows(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[LabelRow, ...]]:
    @cache
    def rows(name: str) -> tuple[LabelRow, ...]:
        path = tmp_path_factory.mktemp(name) / "labelResultAll.txt"
        path.write_bytes(lzma.decompress((FOLDER / f"labels_{name}.txt.xz").read_bytes()))
        found = read_label_file(path, {"single": 1, "multiple": 3}[name])
        assert not found.problems
        return found.rows

    rows("multiple")
    return rows


Rows = Callable[[str], tuple[LabelRow, ...]]


def by_rule(rows: tuple[LabelRow, ...], rule: str) -> Labels:
    return merge_labels(annotations(rows), rule, SENTIMENT)


def test_mvsa_multiple_by_the_published_rule(label_rows: Rows) -> None:
    labels = by_rule(label_rows("multiple"), "multisentinet")
    assert labels.class_counts() == {NEGATIVE: 1299, NEUTRAL: 4408, POSITIVE: 11320}
    assert labels.reason_counts() == {
        "conflict": 342,
        "no image majority": 1037,
        "no majority": 403,
        "no text majority": 791,
    }
    assert len(labels.ids) == 19600 == len(labels.by_id()) + sum(labels.reason_counts().values())
    known = labels.by_id()
    assert (known["3910"], known["5995"], known["15324"]) == (POSITIVE, POSITIVE, NEGATIVE)


def test_mvsa_single_pairs_by_both_rules(label_rows: Rows) -> None:
    labels = by_rule(label_rows("single"), "multisentinet")
    assert labels.class_counts() == {NEGATIVE: 1193, NEUTRAL: 419, POSITIVE: 2388}
    assert labels.reason_counts() == {"conflict": 358}
    same = by_rule(label_rows("single"), "consistent")
    assert same.class_counts() == {NEGATIVE: 627, NEUTRAL: 419, POSITIVE: 1248}
    assert same.reason_counts() == {"unequal": 4358 - 627 - 419 - 1248}


def join(text: str | None, image: str | None) -> str | None:
    if text is None or image is None:
        return None
    if text == image or image == NEUTRAL:
        return text
    return image if text == NEUTRAL else None


def majority(words: list[str], tie: str | None = None) -> str | None:
    word, count = Counter(words).most_common(1)[0]
    return word if count > 1 else tie


def tie_to_neutral(words: WordPairs) -> str | None:
    return join(majority([text for text, _ in words], NEUTRAL), majority([image for _, image in words], NEUTRAL))


def tie_to_first(words: WordPairs) -> str | None:
    texts, images = zip(*words, strict=True)
    return join(majority(list(texts), texts[0]), majority(list(images), images[0]))


def pair_rule_first(words: WordPairs) -> str | None:
    joined = [label for text, image in words if (label := join(text, image))]
    return majority(joined) if joined else None


def plurality_of_six(words: WordPairs) -> str | None:
    counts = Counter(word for pair in words for word in pair).most_common()
    return counts[0][0] if len(counts) == 1 or counts[0][1] > counts[1][1] else None


def majority_of_six(words: WordPairs) -> str | None:
    word, count = Counter(word for pair in words for word in pair).most_common(1)[0]
    return word if count >= 4 else None


def equal_majorities(words: WordPairs) -> str | None:
    text, image = majority([text for text, _ in words]), majority([image for _, image in words])
    return text if text == image else None


def first_annotator(words: WordPairs) -> str | None:
    return join(*words[0])


@pytest.mark.parametrize(
    ("wrong_rule", "positive", "neutral", "negative"),
    [
        (tie_to_neutral, 12064, 5611, 1583),
        (tie_to_first, 12171, 4792, 1905),
        (pair_rule_first, 11903, 4107, 1500),
        (plurality_of_six, 9328, 6359, 1092),
        (majority_of_six, 8487, 5435, 743),
        (equal_majorities, 7585, 4408, 606),
        (first_annotator, 11312, 5279, 2298),
    ],
)
def test_a_wrong_rule_is_recognised_by_its_counts(
    label_rows: Rows,
    wrong_rule: Callable[[WordPairs], str | None],
    positive: int,
    neutral: int,
    negative: int,
) -> None:
    counts = Counter(wrong_rule(row.words) for row in label_rows("multiple"))
    assert (counts[POSITIVE], counts[NEUTRAL], counts[NEGATIVE]) == (positive, neutral, negative)


def test_files_beside_the_project_hold_the_same_labels(shared: Path, label_rows: Rows) -> None:
    for name, count in (("single", 1), ("multiple", 3)):
        assert read_label_file(shared / f"mvsa_{name}" / "labelResultAll.txt", count).rows == label_rows(name)


word = st.sampled_from(SENTIMENT)
said = st.lists(
    st.builds(Annotation, st.sampled_from("abc"), st.sampled_from(["text", "image", "pair"]), st.integers(0, 2), word)
)


@settings(derandomize=True, max_examples=50)
@given(said, st.sampled_from(["multisentinet", "consistent", "given"]), st.randoms(use_true_random=False))
def test_order_of_annotations_makes_no_difference(one_order: list[Annotation], rule: str, random: Random) -> None:
    other = list(one_order)
    random.shuffle(other)
    ids = ("a", "b", "c")
    assert merge_labels(one_order, rule, SENTIMENT, ids=ids) == merge_labels(other, rule, SENTIMENT, ids=ids)


@settings(derandomize=True, max_examples=50)
@given(said, st.sampled_from(["multisentinet", "consistent", "given"]))
def test_every_pair_has_a_label_or_a_reason(given_words: list[Annotation], rule: str) -> None:
    labels = merge_labels(given_words, rule, SENTIMENT, ids=("a", "b", "c"))
    for label, reason in zip(labels.label, labels.reasons, strict=True):
        assert (label is None) == bool(reason)


@settings(derandomize=True, max_examples=50)
@given(word, word)
def test_joining_is_symmetric(text: str, image: str) -> None:
    def label(first: str, second: str) -> str | None:
        return merge_labels(
            [Annotation("1", "text", 0, first), Annotation("1", "image", 0, second)], "multisentinet", SENTIMENT
        ).label[0]

    assert label(text, image) == label(image, text)


def test_reasons_name_what_is_missing() -> None:
    words = [
        Annotation("half", "text", 0, POSITIVE),
        Annotation("odd", "text", 0, "postive"),
        Annotation("odd", "image", 0, NEGATIVE),
        Annotation("bad", "row", 0, "expected two words"),
        Annotation("gone", "text", 0, POSITIVE),
        Annotation("gone", "image", 0, POSITIVE),
    ]
    ids = ("half", "odd", "bad", "gone", "none")
    labels = merge_labels(words, "multisentinet", SENTIMENT, ids=ids, excluded={"gone": "withdrawn"})
    assert dict(zip(ids, labels.reasons, strict=True)) == {
        "half": "no image label",
        "odd": "unknown label word 'postive'",
        "bad": "malformed row: expected two words",
        "gone": "withdrawn",
        "none": "unlabelled",
    }
    assert labels.image_label[1] == NEGATIVE  # the other side of an odd row stays
    assert labels.text_label[1] is None
    assert labels.ids_with_reason("withdrawn") == ("gone",)


def test_any_number_of_classes_works_with_the_given_rule() -> None:
    classes = ("angry", "bored", "calm", "fear", "happy", "love", "sad")
    words = [Annotation(str(number), "pair", 0, name) for number, name in enumerate(classes)]
    assert merge_labels(words, "given", classes).class_counts() == dict.fromkeys(classes, 1)


def test_unknown_rule_and_target_name_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean 'consistent'"):
        merge_labels([], "consistant", SENTIMENT)
    with pytest.raises(ConfigError, match="text_label"):
        merge_labels([], "given", SENTIMENT).by_id("text_lable")
