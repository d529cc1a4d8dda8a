"""Laws of all sources: ids once, digests of bytes and names, no dtype changed unasked."""

from pathlib import Path

import numpy as np
import pytest

from sentifuse import ConfigError
from sentifuse.cache.errors import BadSource
from sentifuse.cache.interchange.source import (
    ImportOptions,
    field_of,
    id_text,
    refuse_repeated,
    source_digest,
    storable,
)
from sentifuse.cache.spec import DTYPES, Array


def test_the_digest_knows_names_and_bytes_but_no_order(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b = tmp_path / "a", tmp_path / "b"
    digest = source_digest([("x", a), ("y", b)])
    assert digest == source_digest([("y", b), ("x", a)])
    assert len({digest, source_digest([("x", b), ("y", a)]), source_digest([("x", a)]), source_digest([])}) == 4


def test_repeated_ids_are_named() -> None:
    refuse_repeated(["a", "b"], Path("x"))
    with pytest.raises(BadSource, match="x: ids more than once: 'b', 'a'; 'b' is that of rows 1 and 3"):
        refuse_repeated(["b", "a", "b", "a"], Path("x"))
    with pytest.raises(BadSource, match="and 2 more"):
        refuse_repeated(list("abcdefg") * 2, Path("x"))


@pytest.mark.parametrize("value", ["7", 7, np.int64(7), b"7", np.str_("7")], ids=range(5))
def test_an_id_is_text(value: object) -> None:
    assert id_text(value, "x") == "7"


@pytest.mark.parametrize("value", [None, "", 7.0, True, np.arange(2), ("7",)], ids=range(6))
def test_what_is_no_id_is_refused(value: object) -> None:
    with pytest.raises(BadSource, match="x: an id that is"):
        id_text(value, "x")


@pytest.mark.parametrize("dtype", [*DTYPES.values(), np.dtype(">f4"), np.dtype(">i8")])
def test_what_can_be_stored_is_not_changed(dtype: np.dtype) -> None:
    array = np.array([1, 2], dtype=dtype)
    found = storable(array, None, "x")
    assert found.dtype in DTYPES.values()
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("array", [np.zeros(1), np.zeros(1, np.longdouble)], ids=range(2))
def test_a_float_that_cannot_be_stored_is_converted_only_when_asked(array: Array) -> None:
    with pytest.raises(BadSource, match="--dtype float32 or float16"):
        storable(array, None, "x")
    assert storable(array, "float16", "x").dtype == np.float16


@pytest.mark.parametrize("dtype", ["int8", "uint16", "bool", "V2", "U3", "complex64", "object"])
def test_what_is_no_storable_number_is_refused(dtype: str) -> None:
    with pytest.raises(BadSource, match="cannot be stored"):
        storable(np.zeros(1, dtype=dtype), "float32", "x")


def test_a_field_is_that_of_its_first_value() -> None:
    assert field_of("x", np.zeros((2, 3), np.float32), is_ragged=True).shape == (3,)
    assert field_of("x", np.zeros((2, 3), np.float32), is_ragged=False).shape == (2, 3)


def test_options_are_checked_and_named() -> None:
    with pytest.raises(ConfigError, match="unknown dtype 'float64'"):
        ImportOptions(dtype="float64")
    with pytest.raises(ConfigError, match="place of ids 'names'; did you mean 'name'"):
        ImportOptions(ids_from="names")
    options = ImportOptions(dtype="float32", ids_file=Path("ids.txt"), splits=("train",))
    assert options.given() == {"dtype": "float32", "splits": ("train",)}
    options.refuse_others("x", ("dtype", "ids_file", "splits"))
    with pytest.raises(ConfigError, match="--ids: of no use for x at this path; of use there: --dtype, --splits"):
        options.refuse_others("x", ("dtype", "splits"))
