"""The law of every export format: what is imported again is what was exported, byte for byte; damage is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentifuse import ConfigError
from sentifuse.cache.checksum import seal, unseal
from sentifuse.cache.errors import BadSource, Unreadable
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.interchange import EXPORTS, IMPORTS
from sentifuse.cache.interchange.exporting import export_features
from sentifuse.cache.interchange.importing import import_features
from sentifuse.cache.interchange.source import ImportOptions
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import DTYPES, Array, Field, Row
from sentifuse.cache.writer import FeatureWriter

RowsIn = Callable[[FeatureReader], dict[str, Any]]
FORMATS = sorted(EXPORTS)

names = st.sampled_from(["a", "features", "file", "values", "id_2", "offsets"])
sides = st.lists(st.integers(1, 3), max_size=2).map(tuple)
fields = st.lists(
    st.builds(
        lambda n, d, s, r: Field(name=n, dtype=d, shape=s, is_ragged=r),
        names,
        st.sampled_from(sorted(DTYPES)),
        sides,
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda field: field.name,
)
ids = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
    | st.sampled_from(["../up", "a/b", ".", "..", "con", "x" * 900, "a.b.c", "1", "@000000-000000", "é\n"]),
    min_size=1,
    max_size=6,
    unique=True,
)
states = st.sampled_from(["ok", "ok", "ok", "missing", "unreadable: cut short", "failed: NaN, “twice”"])


def value_of(field: Field, rng: np.random.Generator) -> Array:
    shape = (int(rng.integers(0, 4)), *field.shape) if field.is_ragged else field.shape
    if field.numpy_dtype.kind == "f":
        values = np.where(rng.random(shape) < 0.3, -0.0, rng.normal(size=shape))
    else:
        values = rng.integers(0, 256, size=shape) - (100 if field.dtype != "uint8" else 0)
    return np.asarray(values).astype(field.numpy_dtype)


@st.composite
def stores(draw: st.DrawFn) -> tuple[tuple[Field, ...], list[Row]]:
    chosen = tuple(draw(fields))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = []
    for row_id in draw(ids):
        status = draw(states)
        values = {field.name: value_of(field, rng) for field in chosen} if status == "ok" else None
        rows.append(Row(id=row_id, digest="" if status == "missing" else "ab" * 32, status=status, values=values))
    return chosen, rows


@pytest.mark.parametrize("format_name", FORMATS)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(store=stores())
def test_an_export_comes_back_exactly(
    format_name: str, store: tuple[tuple[Field, ...], list[Row]], rows_in: RowsIn
) -> None:
    chosen, rows = store
    with TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        feature_set = create_feature_set(cache, encoder="tokens", recipe={"x": 1.5}, fields=chosen, details={"p": "q"})
        with FeatureWriter(feature_set) as writer:
            writer.commit(writer.stage(0, rows))
        reader = FeatureReader(feature_set)
        out = Path(folder) / "out"
        exported = export_features(reader, out, format_name=format_name)
        assert (exported.rows, exported.fingerprint) == (len(rows), reader.fingerprint)
        digests = {row_id: reader.digest(row_id) for row_id in reader.ids}
        summary = import_features(out, format_name=format_name, cache_dir=Path(folder) / "again", digests=digests)
        again = FeatureReader(summary.feature_set)
        assert again.ids == reader.ids
        assert rows_in(again) == rows_in(reader)
        assert (again.recipe, again.fields, again.encoder) == (reader.recipe, reader.fields, "tokens")
        assert again.feature_set.details == reader.feature_set.details
        assert (summary.unknown, summary.absent, summary.outdated) == ((), (), ())


@pytest.fixture
def filled(feature_set: FeatureSet, make_rows: Callable[..., list[Row]], make_row: Callable[..., Row]) -> FeatureReader:
    """Three shards, the last of which replaces a row of the first."""
    shards = [make_rows(0, 7), make_rows(7, 5), [make_row("pair é3", 50, length=2)]]
    with FeatureWriter(feature_set) as writer:
        for number, rows in enumerate(shards):
            writer.commit(writer.stage(number, rows))
    return FeatureReader(feature_set)


def test_everything_that_goes_out_can_come_in() -> None:
    assert set(EXPORTS) <= set(IMPORTS)


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_same_rows_give_the_same_files(
    format_name: str, filled: FeatureReader, tmp_path: Path, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    for name in ("first", "second"):
        export_features(filled, tmp_path / name, format_name=format_name)
    assert snapshot(tmp_path / "first") == snapshot(tmp_path / "second")


@pytest.mark.parametrize("format_name", FORMATS)
def test_rows_in_many_pieces_come_back(
    format_name: str, filled: FeatureReader, tmp_path: Path, rows_in: RowsIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentifuse.cache.interchange.exporting.PIECE_ROWS", 5)
    export_features(filled, tmp_path / "out", format_name=format_name)
    digests = {row_id: filled.digest(row_id) for row_id in reversed(filled.ids)}
    summary = import_features(tmp_path / "out", format_name=format_name, cache_dir=tmp_path / "again", digests=digests)
    again = FeatureReader(summary.feature_set)
    assert again.ids == tuple(reversed(filled.ids))  # the order of the dataset, not that of the files
    assert rows_in(again) == rows_in(filled)


@pytest.mark.parametrize("format_name", FORMATS)
def test_any_damaged_file_is_refused_by_name(format_name: str, filled: FeatureReader, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    export_features(filled, whole, format_name=format_name)
    digests = {row_id: filled.digest(row_id) for row_id in filled.ids}
    for file in sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file()):
        for damage in ("flip", "cut", "remove"):
            broken = tmp_path / "broken"
            shutil.copytree(whole, broken)
            content = bytearray((broken / file).read_bytes())
            content[len(content) // 2] ^= 1
            (broken / file).write_bytes(content if damage == "flip" else content[:-1])
            if damage == "remove":
                (broken / file).unlink()
            if damage == "cut" and file.name == "export.json":
                (broken / file).write_bytes(content[: len(content) // 2])
            with pytest.raises((BadSource, Unreadable, ConfigError)) as caught:
                import_features(broken, format_name=format_name, cache_dir=tmp_path / "again", digests=digests)
            assert str(broken) in str(caught.value)
            assert not (tmp_path / "again").exists() or list((tmp_path / "again").iterdir()) == []
            shutil.rmtree(broken)


def test_an_export_is_imported_as_what_it_is(filled: FeatureReader, tmp_path: Path) -> None:
    export_features(filled, tmp_path / "out", format_name="npz")
    digests = {row_id: filled.digest(row_id) for row_id in filled.ids}
    again = {"cache_dir": tmp_path / "again", "digests": digests}
    with pytest.raises(BadSource, match="Say: --format npz"):
        import_features(tmp_path / "out", format_name="parquet", **again)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="an export of 'tokens'"):
        import_features(tmp_path / "out", format_name="npz", encoder="regions", **again)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--dtype: of no use"):
        import_features(tmp_path / "out", format_name="npz", options=ImportOptions(dtype="float16"), **again)  # type: ignore[arg-type]


@pytest.mark.parametrize("format_name", ["parquet", "safetensors", "webdataset"])
def test_files_of_others_in_these_formats_are_refused(format_name: str, tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="only what `sentifuse cache export` wrote"):
        import_features(tmp_path, format_name=format_name, cache_dir=tmp_path / "again", digests={"a": ""})


def test_a_file_name_with_a_path_is_refused(filled: FeatureReader, tmp_path: Path) -> None:
    export_features(filled, tmp_path / "out", format_name="parquet")
    path = tmp_path / "out" / "export.json"
    value = unseal(json.loads(path.read_text(encoding="utf-8")))
    value["files"][0]["file"] = "../000000.parquet"
    path.write_text(json.dumps(seal(value)), encoding="utf-8")
    with pytest.raises(BadSource, match="expected a plain name"):
        import_features(tmp_path / "out", format_name="parquet", cache_dir=tmp_path / "again", digests={"a": ""})
