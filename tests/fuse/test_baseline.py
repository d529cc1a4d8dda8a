"""What the baselines share: how they read their inputs, and the sizes that facts about them are stated for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads import load_head
from sentifuse.fuse.run import count_parameters

PAPER = {
    "tokens.states": 768,
    "regions.features": 2048,
    "regions.boxes_normalised": 4,
    "context.vector": 512,
    "clip.text": 512,
    "clip.image": 512,
}
BASELINES = (
    "concat_mlp",
    "gmu",
    "multisentinet",
    "comn_like",
    "mvan_like",
    "cross_attention",
    "clmlf_like",
    "ccr_like",
)
WIDTHS = {"tokens.states": 6, "regions.features": 5, "regions.boxes_normalised": 4, "context.vector": 7}
MakeBatch = Callable[..., Batch]


def build(name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    head_class = load_head(name)
    small = {"width": 8} if "width" in head_class.Config.__dataclass_fields__ else {}
    return head_class(head_class.Config(**{**small, **settings}), WIDTHS, 3).double().eval()


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("concat_mlp", {}, 165_379),
        ("concat_mlp", {"fields": "clip"}, 132_611),
        ("gmu", {}, 266_371),
        ("ccr_like", {}, 7_689),
        ("multisentinet", {}, 886_787),
        ("comn_like", {}, 789_123),
        ("mvan_like", {}, 1_282_819),
        ("cross_attention", {}, 959_619),
        ("clmlf_like", {}, 1_500_548),
    ],
)
def test_parameters_are_those_of_an_independent_count(name: str, settings: dict[str, Any], expected: int) -> None:
    head_class = load_head(name)
    with torch.device("meta"):
        assert count_parameters(head_class(head_class.Config(**settings), PAPER, 3)) == expected


@pytest.mark.parametrize(("layers", "millions"), [(3, 42.1), (4, 49.2)])
def test_clmlf_at_its_authors_size(layers: int, millions: float) -> None:
    head_class = load_head("clmlf_like")
    config = head_class.Config(width=768, heads=12, fusion_layers=layers)
    with torch.device("meta"):
        head = head_class(config, {**PAPER, "context.vector": 2048}, 3)
    assert round(count_parameters(head) / 1e6, 1) == millions


@pytest.mark.parametrize("name", BASELINES)
def test_absent_names_the_fields_a_pair_lacks(name: str, make_batch: MakeBatch) -> None:
    head = build(name)
    found = head(make_batch(WIDTHS)).details["absent"]
    lacking = {"tokens": [3], "regions": [2], "context": [2]}  # pairs of make_batch
    for column, request in enumerate(head.requests(head.config)):
        assert found[:, column].nonzero().flatten().tolist() == lacking[request.encoder]


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("standardise", ["none", "vectors", "all"])
def test_inputs_are_standardised_as_the_setting_says(name: str, standardise: str, make_batch: MakeBatch) -> None:
    head = build(name, standardise=standardise)
    batches = [make_batch(WIDTHS, seed=seed) for seed in range(5)]
    head.prepare(batches)
    read = [head.inputs(batch) for batch in batches]
    for request in head.requests(head.config):
        key = request.key
        rows = torch.cat([values[mask] for values, mask in (given[key] for given in read)])
        is_vector = key == "context.vector" or key in head.pooled
        if key in head.measures or standardise == "none" or (standardise == "vectors" and not is_vector):
            raw = torch.cat([values[mask] for values, mask in (head._raw(batch, key) for batch in batches)])
            assert torch.equal(rows, raw)
        else:
            torch.testing.assert_close(rows.mean(0), torch.zeros(rows.shape[1]).double(), atol=1e-6, rtol=0)
            torch.testing.assert_close(rows.std(0, correction=0), torch.ones(rows.shape[1]).double(), atol=1e-6, rtol=0)
        assert all((values[~mask] == 0).all() for values, mask in (given[key] for given in read))


@pytest.mark.parametrize("name", ["multisentinet", "comn_like", "mvan_like", "cross_attention", "clmlf_like"])
def test_regions_are_cut_to_the_first_m(name: str) -> None:
    head_class = load_head(name)
    limits = {request.key: request.limit for request in head_class.requests(head_class.Config(region_count=5))}
    assert all((limit == 5) == key.startswith("regions.") for key, limit in limits.items())
    assert all(request.limit is None for request in head_class.requests(head_class.Config()))


def test_input_dropout_drops_a_feature_in_all_words_of_a_pair(make_batch: MakeBatch) -> None:
    head = build("comn_like", input_dropout=0.5).train()
    words, mask = head.inputs(make_batch(WIDTHS, lengths=(6, 6, 6, 6)))["tokens.states"]
    dropped = words == 0
    assert 0 < dropped.double().mean() < 1
    assert torch.equal(dropped.all(1), dropped.any(1))
    assert mask.all()
