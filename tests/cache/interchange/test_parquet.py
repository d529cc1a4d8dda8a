"""Parquet files: other programs see plain columns; a file that is not one of an export is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentifuse.cache.errors import BadSource
from sentifuse.cache.interchange.parquet import GROUP_ROWS, ParquetRows, write_rows
from sentifuse.cache.spec import Field, Row

FIELDS = (
    Field(name="features", dtype="float16", shape=(2,), is_ragged=True),
    Field(name="count", dtype="int32", shape=()),
)


def test_columns_are_those_of_the_page(tmp_path: Path) -> None:
    values = {"features": np.arange(4, dtype=np.float16).reshape(2, 2), "count": np.array(2, np.int32)}
    rows = [Row(id="a", digest="", status="missing"), Row(id="b", digest="", status="ok", values=values)]
    assert write_rows(tmp_path, 0, FIELDS, rows) == ["000000.parquet"]
    table = pq.read_table(tmp_path / "000000.parquet")
    assert table.to_pylist() == [
        {"id": "a", "digest": "", "status": "missing", "features": None, "count": None},
        {"id": "b", "digest": "", "status": "ok", "features": [[0, 1], [2, 3]], "count": 2},
    ]


def test_rows_of_several_groups_come_back_in_any_order(tmp_path: Path) -> None:
    rows = [
        Row(
            id=str(number),
            digest="",
            status="ok",
            values={"features": np.full((number % 3, 2), number, np.float16), "count": np.array(number, np.int32)},
        )
        for number in range(2 * GROUP_ROWS + 3)
    ]
    write_rows(tmp_path, 0, FIELDS, rows)
    found = ParquetRows(tmp_path / "000000.parquet", FIELDS)
    assert len(found.records()) == len(rows)
    for number in (2 * GROUP_ROWS + 1, 5, GROUP_ROWS, 6):
        assert found.read(number)["count"] == number
        assert found.read(number)["features"].shape == (number % 3, 2)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(BadSource, match="not readable as Parquet"):
        ParquetRows(tmp_path / "text.parquet", FIELDS)
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(BadSource, match="expected those of"):
        ParquetRows(tmp_path / "other.parquet", FIELDS)


def test_a_row_that_says_ok_without_values_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path, 0, FIELDS, [Row(id="a", digest="", status="missing")])
    with pytest.raises(BadSource, match="has no 'features'"):
        ParquetRows(tmp_path / "000000.parquet", FIELDS).read(0)
