"""Laws of fields and rows: what may be stored is decided before anything is written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse.cache.errors import BadRow, CacheError
from sentifuse.cache.spec import (
    COLUMNS,
    MAX_STATUS_BYTES,
    Field,
    Row,
    dataset_names,
    is_finite,
    status_kind,
    status_text,
)

DENSE = Field(name="grid", dtype="float16", shape=(2, 3))
RAGGED = Field(name="states", dtype="float32", shape=(4,), is_ragged=True)


def test_a_field_survives_json() -> None:
    for field in (DENSE, RAGGED, Field(name="count", dtype="int32", shape=())):
        assert Field.from_json(field.to_json()) == field


@pytest.mark.parametrize(
    "value",
    [
        ["grid", "float16", [2, 3], False],
        {**DENSE.to_json(), "unit": "px"},
        {key: value for key, value in DENSE.to_json().items() if key != "shape"},
        {**DENSE.to_json(), "name": 5},
        {**DENSE.to_json(), "dtype": ["float16"]},
        {**DENSE.to_json(), "shape": "23"},
        {**DENSE.to_json(), "shape": {"2": 3}},
        {**DENSE.to_json(), "shape": [True, 3]},
        {**DENSE.to_json(), "shape": [2.0, 3]},
        {**DENSE.to_json(), "is_ragged": "no"},
        {**DENSE.to_json(), "is_ragged": 0},
    ],
)
def test_json_that_is_not_exactly_a_field_is_refused(value: object) -> None:
    with pytest.raises((ValueError, CacheError), match="field"):
        Field.from_json(value)


def test_a_shard_has_its_columns_and_then_its_fields_in_order() -> None:
    names = ["fields/states/offsets", "fields/states/values", "fields/grid"]
    assert dataset_names([RAGGED, DENSE]) == [*COLUMNS, *names]


@pytest.mark.parametrize(
    "change",
    [{"name": "Grid"}, {"name": "a/b"}, {"name": ""}, {"dtype": "float64"}, {"dtype": "object"}, {"shape": (0,)}],
)
def test_a_field_that_cannot_be_stored_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(CacheError):
        Field(**{"name": "grid", "dtype": "float16", "shape": (2,), **change})  # type: ignore[arg-type]


def test_element_bytes_counts_one_dense_value_or_one_ragged_element() -> None:
    assert (DENSE.element_bytes, RAGGED.element_bytes) == (12, 16)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (DENSE, [[1.0] * 3] * 2, "list, expected a numpy array"),
        (DENSE, np.zeros((2, 3), np.float32), "dtype float32, expected float16"),
        (DENSE, np.zeros((3, 2), np.float16), r"shape \(3, 2\), expected \(2, 3\)"),
        (RAGGED, np.zeros(4, np.float32), r"shape \(4,\), expected \('n', 4\)"),
        (RAGGED, np.zeros((2, 5), np.float32), r"shape \(2, 5\), expected \('n', 4\)"),
        (RAGGED, np.zeros((), np.float32), r"shape \(\), expected \('n', 4\)"),
    ],
)
def test_a_value_of_another_kind_is_refused(field: Field, value: object, message: str) -> None:
    with pytest.raises(BadRow, match=f"row 'p1', field '{field.name}': {message}"):
        field.check(value, "p1")


def test_empty_ragged_values_are_values() -> None:
    RAGGED.check(np.zeros((0, 4), np.float32), "p1")


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "a\0b"},
        {"id": "x" * 1025},
        {"id": "\ud800"},
        {"digest": "AB" * 32},
        {"digest": "ab"},
        {"status": "fine", "values": None},
        {"status": "failed", "values": None},
        {"status": "failed: ", "values": None},
        {"status": "missing: why", "values": None},
        {"status": "missing: ", "values": None},
        {"status": "ok: "},
        {"status": "failed: two\nlines", "values": None},
        {"status": f"failed: {'x' * 300}", "values": None},
        {"status": "missing"},
        {"values": None},
    ],
)
def test_a_row_that_cannot_be_stored_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadRow):
        Row(**{"id": "p1", "digest": "ab" * 32, "status": "ok", "values": {}, **change})  # type: ignore[arg-type]


@settings(derandomize=True, max_examples=50)
@given(st.text(), st.sampled_from(["failed", "unreadable"]))
def test_status_text_makes_a_status_of_any_message(message: str, kind: str) -> None:
    status = status_text(kind, message)
    assert Row(id="p1", digest="", status=status).status == status
    assert status_kind(status) == kind


def test_a_long_status_is_cut_at_a_character() -> None:
    status = status_text("failed", "é" * 500)
    assert len(status.encode()) <= MAX_STATUS_BYTES
    assert status.endswith("é…")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found(dtype: type, bad: float) -> None:
    values = np.full((7, 5), 3, dtype)
    assert is_finite(values)
    assert is_finite(np.array([np.finfo(dtype).max, np.finfo(dtype).tiny, -0.0], dtype))
    values[4, 2] = bad
    assert not is_finite(values)
    assert not is_finite(values.T)
    assert is_finite(values[:0])


def test_whole_numbers_are_finite() -> None:
    assert is_finite(np.array([1, 2]))
