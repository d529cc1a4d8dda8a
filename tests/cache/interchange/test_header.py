"""export.json: read back as written; a changed one, or one of a later version, is refused."""

import json
from pathlib import Path

import pytest

from sentifuse.cache.checksum import seal, unseal
from sentifuse.cache.errors import BadSource, FutureVersion
from sentifuse.cache.fingerprint import fingerprint
from sentifuse.cache.interchange.header import (
    ExportedFile,
    ExportHeader,
    has_header,
    peek_header,
    read_header,
    write_header,
)
from sentifuse.cache.spec import Field


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recipe = {"encoder": "context", "x": 1.5}
    header = ExportHeader(
        layout="parquet",
        encoder="context",
        fingerprint=fingerprint(recipe),
        recipe=recipe,
        fields=(Field(name="vector", dtype="float32", shape=(2,)),),
        details={"from": "é"},
        files=(
            ExportedFile(file="0", rows=3, sha256="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"),
        ),
    )
    (tmp_path / "0").write_bytes(b"foo")
    write_header(tmp_path, header)
    return tmp_path


def test_it_comes_back(folder: Path) -> None:
    assert has_header(folder)
    header = read_header(folder, "parquet")
    assert (header.layout, header.encoder, header.row_count) == ("parquet", "context", 3)
    assert header.recipe == {"encoder": "context", "x": 1.5}
    assert header.fields == (Field(name="vector", dtype="float32", shape=(2,)),)
    assert header.details == {"from": "é"}


def change(folder: Path, **values: object) -> None:
    path = folder / "export.json"
    value = unseal(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(seal({**value, **values})), encoding="utf-8")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": {"x": 2}}, "the recipe's fingerprint is"),
        ({"format": "other"}, "expected 'sentifuse-export'"),
        ({"fields": [{"name": "x"}]}, "expected an object with the keys"),
        ({"files": [{"file": "../0", "rows": 1, "sha256": ""}]}, "expected a plain name"),
        ({"files": [{"file": "0", "rows": "1", "sha256": ""}]}, "expected a plain name"),
        ({"files": [{"file": "0", "rows": 1, "sha256": "00"}]}, "changed or cut short"),
        ({"layout": "npz"}, "Say: --format npz"),
    ],
)
def test_a_changed_one_is_refused(folder: Path, values: dict[str, object], message: str) -> None:
    change(folder, **values)
    with pytest.raises(BadSource, match=message):
        read_header(folder, "parquet")


def test_a_changed_byte_is_refused(folder: Path) -> None:
    path = folder / "export.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"rows": 3', '"rows": 4'), encoding="utf-8")
    with pytest.raises(BadSource, match="crc32c"):
        peek_header(folder)


def test_a_later_version_is_refused_as_such(folder: Path) -> None:
    change(folder, version=2)
    with pytest.raises(FutureVersion, match="Install a later sentifuse"):
        peek_header(folder)


def test_a_folder_without_one_is_no_export(tmp_path: Path) -> None:
    assert not has_header(tmp_path)
    with pytest.raises(BadSource, match="only what `sentifuse cache export` wrote"):
        read_header(tmp_path, "parquet")
