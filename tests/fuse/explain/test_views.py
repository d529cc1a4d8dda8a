"""The heads of the papers in their own terms: what dominates, whose weights, which gates."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sentifuse.fuse.explain.details import Answer
from sentifuse.fuse.explain.views import read_reasons


def answer(details: dict[str, torch.Tensor], head: Any = None, *, pieces: int = 2, regions: int = 1) -> Answer:
    batch = {name: values[None] for name, values in details.items()}
    return Answer(
        head=head, details=batch, piece_count=pieces, region_count=regions, classes=("no", "yes"), label="yes"
    )


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        ([0.5, 0.3, 0.2], "Image-dominating"),
        ([0.35, 0.4, 0.25], "Text-dominating"),
        ([0.2, 0.4, 0.4], "Text-dominating"),
    ],
)
def test_image_or_text_dominates_as_the_head_says(attention: list[float], said: str) -> None:
    weights = torch.tensor(attention)
    details = {
        "attention": weights,
        "image_share": weights[0],
        "image_dominates": weights[0] > weights[1:].max(),
    }
    found = read_reasons(answer(details), "rnn_ca_embedding")
    assert found.notes[0].startswith(said)
    assert found.words[0].over == "both"
    assert found.quantities[0].value == found.words[0].values[0]


def test_a_text_that_is_missing_leaves_all_to_the_image() -> None:
    details = {
        "attention": torch.tensor([1.0, 0.0]),
        "image_share": torch.tensor(1.0),
        "image_dominates": torch.tensor(True),
    }
    found = read_reasons(answer(details, pieces=0), "rnn_ca")
    assert found.words[0].values == (1.0,)
    assert found.notes == ("No text: the image has all of the attention.",)


def test_a_variant_without_attention_says_so() -> None:
    found = read_reasons(answer({"sentence": torch.rand(3)}), "rnn_embedding")
    assert "has no attention" in found.notes[0]


def itin(**settings: Any) -> Any:
    defaults = {"sources": "all", "alignment": True, "gate": "scalar"}
    return SimpleNamespace(config=SimpleNamespace(**(defaults | settings)))


DETAILS = {
    "alignment": torch.tensor([[0.25, 0.75, 0.0]]),
    "gate": torch.tensor([0.5]),
    "pool_weights": torch.tensor([1.0]),
}


def test_itin_shows_alignment_gate_and_weight() -> None:
    found = read_reasons(answer(DETAILS, itin()), "itin")
    assert found.alignment is not None
    assert found.alignment.values == ((0.25, 0.75),)
    assert [(one.name, one.values) for one in found.region_weights] == [("gate", (0.5,)), ("pool_weights", (1.0,))]


def test_itin_says_what_an_ablation_lacks() -> None:
    no_gate = read_reasons(answer(DETAILS, itin(gate="none")), "itin")
    assert [one.name for one in no_gate.region_weights] == ["pool_weights"]
    assert "no gates" in no_gate.notes[0]
    no_alignment = read_reasons(answer(DETAILS, itin(alignment=False)), "itin")
    assert no_alignment.alignment is None
    assert "no alignment" in no_alignment.notes[0]
    contexts = read_reasons(answer({}, itin(sources="context")), "itin")
    assert not contexts.has_any
    assert "contexts alone" in contexts.notes[0]


def ctmwa_details(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    details = {
        "text_logits": torch.zeros(2),
        "image_logits": torch.ones(2),
        "text_weight": torch.tensor(0.75),
        "image_weight": torch.tensor(0.5),
        "weight_is_of_label": torch.tensor(True),
        "has_text": torch.tensor(True),
        "has_image": torch.tensor(True),
        "text_from_image": torch.tensor(0.125),
        "image_from_text": torch.tensor(0.25),
    }
    return details | changes


def ctmwa(*, is_weighted: bool = True, missing: str = "translate") -> Any:
    return SimpleNamespace(is_weighted=torch.tensor(is_weighted), config=SimpleNamespace(missing=missing))


def test_ctmwa_says_whose_weights_they_are() -> None:
    of_label = read_reasons(answer(ctmwa_details(), ctmwa()), "ctmwa")
    assert "of the pair's label, y = yes" in of_label.notes[0]
    assert [(one.name, one.value) for one in of_label.quantities] == [
        ("text_weight", 0.75),
        ("image_weight", 0.5),
        ("text_from_image", 0.125),
        ("image_from_text", 0.25),
    ]
    expected = read_reasons(answer(ctmwa_details(weight_is_of_label=torch.tensor(False)), ctmwa()), "ctmwa")
    assert "This expectation is ours" in expected.notes[0]
    fixed = read_reasons(answer(ctmwa_details(), ctmwa(is_weighted=False)), "ctmwa")
    assert "all are 1" in fixed.notes[0]


def test_ctmwa_measures_no_translation_of_what_is_missing() -> None:
    found = read_reasons(answer(ctmwa_details(has_image=torch.tensor(False)), ctmwa()), "ctmwa")
    assert {one.kind for one in found.quantities} == {"weight"}
    assert found.notes[-1].startswith("No image: it is translated from the text")
