"""The generic path reads details by name and shape, whatever head they come from."""

from typing import Any

import pytest
import torch

from sentifuse.fuse.explain.details import Answer, read_details

CLASSES = ("negative", "neutral", "positive")


def answer(details: dict[str, torch.Tensor], *, pieces: int = 4, regions: int = 2, head: Any = None) -> Answer:
    batch = {name: values[None] for name, values in details.items()}
    return Answer(head=head, details=batch, piece_count=pieces, region_count=regions, classes=CLASSES, label="neutral")


def test_names_and_shapes_decide_what_is_shown() -> None:
    given = {
        "word_weights": torch.tensor([0.1, 0.2, 0.3, 0.4]),
        "word_weights_by_scene": torch.tensor([0.4, 0.3, 0.2, 0.1]),
        "region_weights": torch.tensor([0.25, 0.75]),
        "context_weight": torch.tensor(0.5),
        "image_share": torch.tensor(0.125),
        "text_logits": torch.tensor([0.0, 0.0, 0.0]),
        "image_probabilities": torch.tensor([0.5, 0.25, 0.25]),
        "fused": torch.rand(8),
        "gate": torch.rand(8),
        "absent": torch.tensor([False, True]),
    }
    found = read_details(answer(given))
    assert [weights.name for weights in found.words] == ["word_weights", "word_weights_by_scene"]
    assert found.words[0].values == tuple(given["word_weights"].double().tolist())
    assert [weights.values for weights in found.region_weights] == [(0.25, 0.75)]
    assert [(one.name, one.value) for one in found.quantities] == [("context_weight", 0.5), ("image_share", 0.125)]
    assert [voice.title for voice in found.voices] == ["text alone", "image alone"]
    assert found.voices[0].probabilities == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert found.voices[1].probabilities == (0.5, 0.25, 0.25)


def test_names_decide_where_a_text_has_as_many_pieces_as_there_are_regions() -> None:
    given = {"word_weights": torch.tensor([0.1, 0.9]), "region_weights": torch.tensor([0.3, 0.7])}
    found = read_details(answer(given, pieces=2, regions=2))
    assert found.words[0].values == pytest.approx((0.1, 0.9))
    assert found.region_weights[0].values == pytest.approx((0.3, 0.7))


def test_what_stands_behind_the_last_piece_is_cut_off() -> None:
    given = {"word_weights": torch.tensor([0.1, 0.2, 0.3, 0.4]), "word_attention": torch.rand(3, 4)}
    found = read_details(answer(given, pieces=2, regions=1))
    assert found.words[0].values == pytest.approx((0.1, 0.2))
    assert found.alignment is not None
    assert [len(row) for row in found.alignment.values] == [2]


def test_hops_come_behind_the_last_one_which_is_shown_once() -> None:
    hops = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.1, 0.9]])
    found = read_details(answer({"word_weights_per_hop": hops, "word_weights": hops[-1]}, pieces=2))
    assert [weights.name for weights in found.words] == [
        "word_weights",
        "word_weights_per_hop[0]",
        "word_weights_per_hop[1]",
    ]
    assert [weights.title for weights in found.words[1:]] == ["word weights, hop 1", "word weights, hop 2"]


def test_attention_between_words_and_regions_becomes_an_alignment() -> None:
    to_words, to_regions = torch.rand(2, 4), torch.rand(4, 2)
    found = read_details(answer({"word_attention": to_words, "region_attention": to_regions}))
    assert found.alignment is not None
    assert found.alignment.values == tuple(tuple(row) for row in to_words.double().tolist())
    assert found.region_weights[0].values == tuple(to_regions.double().mean(0).tolist())


def test_nothing_is_made_of_nothing() -> None:
    given = {"word_weights": torch.zeros(1), "region_weights": torch.zeros(1), "word_attention": torch.zeros(1, 1)}
    assert not read_details(answer(given, pieces=0, regions=0)).has_any
    assert not read_details(answer({"hidden": torch.rand(5)})).has_any
