"""What is measured when texts or images are missing: who loses what, what is put in their place, and how rates nest."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentifuse import ConfigError
from sentifuse.data.groups import read_groups
from sentifuse.fuse.evaluate import evaluate, open_part
from sentifuse.fuse.features.batches import Batch, FieldRequest
from sentifuse.fuse.heads.ctmwa import IMAGE, WORDS
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.measure.statistics import bootstrap
from sentifuse.fuse.missing import (
    draw,
    evaluate_missing,
    filled,
    missing_side,
    modality_of,
    predict_by_filling,
    training_means,
    without,
)
from sentifuse.fuse.run import RunDirectory, read_predictions
from sentifuse.fuse.train import TrainRequest, train

MakeBatch = Callable[..., Batch]
WIDTHS = {WORDS: 6, IMAGE: 5}


@pytest.fixture(scope="module")
def run(world: Any) -> RunDirectory:
    small = {"embedding_width": 8, "weight_net_width": 8, "epochs": 2, "batch_size": 16}
    return train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head="ctmwa", overrides=small))


@given(st.text(min_size=1), st.integers(0, 3))
def test_a_pair_s_lot_hangs_on_its_id_and_the_seed_alone(id_: str, seed: int) -> None:
    assert 0.0 <= draw(id_, seed) < 1.0
    assert draw(id_, seed) == draw(id_, seed)
    assert missing_side(id_, "random", seed) in ("text", "image")
    assert missing_side(id_, "image", seed) == "image"


def test_lots_are_even_and_independent_of_the_side() -> None:
    ids = [f"pair {i}" for i in range(4000)]
    lots = np.array([draw(id_, 0) for id_ in ids])
    loses_text = np.array([missing_side(id_, "random", 0) == "text" for id_ in ids])
    np.testing.assert_allclose(np.quantile(lots, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    assert loses_text.mean() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(lots, loses_text)[0, 1]) < 0.05


def test_rows_are_scores_of_the_mixed_answers(run: RunDirectory) -> None:
    part = open_part(run, "test")
    answers = predict_by_filling(part, ("own", "zero"), ("text", "image"))
    rows = evaluate_missing(run, kinds=("random",), rates=(0.0, 0.5, 1.0), fillings=("own", "zero"))
    assert [(row["rate"], row["filling"]) for row in rows] == [
        (rate, filling) for rate in (0.0, 0.5, 1.0) for filling in ("own", "zero")
    ]
    for row in rows:
        chosen = []
        for i, id_ in enumerate(part.samples.ids):
            side = missing_side(id_, "random", 0) if draw(id_, 0) < row["rate"] else ""
            chosen.append(answers[row["filling"]][side][i])
        expected = score(part.samples.labels, np.array(chosen), run.classes)
        assert {name: row[name] for name in ("n", "accuracy", "f1_weighted")} == {
            name: expected[name] for name in ("n", "accuracy", "f1_weighted")
        }
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
    assert [row["n_missing"] for row in rows[::2]] == [
        0,
        sum(draw(id_, 0) < 0.5 for id_ in part.samples.ids),
        len(part.samples.ids),
    ]


def test_with_nothing_missing_it_is_the_plain_evaluation(run: RunDirectory) -> None:
    plain = evaluate(run)
    for row in evaluate_missing(run, kinds=("text",), rates=(0.0,)):
        assert row["accuracy"] == plain["accuracy"]
        assert row["f1_weighted"] == plain["f1_weighted"]


def test_each_filling_is_what_it_says(run: RunDirectory) -> None:
    """Against the head called by hand, with everything missing."""
    part = open_part(run, "test")
    keys = {"text": [WORDS], "image": [IMAGE]}
    means = training_means(part)
    found = predict_by_filling(part, ("own", "zero", "mean", "unimodal"), ("text", "image"))
    for side in ("text", "image"):
        for rows, batch in part.source.batches(128):
            by_hand = {
                "own": part.head(without(batch, keys[side])).logits,
                "zero": part.head(filled(batch, keys[side], {})).logits,
                "mean": part.head(filled(batch, keys[side], means)).logits,
                "unimodal": part.head(without(batch, keys[side])).details[
                    "image_logits" if side == "text" else "text_logits"
                ],
            }
            for filling, logits in by_hand.items():
                assert np.array_equal(found[filling][side][rows], logits.argmax(-1).numpy()), (side, filling)


def test_a_filled_sequence_has_one_element_and_tells_no_length(make_batch: MakeBatch) -> None:
    batch = make_batch(WIDTHS)
    mean = torch.arange(6).double()
    changed = filled(batch, [WORDS], {WORDS: mean})
    assert changed.values[WORDS].shape == (4, 1, 6)
    assert (changed.values[WORDS] == mean).all()
    assert changed.masks[WORDS].shape == (4, 1)
    assert changed.masks[WORDS].all()
    assert torch.equal(changed.values[IMAGE], batch.values[IMAGE])
    vector = filled(batch, [IMAGE], {})
    assert not vector.values[IMAGE].any()
    assert vector.masks[IMAGE].all()


def test_what_is_taken_away_is_gone_and_the_rest_is_not_touched(make_batch: MakeBatch) -> None:
    batch = make_batch(WIDTHS)
    before = {key: value.clone() for key, value in batch.values.items()}
    changed = without(batch, [WORDS])
    assert not changed.masks[WORDS].any()
    assert not changed.values[WORDS].any()
    assert changed.masks[WORDS].shape == batch.masks[WORDS].shape
    assert all(torch.equal(batch.values[key], value) for key, value in before.items())
    assert torch.equal(changed.values[IMAGE], before[IMAGE])


def test_the_mean_is_that_of_the_real_elements_of_the_training_part(run: RunDirectory) -> None:
    source = open_part(run, "train").source
    rows = [source.gather([row], copy=True) for row in range(len(source))]
    expected = torch.cat([batch.values[WORDS][batch.masks[WORDS]] for batch in rows]).double().mean(0)
    found = training_means(open_part(run, "test"))
    torch.testing.assert_close(found[WORDS], expected)
    assert found[IMAGE].shape == (7,)


def test_a_head_without_unimodal_classifiers_has_no_such_rows(world: Any) -> None:
    settings = {"epochs": 1, "batch_size": 16}
    other = train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head="text_only", overrides=settings))
    rows = evaluate_missing(other, kinds=("image",), rates=(1.0,))
    assert [row["filling"] for row in rows] == ["own", "zero", "mean"]
    assert len({row["accuracy"] for row in rows}) == 1  # it never looked at images


def test_several_kinds_are_one_look_and_each_as_if_alone(run: RunDirectory) -> None:
    before = RunDirectory.open(run.path).document["evaluations"].get("val", 0)
    together = evaluate_missing(run, kinds=("text", "random"), rates=(0.3, 0.8), fillings=("own",), split="val")
    assert RunDirectory.open(run.path).document["evaluations"]["val"] == before + 1
    for kind in ("text", "random"):
        alone = evaluate_missing(run, kinds=(kind,), rates=(0.3, 0.8), fillings=("own",), split="val")
        assert alone == [row for row in together if row["missing"] == kind]


def test_a_look_counts_as_one_evaluation(run: RunDirectory) -> None:
    before = RunDirectory.open(run.path).document["evaluations"].get("val", 0)
    evaluate_missing(run, kinds=("text",), split="val")
    assert RunDirectory.open(run.path).document["evaluations"]["val"] == before + 1


def test_modalities_of_fields() -> None:
    assert modality_of(FieldRequest(encoder="tokens", field="states")) == "text"
    assert modality_of(FieldRequest(encoder="regions", field="features")) == "image"
    assert modality_of(FieldRequest(encoder="clip", field="text")) == "text"
    with pytest.raises(ConfigError, match=r"whether sound\.vector is of the text or of the image"):
        modality_of(FieldRequest(encoder="sound", field="vector"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("txt",)}, "--missing: unknown kind 'txt'; did you mean 'text'"),
        ({"kinds": ("text",), "fillings": ("zeros",)}, "unknown filling 'zeros'; did you mean 'zero'"),
        ({"kinds": ("text",), "rates": (0.5, 1.2)}, "--rates: expected shares from 0 to 1, found 1.2"),
    ],
)
def test_wrong_questions_are_refused(run: RunDirectory, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_missing(run, **options)


def test_the_training_part_is_read_as_the_tested_one_is(run: RunDirectory) -> None:
    part = open_part(run, "test", reader="h5py")
    mapped, read = training_means(part), training_means(part, reader="h5py")
    assert all(torch.equal(mapped[key], read[key]) for key in mapped | read)
    with pytest.raises(ConfigError, match="--reader: unknown reader 'nope'"):
        training_means(part, reader="nope")


def test_under_a_grouped_split_the_ends_draw_groups(make_world: Callable[..., Any]) -> None:
    world = make_world(texts={f"p{i}": f"the same words {i % 9 % 3} {i // 9}" for i in range(90)})
    small = {"epochs": 1, "batch_size": 16}
    options = {"dataset": world.name, "head": "text_only", "overrides": small, "protocol": "grouped"}
    run = train(TrainRequest(artifacts=world.artifacts, **options))
    (row,) = evaluate_missing(run, kinds=("text",), rates=(0.0,), fillings=("own",))
    evaluate(run)
    answers, group_of = read_predictions(run, "test"), read_groups(world.dataset_dir)
    ends = {
        unit: bootstrap(answers.labels, answers.predicted, 3, groups=groups, measures=("accuracy",))["accuracy"]
        for unit, groups in (("pairs", None), ("groups", [group_of[id_] for id_ in answers.ids]))
    }
    assert (row["accuracy_low"], row["accuracy_high"]) == (ends["groups"].low, ends["groups"].high)
    assert (ends["groups"].low, ends["groups"].high) != (ends["pairs"].low, ends["pairs"].high)
