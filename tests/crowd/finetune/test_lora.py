"""Laws of adapters: they sit on queries and values whatever those are called, begin without effect, and merge away."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sentifuse import ConfigError, ResourceError
from sentifuse.crowd.finetune.lora import attach_adapters, find_query_and_value, merge_adapters


class Block(nn.Module):
    """One layer with linear parts of given names."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = torch.tanh(part(x))
        return x


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("q_proj", "k_proj", "v_proj", "o_proj", "fc1"), ["q_proj", "v_proj"]),
        (("query", "key", "value", "dense"), ["query", "value"]),
        (("qkv", "proj", "fc1"), ["qkv"]),
        (("to_q", "to_k", "to_v", "out"), ["to_q", "to_v"]),
    ],
)
def test_names_are_found_in_the_network(names: tuple[str, ...], expected: list[str]) -> None:
    assert find_query_and_value(nn.ModuleList([Block(*names), Block(*names)])) == expected


def test_a_network_without_attention_is_refused_with_what_it_has() -> None:
    with pytest.raises(ConfigError, match=r"found fc1, fc2\. Take --student full"):
        find_query_and_value(Block("fc1", "fc2"))


def test_adapters_begin_without_effect_and_alone_can_be_trained() -> None:
    net = Block("query", "key", "value")
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    before = net(x)
    assert attach_adapters(net, rank=2, alpha=4, dropout=0.0) == ["query", "value"]
    assert torch.equal(net(x), before)
    trained = [name for name, value in net.named_parameters() if value.requires_grad]
    assert len(trained) == 4
    assert all("lora_" in name for name in trained)


def test_merged_weights_compute_the_same_under_the_old_names() -> None:
    net = Block("query", "key", "value")
    names = list(net.state_dict())
    weight = net.state_dict()["query.weight"].clone()
    attach_adapters(net, rank=2, alpha=4, dropout=0.0)
    for name, value in net.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(value)
    x = torch.randn(4, 6)
    adapted = net(x)
    merge_adapters(net)
    assert list(net.state_dict()) == names
    torch.testing.assert_close(net(x), adapted)
    assert not torch.equal(net.state_dict()["query.weight"], weight)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: Any = sys.modules
    monkeypatch.setitem(modules, "peft", None)
    with pytest.raises(ResourceError, match=r"pip install 'sentifuse\[peft\]'"):
        attach_adapters(Block("query", "value"), rank=1, alpha=1, dropout=0.0)
