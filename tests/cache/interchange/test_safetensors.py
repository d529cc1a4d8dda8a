"""safetensors files: tensors under the fields' names; a file whose tensors do not fit its rows is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sentifuse.cache.errors import BadSource
from sentifuse.cache.interchange.safetensors import SafetensorsRows, write_rows
from sentifuse.cache.spec import Field, Row

FIELDS = (
    Field(name="features", dtype="float16", shape=(2,), is_ragged=True),
    Field(name="count", dtype="int32", shape=()),
)
ROWS = {"ids": ["a", "b"], "digests": ["", ""], "statuses": ["missing", "ok"]}


def tensors() -> dict[str, Any]:
    return {
        "features.values": np.arange(4, dtype=np.float16).reshape(2, 2),
        "features.offsets": np.array([0, 2]),
        "count": np.array([2], np.int32),
    }


def test_tensors_and_rows_are_those_of_the_page(tmp_path: Path) -> None:
    values = {"features": np.arange(4, dtype=np.float16).reshape(2, 2), "count": np.array(2, np.int32)}
    rows = [Row(id="a", digest="", status="missing"), Row(id="b", digest="", status="ok", values=values)]
    assert write_rows(tmp_path, 0, FIELDS, rows) == ["000000.safetensors"]
    path = tmp_path / "000000.safetensors"
    found = load_file(path)
    assert set(found) == set(tensors())
    for name, value in tensors().items():
        np.testing.assert_array_equal(found[name], value)
    with safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["rows"]) == ROWS
    np.testing.assert_array_equal(SafetensorsRows(path, FIELDS).read(1)["features"], values["features"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": np.array([2], np.int64)}, "count is I64"),
        ({"count": np.array([2, 3], np.int32)}, r"count is I32 \[2\]"),
        ({"features.offsets": np.array([0, 3])}, r"expected F16 \(3, 2\)"),
        ({"features.offsets": np.array([1, 2])}, "do not rise from 0"),
        ({"more": np.array([2])}, "no field has: more"),
        ({"count": None}, "count"),
    ],
)
def test_tensors_that_do_not_fit_the_rows_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    changed = {name: value for name, value in {**tensors(), **change}.items() if value is not None}
    save_file(changed, tmp_path / "x.safetensors", {"rows": json.dumps(ROWS)})
    with pytest.raises(BadSource, match=message):
        SafetensorsRows(tmp_path / "x.safetensors", FIELDS)


@pytest.mark.parametrize("metadata", [None, {"rows": "no json"}, {"rows": '{"ids": []}'}])
def test_a_file_without_rows_is_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "x.safetensors", metadata)
    with pytest.raises(BadSource, match="not a safetensors file of an export"):
        SafetensorsRows(tmp_path / "x.safetensors", FIELDS)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(BadSource, match="not a safetensors file"):
        SafetensorsRows(tmp_path / "x.safetensors", FIELDS)
