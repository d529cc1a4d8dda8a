"""The table of readers: a dataset's name (or "pairs") -> the class that reads its files.

A new dataset is one file in this folder and one line here. Nothing is imported before it is asked for.
"""

from importlib import import_module
from typing import cast

from sentifuse import ConfigError
from sentifuse.data.source import Reader

READERS: dict[str, str] = {
    "mvsa_single": "sentifuse.data.readers.mvsa:MvsaSingle",
    "mvsa_multiple": "sentifuse.data.readers.mvsa:MvsaMultiple",
    "tumemo": "sentifuse.data.readers.tumemo:TumEmo",
    "t4sa": "sentifuse.data.readers.t4sa:T4sa",
    "sample": "sentifuse.data.readers.sample:Sample",
    "pairs": "sentifuse.data.readers.pairs:Pairs",
}


def load_reader(name: str) -> Reader:
    """The reader of this name, made ready; `ConfigError` lists the names there are."""
    if name not in READERS:
        raise ConfigError.unknown("reader", name, READERS)
    module, _, class_name = READERS[name].partition(":")
    return cast(Reader, getattr(import_module(module), class_name)())
