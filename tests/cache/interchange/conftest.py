"""A source in the layouts of others, small and easy to break; and imports of it into a cache of its own."""

import base64
import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse.cache.interchange.importing import ImportSummary, import_features
from sentifuse.cache.interchange.source import ImportOptions
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Array

ITIN = Path(__file__).parent / "itin"
ITIN_IDS = {"1": "61", "2": "67", "3": "219", "4": "255"}  # file name -> id in `info`

Import = Callable[..., ImportSummary]


def digest_of(row_id: str) -> str:
    return row_id.encode().hex().ljust(64, "0")[:64]


@pytest.fixture
def itin() -> Path:
    return ITIN


@pytest.fixture
def importing(cache_dir: Path) -> Import:
    """importing(path, format, ids, **options of ImportOptions); every id has an input unless digests are given."""

    def run(
        path: Path,
        format_name: str,
        ids: list[str] | Mapping[str, str],
        *,
        encoder: str | None = "regions",
        skip_broken: bool = False,
        statuses: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ImportSummary:
        digests = ids if isinstance(ids, Mapping) else {row_id: digest_of(row_id) for row_id in ids}
        return import_features(
            path,
            format_name=format_name,
            cache_dir=cache_dir,
            digests=digests,
            statuses=statuses,
            encoder=encoder,
            skip_broken=skip_broken,
            options=ImportOptions(**options),
        )

    return run


def tsv_line(row_id: str, features: Array, *, count: int | None = None, boxes: Array | None = None) -> bytes:
    """One image in the six columns of bottom-up-attention, 40 x 30 pixels."""
    regions = len(features) if count is None else count
    boxes = np.arange(len(features) * 4, dtype=np.float32).reshape(-1, 4) if boxes is None else boxes
    columns = [row_id, "40", "30", str(regions), *(base64.b64encode(a.tobytes()).decode() for a in (boxes, features))]
    return "\t".join(columns).encode() + b"\n"


def bytes_of_pickle(content: Any, protocol: int = 4) -> bytes:
    file = io.BytesIO()
    pickle.dump(content, file, protocol=protocol)  # the tests write pickles; reading them is what is tested
    return file.getvalue()


@pytest.fixture
def line() -> Callable[..., bytes]:
    return tsv_line


@pytest.fixture
def pickled() -> Callable[..., bytes]:
    return bytes_of_pickle


def rows_of(reader: FeatureReader) -> dict[str, tuple[str, str, dict[str, tuple[str, tuple[int, ...], bytes]] | None]]:
    """Everything a set says of its rows, comparable."""
    rows = {}
    for row_id in reader.ids:
        values = None
        if reader.has_value(row_id):
            arrays = {field.name: reader.value(row_id, field.name) for field in reader.fields}
            values = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}
        rows[row_id] = (reader.digest(row_id), reader.status(row_id), values)
    return rows


@pytest.fixture
def rows_in() -> Callable[[FeatureReader], Any]:
    return rows_of
