"""Explained pairs: numbers are the forward pass's own, whatever else was asked; every odd pair says what it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import CacheError, ConfigError, DataError
from sentifuse.data.manifest import Manifest, read_manifest, write_manifest
from sentifuse.data.splits import read_split
from sentifuse.fuse.explain.explain import NOTHING, explain_pairs
from sentifuse.fuse.explain.explanation import PairExplanation
from sentifuse.fuse.explain.lines import shaded_lines
from sentifuse.fuse.explain.write import write_explanations
from sentifuse.fuse.features.batches import BatchSource
from sentifuse.fuse.heads import HEADS
from sentifuse.fuse.heads.head import HeadOutput
from sentifuse.fuse.run import RunDirectory, read_predictions

RunOf = Callable[..., RunDirectory]
IDS = ["p3", "p10", "p4", "p21"]
PAPERS = ("itin", "rnn_ca_embedding", "ctmwa")


def forward(
    run: RunDirectory, ids: list[str], labels: list[int] | None = None, *, optional: bool = False
) -> HeadOutput:
    """What the head says, asked by hand."""
    numbers = np.array(labels if labels is not None else [int(id_[1:]) % 3 for id_ in ids], dtype=np.int64)
    requests = [replace(request, optional=request.optional or optional) for request in run.requests()]
    source = BatchSource(run.open_features(), requests, ids, numbers)
    with torch.no_grad():
        return run.load_head()(source.gather(range(len(ids)), copy=True))


def shown_tensors(found: PairExplanation) -> dict[str, Any]:
    """Every tensor that an explanation claims to show, by the name of the detail."""
    reasons = found.reasons
    shown = {weights.name: np.array(weights.values) for weights in (*reasons.words, *reasons.region_weights)}
    shown |= {one.name: np.array(one.value) for one in reasons.quantities}
    return shown | ({reasons.alignment.name: np.array(reasons.alignment.values)} if reasons.alignment else {})


@pytest.mark.parametrize("head", PAPERS)
def test_every_number_is_that_of_a_fresh_forward_pass(run_of: RunOf, head: str) -> None:
    run = run_of(head)
    for found in explain_pairs(run, IDS):
        fresh = forward(run, [found.id])
        assert found.logits == tuple(fresh.logits[0].double().tolist())
        shown = shown_tensors(found)
        assert shown
        for name, values in shown.items():
            tensor = fresh.details[name][0].double().numpy()
            np.testing.assert_array_equal(values, tensor[tuple(slice(n) for n in values.shape)], err_msg=name)
            assert values.shape == tensor.shape
        for voice in found.reasons.voices:
            expected = fresh.details[voice.name][0].double().softmax(-1)
            np.testing.assert_allclose(voice.probabilities, expected, rtol=1e-12)


@pytest.mark.parametrize("head", PAPERS)
def test_a_pair_is_explained_the_same_alone_and_among_others(run_of: RunOf, head: str) -> None:
    run = run_of(head)
    together = forward(run, IDS)
    for place, found in enumerate(explain_pairs(run, IDS)):
        (alone,) = explain_pairs(run, [found.id])
        assert replace(alone, part_opened=0) == replace(found, part_opened=0)
        np.testing.assert_allclose(found.logits, together.logits[place].double(), atol=1e-5)
        for name, values in shown_tensors(found).items():
            tensor = together.details[name][place].double().numpy()
            np.testing.assert_allclose(values, tensor[tuple(slice(n) for n in values.shape)], atol=1e-5, err_msg=name)


def test_probabilities_are_those_that_evaluation_recorded(run_of: RunOf) -> None:
    run = run_of("itin")
    recorded = read_predictions(run, "test")
    for found, row in zip(explain_pairs(run, recorded.ids), recorded.probabilities, strict=True):
        np.testing.assert_allclose(found.probabilities, row, atol=1e-6)


def test_a_vector_gate_shows_its_mean_and_says_so(run_of: RunOf) -> None:
    run = run_of("itin", gate="vector")
    (found,) = explain_pairs(run, ["p4"])
    gate = forward(run, ["p4"]).details["gate"][0].double()
    np.testing.assert_array_equal(found.reasons.region_weights[0].values, gate.mean(1).numpy())
    assert "vector of 8 units" in " ".join(found.reasons.notes)


def test_regions_are_the_first_m_with_their_boxes(run_of: RunOf) -> None:
    run = run_of("itin")  # region_count is 4
    many, few = explain_pairs(run, ["p4", "p5"])  # 6 and 2 regions are stored
    assert [region.number for region in many.regions] == [1, 2, 3, 4]
    assert len(few.regions) == 2
    stored = run.open_features()["regions"].value("p4", "boxes_normalised")
    assert [region.box for region in many.regions] == [tuple(box) for box in stored[:4].tolist()]


def test_pieces_are_characters_of_the_text_as_read(run_of: RunOf) -> None:
    (found,) = explain_pairs(run_of("itin"), ["p3"])
    names = [found.text[piece.start : piece.end] for piece in found.pieces]
    assert names == ["", "@", "ann", ":", "such", "a", "lovely3", "day", "&amp;", "more", "http://t.co/x…", ""]
    assert [piece.is_special for piece in found.pieces] == [True, *[False] * 10, True]


def test_features_without_spans_number_the_pieces_and_say_so(make_world: Callable[..., Any]) -> None:
    from sentifuse.fuse.train import TrainRequest, train

    world = make_world()
    overrides = {"epochs": 1, "batch_size": 16}
    run = train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head="multisentinet", overrides=overrides))
    (found,) = explain_pairs(run, ["p2"])
    assert {(piece.start, piece.end, piece.is_special) for piece in found.pieces} == {(0, 0, False)}
    assert "no spans" in " ".join(found.notes)


def test_looking_at_pairs_opens_their_parts_once_each(run_of: RunOf, seen: Any) -> None:
    run = run_of("itin")
    parts = read_split(seen.dataset_dir, parts=("train", "val", "test"))
    before = RunDirectory.open(run.path).document.get("evaluations", {})
    found = explain_pairs(run, [*parts["test"][:2], parts["val"][0], "p59"])
    after = RunDirectory.open(run.path).document["evaluations"]
    assert {part: after.get(part, 0) - before.get(part, 0) for part in parts} == {"train": 0, "val": 1, "test": 1}
    assert [one.part for one in found] == ["test", "test", "val", ""]
    assert [one.part_opened for one in found] == [after["test"], after["test"], after["val"], 0]


@pytest.mark.parametrize("head", PAPERS)
def test_a_pair_without_image_is_answered_and_said_to_be_without(run_of: RunOf, head: str) -> None:
    (found,) = explain_pairs(run_of(head), ["p57"])
    assert found.image_problem == "the dataset names no image for this pair"
    assert "context: missing" in " ".join(found.notes)
    assert not found.regions
    assert sum(found.probabilities) == pytest.approx(1.0)
    if head == "rnn_ca_embedding":
        assert found.reasons.words[0].values[0] == 0.0


@pytest.mark.parametrize("head", PAPERS)
def test_a_pair_without_text_is_answered_and_said_to_be_without(run_of: RunOf, head: str) -> None:
    (found,) = explain_pairs(run_of(head), ["p58"])
    assert found.text is None
    assert not found.pieces
    assert "Text missing." in found.notes
    assert found.reasons.alignment is None
    if head == "ctmwa":
        assert not [one for one in found.reasons.quantities if one.kind == "distance"]
        assert "No text: it is translated from the image" in " ".join(found.reasons.notes)


def test_a_pair_without_label_says_why(run_of: RunOf) -> None:
    run = run_of("ctmwa")
    (found,) = explain_pairs(run, ["p59"])
    assert (found.label, found.part) == (None, "")
    assert found.notes[0].startswith("No label: ")
    assert "This expectation is ours" in " ".join(found.reasons.notes)
    fresh = forward(run, ["p59"], labels=[-1]).details
    assert [one.value for one in found.reasons.quantities[:2]] == [
        float(fresh["text_weight"][0].double()),
        float(fresh["image_weight"][0].double()),
    ]


def test_an_image_file_that_is_gone_or_changed_is_said(write_seen_world: Callable[[Path], Any], tmp_path: Path) -> None:
    from sentifuse.fuse.train import TrainRequest, train

    world = write_seen_world(tmp_path / "artifacts")
    overrides = {"epochs": 1, "batch_size": 16}
    run = train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head="image_only", overrides=overrides))
    (world.dataset_dir / "p1.png").unlink()
    (world.dataset_dir / "p2.png").write_bytes((world.dataset_dir / "p3.png").read_bytes())
    gone, changed, whole = explain_pairs(run, ["p1", "p2", "p3"])
    assert gone.image_problem.startswith("image file missing: ")
    assert gone.image_problem.endswith("p1.png")
    assert "has changed since" in " ".join(changed.notes)
    assert (whole.image_problem, whole.notes) == ("", ())
    pairs = read_manifest(world.dataset_dir)
    newer = tuple(replace(pair, image_digest="0" * 64) if pair.id == "p3" else pair for pair in pairs.pairs)
    write_manifest(world.dataset_dir, Manifest(pairs.root, newer))
    with pytest.raises(CacheError, match="have changed since they were encoded: p3"):
        explain_pairs(run, ["p3"])


def test_an_unknown_id_is_refused_with_the_nearest(run_of: RunOf) -> None:
    run = run_of("itin")
    before = run.document["evaluations"]
    with pytest.raises(DataError, match=r"no pair 'p577' in dataset pairs \(60 pairs\); the nearest ids: p57"):
        explain_pairs(run, ["p3", "p577"])
    assert RunDirectory.open(run.path).document["evaluations"] == before


def test_pairs_outside_the_split_are_refused_by_name(run_of: RunOf, seen: Any) -> None:
    parts = read_split(seen.dataset_dir, parts=("train", "test"))
    run = run_of("itin")
    with pytest.raises(DataError, match="lies in the train part, expected one of the test part"):
        explain_pairs(run, [parts["test"][0], parts["train"][0]], split="test")
    with pytest.raises(DataError, match="lies in no part of the split"):
        explain_pairs(run, ["p59"], split="val")
    with pytest.raises(ConfigError, match="unknown part"):
        explain_pairs(run, ["p3"], split="tset")
    with pytest.raises(ConfigError, match="found none"):
        explain_pairs(run, [])


def test_a_pair_named_twice_is_explained_once(run_of: RunOf) -> None:
    assert [one.id for one in explain_pairs(run_of("itin"), ["p4", "p3", "p4"])] == ["p4", "p3"]


def test_a_head_with_nothing_to_show_says_so(run_of: RunOf) -> None:
    (found,) = explain_pairs(run_of("logreg"), ["p3"])
    assert found.reasons.notes == (NOTHING,)
    assert not found.reasons.has_any
    assert sum(found.probabilities) == pytest.approx(1.0)


def test_another_split_than_the_runs_is_refused(write_seen_world: Callable[[Path], Any], tmp_path: Path) -> None:
    from sentifuse.fuse.train import TrainRequest, train

    world = write_seen_world(tmp_path / "artifacts")
    run = train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head="logreg"))
    world.labels = {id_: "positive" if i % 2 else "negative" for i, id_ in enumerate(world.labels)}
    world.write_dataset()
    with pytest.raises(DataError, match=r"(T|t)rain again"):
        explain_pairs(run, ["p3"])


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_explained_and_drawn(run_of: RunOf, head: str, tmp_path: Path) -> None:
    run = run_of(head)
    found = explain_pairs(run, ["p3", "p57", "p58", "p59"])
    for one in found:
        assert sum(one.probabilities) == pytest.approx(1.0)
        assert one.reasons.has_any or one.reasons.notes
        fresh = forward(run, [one.id], labels=[-1 if one.label is None else int(one.id[1:]) % 3], optional=True)
        assert one.logits == tuple(fresh.logits[0].double().tolist())
    files = write_explanations(tmp_path, found, title=head)
    assert len(files["png"]) == 4


def test_what_the_authors_preset_reads_beyond_the_text_is_told_apart(run_of: RunOf) -> None:
    run = run_of("itin", unmasked_length=30)
    (found,) = explain_pairs(run, ["p3"])
    full = forward(run, ["p3"]).details["alignment"][0].double().numpy()
    n = len(found.pieces)
    assert full.shape[1] == 30 > n
    np.testing.assert_array_equal(found.reasons.alignment.values, full[:, :n])
    assert f"{1 - full[0, :n].sum():.2f} on no word" in shaded_lines(found)[0].about
