"""The initial values that the heads share."""

from torch import nn


def initialise(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer inside."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
