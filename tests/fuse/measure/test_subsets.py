"""Subsets: every pair in exactly one of a family, by hand; their numbers with n and interval."""

import numpy as np
import pytest

from sentifuse import DataError
from sentifuse.data.labels import merge_labels
from sentifuse.data.source import Annotation
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.measure.subsets import FAMILIES, TITLES, accuracy_gap, score_subsets, subsets
from sentifuse.fuse.run import Predictions

CLASSES = ("negative", "neutral", "positive")
#          text, image
SIDES = {
    "a": ("positive", "positive"),
    "b": ("neutral", "negative"),
    "c": ("positive", "neutral"),
    "d": ("negative", "positive"),
    "e": ("positive", None),
    "f": ("neutral", "neutral"),
}
IDS = tuple(SIDES)
GROUPS = {"a": "g", "b": "h", "c": "c", "d": "d", "e": "g", "f": "f", "t": "g", "u": "h", "v": "v"}


def labels_of(sides: dict[str, tuple[str | None, str | None]], rule: str = "multisentinet"):
    said = [
        Annotation(id_, modality, 0, word)
        for id_, words in sides.items()
        for modality, word in zip(("text", "image"), words, strict=True)
        if word is not None
    ]
    return merge_labels(said, rule, CLASSES)


def predictions(said: dict[str, str], labels: dict[str, str] | None = None) -> Predictions:
    probabilities = np.full((len(said), 3), 0.1)
    probabilities[np.arange(len(said)), [CLASSES.index(word) for word in said.values()]] = 0.8
    true = np.array([CLASSES.index((labels or said)[id_]) for id_ in said])
    return Predictions(ids=tuple(said), labels=true, probabilities=probabilities, classes=CLASSES)


def test_pairs_by_what_text_and_image_were_labelled() -> None:
    found = subsets(IDS, labels=labels_of(SIDES))
    assert found == {"agree": ("a", "f"), "soften": ("b", "c"), "conflict": ("d",), "unlabelled": ("e",)}


def test_every_labelled_pair_of_the_rule_agrees_or_softens() -> None:
    labels = labels_of(SIDES)
    found = subsets(tuple(labels.by_id()), labels=labels)
    assert (found["conflict"], found["unlabelled"]) == ((), ())
    assert len(found["agree"]) + len(found["soften"]) == len(labels.by_id()) == 4


def test_a_dataset_without_unimodal_labels_has_no_such_family() -> None:
    given = merge_labels(
        [Annotation("a", "pair", 0, "positive"), Annotation("a", "text", 0, "neutral")], "given", CLASSES
    )
    assert subsets(("a",), labels=given) == {}
    assert subsets(("a",)) == {}


def test_pairs_whose_group_is_in_training_are_leaked() -> None:
    assert subsets(IDS, groups=GROUPS, training_ids=("t", "v")) == {
        "leaked": ("a", "e"),
        "not_leaked": ("b", "c", "d", "f"),
    }
    assert subsets(IDS, groups=GROUPS)["leaked"] == ()


def test_pairs_by_what_two_unimodal_heads_say() -> None:
    text = predictions(
        dict(zip(IDS, ("positive", "negative", "neutral", "positive", "neutral", "negative"), strict=True))
    )
    image = predictions(
        dict(zip(IDS, ("positive", "positive", "neutral", "neutral", "negative", "positive"), strict=True))
    )
    found = subsets(IDS, text_head=text, image_head=image)
    assert found == {"heads_agree": ("a", "c"), "heads_soften": ("d", "e"), "heads_opposite": ("b", "f")}
    shuffled = subsets(
        IDS,
        text_head=predictions({id_: CLASSES[text.predicted[IDS.index(id_)]] for id_ in IDS[::-1]}),
        image_head=image,
    )
    assert shuffled == found


def test_each_family_has_every_pair_once() -> None:
    heads = predictions(dict.fromkeys(IDS, "positive"))
    found = subsets(IDS, labels=labels_of(SIDES), groups=GROUPS, training_ids=("u",), text_head=heads, image_head=heads)
    assert list(found) == [name for family in FAMILIES.values() for name in family] == list(TITLES)
    for family in FAMILIES.values():
        assert sorted(id_ for name in family for id_ in found[name]) == sorted(IDS)


def test_a_pair_without_group_or_prediction_is_refused() -> None:
    heads = predictions(dict.fromkeys(IDS, "positive"))
    with pytest.raises(DataError, match=r"groups of near-duplicates: .* found none for 1, as z"):
        subsets((*IDS, "z"), groups=GROUPS)
    with pytest.raises(DataError, match="of the image-only head for every pair, found none for 5, as b"):
        subsets(IDS, text_head=heads, image_head=predictions({"a": "neutral"}))
    with pytest.raises(DataError, match="expected predictions of a text-only and of an image-only head, found one"):
        subsets(IDS, text_head=heads)


def test_numbers_of_a_subset_are_those_of_its_pairs_alone() -> None:
    rng = np.random.default_rng(0)
    ids = [str(i) for i in range(200)]
    labels = {id_: CLASSES[rng.integers(3)] for id_ in ids}
    found = predictions({id_: labels[id_] if rng.random() < 0.6 else CLASSES[rng.integers(3)] for id_ in ids}, labels)
    rows = np.arange(30, 110)
    result = score_subsets(found, {"soften": [ids[i] for i in rows], "mine": [*ids[:7], "excluded"], "agree": []})
    expected = score(found.labels[rows], found.predicted[rows], CLASSES)
    soften = result["soften"]
    for measure in ("n", "accuracy", "f1_weighted", "f1_macro"):
        assert soften[measure] == expected[measure]
    assert soften["class_counts"] == {name: figures["support"] for name, figures in expected["per_class"].items()}
    ends = soften["intervals"]["accuracy"]
    assert ends["low"] < soften["accuracy"] < ends["high"]
    assert (ends["units"], ends["unit"]) == (80, "pairs")
    assert (soften["title"], result["mine"]["title"]) == ("one of text and image is neutral", "mine")
    assert result["mine"]["n"] == 7
    assert result["agree"] == {"title": "text and image labels are equal", "n": 0}


def test_intervals_of_subsets_draw_groups_where_there_are_some() -> None:
    said = dict(zip("abcdef", ("negative", "positive") * 3, strict=True))
    found = predictions(said, dict.fromkeys(said, "positive"))
    pairs = {"mine": list(said)}
    ends = score_subsets(found, pairs, groups=GROUPS)["mine"]["intervals"]["accuracy"]
    assert (ends["n"], ends["units"], ends["unit"]) == (6, 5, "groups")  # a and e are one group


def test_a_gap_is_accuracy_inside_less_accuracy_outside() -> None:
    inside = np.arange(400) < 100
    right = np.concatenate([np.arange(100) < 80, np.arange(300) < 180])  # 0.8 and 0.6
    gap = accuracy_gap(right, inside)
    assert gap.estimate == pytest.approx(0.2)
    half = 1.96 * np.sqrt(0.8 * 0.2 / 100 + 0.6 * 0.4 / 300)  # of two independent shares
    assert (gap.low, gap.high) == pytest.approx((0.2 - half, 0.2 + half), abs=0.01)
    assert (gap.n, gap.units, gap.unit) == (400, 400, "pairs")


def test_answers_of_one_group_count_as_one_piece_of_evidence() -> None:
    inside = np.arange(400) < 100
    right = np.concatenate([np.arange(100) < 80, np.arange(300) < 180])
    fours = [str(i // 4) for i in range(400)]
    alone, together = accuracy_gap(right, inside), accuracy_gap(right, inside, fours)
    assert together.units == 100
    assert together.high - together.low == pytest.approx(2 * (alone.high - alone.low), rel=0.1)


def test_a_gap_that_never_moves_has_no_interval() -> None:
    """No width at all would say that it is known to the digit."""
    inside = np.arange(40) < 20
    all_right = accuracy_gap(np.ones(40, dtype=bool), inside)
    assert (all_right.estimate, all_right.low, all_right.high, all_right.method) == (0.0, None, None, "none")
    assert all_right.reason == "every resample of 40 pairs gives the same difference"
    alike = accuracy_gap(np.tile([True, False], 20), inside, [str(i // 2) for i in range(40)])  # half of each group
    assert (alike.low, alike.units, alike.unit) == (None, 20, "groups")
    assert alike.reason == "every resample of 20 groups gives the same difference"


@pytest.mark.parametrize("side", ["inside", "outside"])
def test_a_gap_to_a_single_group_has_no_interval(side: str) -> None:
    """How far the accuracy of that side would move, one group cannot tell; the other side alone is not the gap."""
    is_one = np.arange(40) < 4
    groups = ["one"] * 4 + [str(i) for i in range(4, 40)]
    gap = accuracy_gap(np.arange(40) % 3 > 0, is_one if side == "inside" else ~is_one, groups)
    assert (gap.low, gap.high, gap.reason) == (None, None, f"all answers {side} are of one group")
    two = accuracy_gap(np.arange(40) % 3 > 0, is_one, ["one", "one", "two", "two", *groups[4:]])
    assert two.low < two.estimate < two.high


def test_a_gap_needs_answers_on_both_sides() -> None:
    for inside in (np.ones(3, dtype=bool), np.zeros(3, dtype=bool)):
        with pytest.raises(ValueError, match="inside and outside"):
            accuracy_gap(np.ones(3, dtype=bool), inside)
