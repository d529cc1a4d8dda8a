"""Engines run many idempotent tasks on one or several devices. They know nothing of what a task does.

The table says which engines there are; an engine is imported when it is asked for.
"""

from importlib import import_module
from typing import Any

from sentifuse import ConfigError

__all__ = ["ENGINES", "load_engine"]

ENGINES = {
    "local": "sentifuse.engines.local:LocalEngine",
}


def load_engine(name: str) -> Any:
    """The class of an engine. Raises ConfigError with the names there are."""
    if name not in ENGINES:
        raise ConfigError.unknown("engine", name, ENGINES, where="--engine")
    module, _, attribute = ENGINES[name].partition(":")
    return getattr(import_module(module), attribute)
