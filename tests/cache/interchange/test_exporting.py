"""An export is whole or not there, replaces nothing but an export, and proves each row on the way."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse import ConfigError
from sentifuse.cache.errors import CacheError, CorruptShard, DiskFull, NotStored, Unwritable
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.interchange import exporting
from sentifuse.cache.interchange.exporting import export_features
from sentifuse.cache.interchange.importing import import_features
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter


@pytest.fixture
def reader(feature_set: FeatureSet, make_rows: Callable[..., list[Row]]) -> FeatureReader:
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, make_rows(0, 7)))
    return FeatureReader(feature_set)


def test_the_summary_counts_what_was_written(reader: FeatureReader, tmp_path: Path) -> None:
    done: list[int] = []
    summary = export_features(reader, tmp_path / "a" / "out", format_name="parquet", progress=done.append)
    assert (summary.rows, summary.ok, sum(done)) == (7, 5, 7)
    files = [path for path in summary.folder.rglob("*") if path.is_file()]
    assert summary.size_bytes == sum(path.stat().st_size for path in files)
    assert sorted(path.name for path in files) == ["000000.parquet", "export.json"]


def test_some_fields_make_another_recipe(reader: FeatureReader, tmp_path: Path) -> None:
    summary = export_features(reader, tmp_path / "out", format_name="npz", fields=["states", "grid"])
    assert summary.fields == ("grid", "states")
    assert summary.fingerprint != reader.fingerprint
    digests = {row_id: reader.digest(row_id) for row_id in reader.ids}
    cache_dir = reader.feature_set.directory.parent
    imported = import_features(tmp_path / "out", format_name="npz", cache_dir=cache_dir, digests=digests)
    assert imported.feature_set.directory != reader.feature_set.directory
    assert imported.feature_set.recipe == {**reader.recipe, "only_fields": ["grid", "states"]}
    again = FeatureReader(imported.feature_set)
    assert again.value(reader.ids[0], "grid").tobytes() == reader.value(reader.ids[0], "grid").tobytes()
    everything = export_features(
        reader, tmp_path / "all", format_name="npz", fields=["states", "grid", "count", "pieces"]
    )
    assert everything.fingerprint == reader.fingerprint
    with pytest.raises(NotStored, match="no field 'vector'"):
        export_features(reader, tmp_path / "none", format_name="npz", fields=["vector"])


def test_nothing_but_an_export_is_replaced_and_that_only_when_forced(reader: FeatureReader, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work", encoding="utf-8")
    (tmp_path / "file").write_text("text", encoding="utf-8")
    for name in ("mine", "file"):
        with pytest.raises(ConfigError, match="there already, and no export"):
            export_features(reader, tmp_path / name, format_name="npz", is_forced=True)
    export_features(reader, tmp_path / "out", format_name="npz")
    with pytest.raises(ConfigError, match="--force"):
        export_features(reader, tmp_path / "out", format_name="parquet")
    export_features(reader, tmp_path / "out", format_name="parquet", is_forced=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000000.parquet", "export.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "file", "mine", "out"]


def test_a_full_disk_leaves_nothing_and_an_old_export_as_it_was(
    reader: FeatureReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    export_features(reader, tmp_path / "out", format_name="npz")
    before = snapshot(tmp_path / "out")

    def full(*_: Any) -> list[str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "find_writer", lambda name: full)
    with pytest.raises(DiskFull, match="Nothing is left of this export"):
        export_features(reader, tmp_path / "out", format_name="npz", is_forced=True)
    assert snapshot(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out"]


def test_a_place_that_cannot_be_written_is_named(reader: FeatureReader, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text", encoding="utf-8")
    with pytest.raises(Unwritable, match=r"file/out: cannot be written"):
        export_features(reader, tmp_path / "file" / "out", format_name="npz")


def test_a_damaged_row_is_never_exported(reader: FeatureReader, tmp_path: Path) -> None:
    shard = next(reader.feature_set.shards.iterdir())
    content = bytearray(shard.read_bytes())
    value = reader.value(reader.ids[0], "grid").tobytes()
    content[content.index(value)] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptShard, match="pair é0"):
        export_features(FeatureReader(reader.feature_set), tmp_path / "out", format_name="npz")
    assert not (tmp_path / "out").exists()


def test_a_set_without_rows_is_not_exported(feature_set: FeatureSet, tmp_path: Path) -> None:
    with FeatureWriter(feature_set):
        pass
    with pytest.raises(CacheError, match="no rows to export"):
        export_features(FeatureReader(feature_set), tmp_path / "out", format_name="npz")
