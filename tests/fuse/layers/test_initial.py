"""The initial values that the heads share."""

import torch

from sentifuse.fuse.layers.initial import initialise


def test_linear_layers_start_xavier_uniform_without_bias() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(300, 200), torch.nn.Linear(4, 4, bias=False))
    initialise(layer)
    bound = (6 / 500) ** 0.5
    assert layer[0].bias.abs().sum() == 0
    assert 0.98 * bound < float(layer[0].weight.detach().abs().max()) <= bound
