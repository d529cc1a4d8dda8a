"""Low-rank adapters on the queries and values of a transformer, by the optional package peft.

Which layers those are is read from the network: their names differ between releases of transformers. Knows no training.
"""

import re
from importlib import import_module
from typing import Any

from torch import nn

from sentifuse import ConfigError, ResourceError

__all__ = ["attach_adapters", "find_query_and_value", "merge_adapters", "require_peft"]

# "q_proj", "query", "q_lin", "to_q", a fused "qkv"; the same for values.
QUERY, VALUE, FUSED = (re.compile(rf"^(to_)?{word}(_\w+)?$") for word in ("(q|query)", "(v|value)", "qkv"))


def find_query_and_value(net: nn.Module) -> list[str]:
    """Names of the last part, without repetition, of the linear layers that make queries and values.

    Raises
    ------
    ConfigError
        The network has no such layers; names those it has.
    """
    names = sorted({name.rpartition(".")[2] for name, module in net.named_modules() if isinstance(module, nn.Linear)})
    fused = [name for name in names if FUSED.match(name)]
    queries = [name for name in names if QUERY.match(name)]
    values = [name for name in names if VALUE.match(name)]
    if fused and not queries:
        return fused
    if not queries or not values:
        raise ConfigError(
            f"--student lora: expected linear layers for queries and values, found {', '.join(names) or 'none'}. "
            "Take --student full for this base"
        )
    return [*queries, *values]


def attach_adapters(net: Any, *, rank: int, alpha: int, dropout: float) -> list[str]:
    """Put adapters into a network, in place; only they can be trained afterwards. Gives the layers' names.

    The adapters begin with torch's global generator, and with no effect: one factor of each is zero.

    Raises
    ------
    ResourceError
        The package peft is not installed.
    ConfigError
        No layers to put them on.
    """
    peft = require_peft()
    targets = find_query_and_value(net)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
    peft.inject_adapter_in_model(config, net)
    return targets


def merge_adapters(net: nn.Module) -> None:
    """Add the adapters to the weights that they adapt and take them out, in place: the network's own names again."""
    layer_type = import_module("peft.tuners.tuners_utils").BaseTunerLayer
    adapted = [(name, module) for name, module in net.named_modules() if isinstance(module, layer_type)]
    for name, module in adapted:
        layer: Any = module
        layer.merge()
        net.set_submodule(name, layer.get_base_layer())


def require_peft() -> Any:
    """The optional package, for a refusal before any work.

    Raises
    ------
    ResourceError
        It is not installed.
    """
    try:
        return import_module("peft")
    except ImportError as error:
        raise ResourceError(
            "--student lora: expected the package peft, found none. "
            "Install the extra: pip install 'sentifuse[peft]', or take --student full"
        ) from error
