"""Every row of the dataset gets one, every row of the source is accounted for, and a refused source leaves nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError
from sentifuse.cache.errors import BadSource, Locked
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.interchange import importing
from sentifuse.cache.interchange.exporting import export_features
from sentifuse.cache.interchange.importing import NOT_IMPORTED, ImportSummary, import_features
from sentifuse.cache.interchange.source import ImportOptions
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter

Run = Callable[..., ImportSummary]


@pytest.fixture
def run(tmp_path: Path, cache_dir: Path) -> Run:
    """Imports rows `{id: vector}` of an .npy and its ids."""

    def do(rows: Mapping[str, Any], digests: Mapping[str, str], **other: Any) -> ImportSummary:
        np.save(tmp_path / "x.npy", np.array(list(rows.values()), dtype=np.float32))
        (tmp_path / "x.txt").write_text("\n".join(rows), encoding="utf-8")
        return import_features(
            tmp_path / "x.npy",
            format_name="npy",
            cache_dir=cache_dir,
            digests=digests,
            encoder="context",
            options=ImportOptions(ids_file=tmp_path / "x.txt"),
            **other,
        )

    return do


def digests_of(*ids: str) -> dict[str, str]:
    return {row_id: row_id.encode().hex().ljust(64, "0") for row_id in ids}


def test_every_row_of_both_sides_is_accounted_for(run: Run) -> None:
    digests = {**digests_of("b", "a", "gone"), "no image": "", "broken image": ""}
    rows = {"a": [1, 2], "x": [3, 4], "b": [5, np.nan], "y": [7, 8]}
    summary = run(rows, digests, statuses={"broken image": "unreadable: cut short"})
    reader = FeatureReader(summary.feature_set)
    assert {row_id: reader.status(row_id) for row_id in reader.ids} == {
        "b": "failed: vector has NaN or infinity",
        "a": "ok",
        "gone": NOT_IMPORTED,
        "no image": "missing",
        "broken image": "unreadable: cut short",
    }
    assert {row_id: reader.digest(row_id) for row_id in reader.ids} == digests
    np.testing.assert_array_equal(reader.value("a", "vector"), np.float32([1, 2]))
    assert summary.statuses == {"failed": 2, "missing": 1, "ok": 1, "unreadable": 1}
    assert summary.failed == {"b": "failed: vector has NaN or infinity"}
    assert (summary.unknown, summary.absent) == (("x", "y"), ("gone", "no image", "broken image"))
    assert (summary.source_rows, summary.written, summary.stored) == (4, 5, 0)
    assert reader.recipe["imported"] == {
        "format": "npy",
        "version": 1,
        "source_sha256": reader.recipe["imported"]["source_sha256"],
    }


def test_features_of_a_pair_without_its_input_are_stored(run: Run) -> None:
    reader = FeatureReader(run({"a": [1, 2]}, {"a": ""}).feature_set)
    assert (reader.status("a"), reader.digest("a")) == ("ok", "")


def test_a_repeated_import_writes_nothing(run: Run, snapshot: Callable[[Path], dict[str, bytes]]) -> None:
    first = run({"a": [1, 2], "b": [3, 4]}, digests_of("a", "b", "c"))
    before = snapshot(first.feature_set.directory)
    again = run({"a": [1, 2], "b": [3, 4]}, digests_of("a", "b", "c"))
    assert (again.written, again.stored, again.statuses) == (0, 3, {})
    assert again.feature_set.fingerprint == first.feature_set.fingerprint
    assert snapshot(first.feature_set.directory) == before


def test_other_bytes_are_another_feature_set(run: Run) -> None:
    first = run({"a": [1, 2]}, digests_of("a"))
    second = run({"a": [1, 3]}, digests_of("a"))
    assert first.feature_set.directory != second.feature_set.directory


def test_a_grown_dataset_gets_only_its_new_and_changed_rows(run: Run) -> None:
    run({"a": [1, 2], "b": [3, 4]}, digests_of("a"))
    digests = {**digests_of("a", "b", "c"), "a": "cd" * 32}
    summary = run({"a": [1, 2], "b": [3, 4]}, digests)
    assert (summary.written, summary.stored) == (3, 0)
    reader = FeatureReader(summary.feature_set)
    assert {row_id: reader.digest(row_id) for row_id in reader.ids} == digests
    assert reader.ids == ("a", "b", "c")


def test_an_interrupted_import_goes_on_with_the_same_shards(
    run: Run, monkeypatch: pytest.MonkeyPatch, snapshot: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    monkeypatch.setattr(importing, "SHARD_ROWS", 2)
    rows = {str(number): [number, number] for number in range(7)}

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(rows, digests_of(*rows), progress=stop)
    done: list[int] = []
    summary = run(rows, digests_of(*rows), progress=done.append)
    assert done == [2, 2, 1]
    assert (summary.written, summary.stored) == (5, 2)
    broken_off = snapshot(summary.feature_set.directory / "shards")
    whole = import_features(
        tmp_path / "x.npy",
        format_name="npy",
        cache_dir=tmp_path / "undisturbed",
        digests=digests_of(*rows),
        encoder="context",
        options=ImportOptions(ids_file=tmp_path / "x.txt"),
    )
    assert snapshot(whole.feature_set.directory / "shards") == broken_off


def test_only_one_shard_of_rows_is_read_at_a_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "SHARD_ROWS", 3)
    alive: list[int] = []
    original = FeatureWriter.stage

    def stage(self: FeatureWriter, number: int, rows: Any) -> Any:
        alive.append(len(rows))
        return original(self, number, rows)

    monkeypatch.setattr(FeatureWriter, "stage", stage)
    rows = {str(number): [number] for number in range(8)}
    run(rows, digests_of(*rows))
    assert alive == [3, 3, 2]


def test_a_source_of_strangers_is_refused(run: Run, cache_dir: Path) -> None:
    with pytest.raises(BadSource, match=r"none of its 1 ids \('1', …\) is one of the dataset's 2 \('p-1', 'p-2', …\)"):
        run({"1": [1]}, digests_of("p-1", "p-2"))
    assert not cache_dir.exists()


def test_another_writer_keeps_an_import_out(run: Run) -> None:
    feature_set = run({"a": [1]}, digests_of("a")).feature_set
    with FeatureWriter(feature_set), pytest.raises(Locked):
        run({"a": [1]}, digests_of("a", "b"))
    assert FeatureReader(feature_set).ids == ("a",)


def test_unknown_formats_and_no_encoder_are_refused(tmp_path: Path, cache_dir: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'npz'"):
        import_features(tmp_path, format_name="nzp", cache_dir=cache_dir, digests={"a": ""})
    np.save(tmp_path / "x.npy", np.zeros((1, 2), np.float32))
    (tmp_path / "x.txt").write_text("a", encoding="utf-8")
    options = ImportOptions(ids_file=tmp_path / "x.txt")
    with pytest.raises(ConfigError, match="--encoder"):
        import_features(tmp_path / "x.npy", format_name="npy", cache_dir=cache_dir, digests={"a": ""}, options=options)


def test_an_export_leaves_out_what_it_lacks_and_names_what_is_outdated(
    feature_set: FeatureSet, make_row: Callable[..., Row], tmp_path: Path
) -> None:
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, [make_row("a", 1), make_row("b", 2), make_row("c", 3)]))
    reader = FeatureReader(feature_set)
    export_features(reader, tmp_path / "out", format_name="npz")
    digests = {"new": "ab" * 32, "b": reader.digest("b"), "a": "cd" * 32}
    summary = import_features(tmp_path / "out", format_name="npz", cache_dir=tmp_path / "again", digests=digests)
    again = FeatureReader(summary.feature_set)
    assert again.ids == ("b", "a")  # a row of ours that failed would never be made by `extract`
    assert again.digest("a") == reader.digest("a")
    assert (summary.unknown, summary.absent, summary.outdated) == (("c",), ("new",), ("a",))
    assert again.fingerprint == reader.fingerprint
    repeated = import_features(tmp_path / "out", format_name="npz", cache_dir=tmp_path / "again", digests=digests)
    assert (repeated.written, repeated.stored) == (0, 2)
