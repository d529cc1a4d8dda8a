"""The formats that features come in and go out in: two tables. Knows no format and imports none.

A format of the world outside is one file here and one line in a table. Everything that goes out can come in again.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentifuse import ConfigError

if TYPE_CHECKING:
    from sentifuse.cache.interchange.exported import WriteRows
    from sentifuse.cache.interchange.source import ImportOptions, Source

__all__ = ["EXPORTS", "IMPORTS", "find_writer", "open_source"]

# Name -> function (path, options) -> Source.
IMPORTS: dict[str, str] = {
    "npy": "sentifuse.cache.interchange.npy:open_source",
    "npz": "sentifuse.cache.interchange.npz:open_source",
    "parquet": "sentifuse.cache.interchange.parquet:open_source",
    "pickle": "sentifuse.cache.interchange.pickles:open_source",
    "safetensors": "sentifuse.cache.interchange.safetensors:open_source",
    "tsv": "sentifuse.cache.interchange.tsv:open_source",
    "webdataset": "sentifuse.cache.interchange.webdataset:open_source",
}

# Name -> function (folder, piece, fields, rows) -> the names of the files that list the rows.
EXPORTS: dict[str, str] = {
    "npz": "sentifuse.cache.interchange.npz:write_rows",
    "parquet": "sentifuse.cache.interchange.parquet:write_rows",
    "safetensors": "sentifuse.cache.interchange.safetensors:write_rows",
    "webdataset": "sentifuse.cache.interchange.webdataset:write_rows",
}


def open_source(format_name: str, path: Path, options: "ImportOptions") -> "Source":
    """The features at `path`, their ids and fields known, their values not read yet.

    Raises
    ------
    ConfigError
        No such format, or an option that this format has no use for.
    BadSource, Unreadable
        What lies there cannot be imported.
    """
    function: Callable[[Path, ImportOptions], Source] = _load(IMPORTS, format_name, "import")
    return function(path, options)


def find_writer(format_name: str) -> "WriteRows":
    """The function that writes a piece of an export. Raises ConfigError for an unknown format."""
    function: WriteRows = _load(EXPORTS, format_name, "export")
    return function


def _load(table: Mapping[str, str], name: str, direction: str) -> Any:
    if name not in table:
        raise ConfigError.unknown(f"{direction} format", name, table, where="--format")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)
