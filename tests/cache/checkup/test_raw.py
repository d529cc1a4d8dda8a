"""Laws of raw reading: nothing raises, and a text that does not fit its column is none."""

from pathlib import Path

import numpy as np

from sentifuse.cache.checkup.raw import RawFile, decoded, encoded


def test_reading_ends_where_the_file_does(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    file = RawFile(tmp_path / "x")
    assert (file.size_bytes, file.read(2, 3), file.read(8, 100), file.read(50, 1)) == (10, b"234", b"89", b"")
    assert file.bytes_read == 5
    file.close()
    file.close()
    assert file.read(0, 5) == b""
    gone = RawFile(tmp_path / "gone")
    assert (gone.size_bytes, gone.read(0, 5)) == (0, b"")


def test_columns_of_texts_come_and_go(tmp_path: Path) -> None:
    column = encoded(["é", "abc", None, "too long"], 3)
    assert column.dtype == np.dtype("S3")
    assert decoded(column) == ["é", "abc", "", ""]
    assert decoded(np.array([b"\xff"])) == [None]
