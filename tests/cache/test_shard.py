"""Laws of the shard file: plain HDF5 with nothing surprising in it, and every way of being wrong is refused."""

import dataclasses
import time
from collections.abc import Callable

import crc32c
import h5py
import numpy as np
import pytest

from sentifuse.cache.errors import BadRow, CorruptShard, FingerprintMismatch, FutureVersion
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.files import sha256_of
from sentifuse.cache.record import ShardRecord, StagedShard
from sentifuse.cache.shard import prove_shard, read_layout
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import stage_shard

MakeRows = Callable[..., list[Row]]


def damage(feature_set: FeatureSet, staged: StagedShard, change: Callable[[h5py.File], None]) -> ShardRecord:
    """Change a shard through HDF5 and give the record a file of that size has."""
    record = staged.record
    path = feature_set.directory / record.file
    with h5py.File(path, "r+", locking=False, libver=("v110", "v110")) as file:
        change(file)
    return dataclasses.replace(record, size_bytes=path.stat().st_size)


def put(file: h5py.File, name: str, data: object, **options: object) -> None:
    del file[name]
    file.create_dataset(name, data=data, **options)


def test_a_shard_reads_in_plain_h5py(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    rows = make_rows(0, 7)
    record = stage_shard(feature_set, 12, rows)
    with h5py.File(feature_set.directory / record.file, "r") as file:
        assert file.attrs["format"] == b"sentifuse-features"
        assert (file.attrs["version"], file.attrs["number"]) == (1, 12)
        assert file.attrs["fingerprint"].decode() == feature_set.fingerprint
        assert [value.decode("utf-8") for value in file["ids"][:]] == [row.id for row in rows]
        assert [value.decode("utf-8") for value in file["status"][:]] == [row.status for row in rows]
        assert [value.decode("utf-8") for value in file["digests"][:]] == [row.digest for row in rows]
        assert file["value_index"][:].tolist() == [0, 1, 2, -1, -1, 3, 4]
        kept = [row.values for row in rows if row.values is not None]
        np.testing.assert_array_equal(file["fields/grid"][:], np.stack([values["grid"] for values in kept]))
        np.testing.assert_array_equal(file["fields/count"][:], [values["count"] for values in kept])
        offsets = file["fields/states/offsets"][:]
        for position, values in enumerate(kept):
            part = file["fields/states/values"][offsets[position] : offsets[position + 1]]
            np.testing.assert_array_equal(part, values["states"])


def test_datasets_are_contiguous_aligned_and_of_fixed_types(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    record = stage_shard(feature_set, 0, make_rows(0, 7))
    found = []

    def look(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            assert node.chunks is None
            assert node.compression is None
            assert node.dtype.kind in "fiuS"
            assert node.id.get_offset() % 4096 == 0
            found.append(name)

    with h5py.File(feature_set.directory / record.file, "r") as file:
        file.visititems(look)
        assert not any(h5py.check_vlen_dtype(file.attrs.get_id(name).dtype) for name in file.attrs)
    assert len(found) == 6 + 2 + 2 * 2


def test_the_checksum_of_a_row_goes_over_its_names_and_its_values_in_field_order(
    feature_set: FeatureSet, make_rows: MakeRows
) -> None:
    rows = make_rows(0, 7)
    staged = stage_shard(feature_set, 0, rows)
    layout = read_layout(feature_set, staged.record)
    assert staged.proof.row_crc32c.tolist() == layout.crc32c.tolist()
    for row, found in zip(rows, layout.crc32c.tolist(), strict=True):
        content = b"".join((row.values or {})[field.name].tobytes() for field in feature_set.fields if row.values)
        head = b"\0".join(text.encode() for text in (row.id, row.digest, row.status, ""))
        assert found == crc32c.crc32c(head + content)


def test_the_proof_says_where_everything_lies(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    rows = [dataclasses.replace(row, batch=place % 2) for place, row in enumerate(make_rows(0, 7))]
    staged = stage_shard(feature_set, 0, rows)
    content = (feature_set.directory / staged.file).read_bytes()
    parts = {d.name: content[d.offset_bytes : d.offset_bytes + d.size_bytes] for d in staged.proof.datasets}
    for dataset in staged.proof.datasets:
        assert dataset.crc32c == (None if dataset.name in VALUES else crc32c.crc32c(parts[dataset.name]))
    kept = [row.values for row in rows if row.values is not None]
    for name in VALUES:
        field = name.split("/")[1]
        assert parts[name] == b"".join(values[field].tobytes() for values in kept)
    assert parts["batch"] == staged.proof.row_batch.tobytes() == np.array([0, 1] * 3 + [0], "<i4").tobytes()
    again = prove_shard(feature_set, staged.record)
    assert again.to_line() == staged.to_line()


VALUES = {"fields/grid", "fields/count", "fields/states/values", "fields/pieces/values"}


def test_the_record_says_what_the_file_is(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    record = stage_shard(feature_set, 3, make_rows(0, 10)).record
    path = feature_set.directory / record.file
    assert (record.rows, record.ok, dict(record.counts)) == (10, 6, {"missing": 2, "ok": 6, "unreadable": 2})
    assert (record.sha256, record.size_bytes) == (sha256_of(path), path.stat().st_size)
    assert path.name == f"000003-{record.sha256[:12]}.h5"


@pytest.mark.slow
def test_the_same_rows_give_the_same_bytes_at_another_time(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    first = stage_shard(feature_set, 0, make_rows(0, 20))
    content = (feature_set.directory / first.file).read_bytes()
    time.sleep(1.1)  # HDF5 counts whole seconds
    assert stage_shard(feature_set, 0, make_rows(0, 20)) == first
    assert (feature_set.directory / first.file).read_bytes() == content


def test_a_value_that_lies_otherwise_in_memory_gives_the_same_bytes(
    feature_set: FeatureSet, make_rows: MakeRows
) -> None:
    rows = make_rows(0, 3)
    turned = [
        dataclasses.replace(
            row, values={name: np.array(value, order="F") for name, value in (row.values or {}).items()}
        )
        for row in rows
    ]
    assert stage_shard(feature_set, 0, turned) == stage_shard(feature_set, 0, rows)


def test_a_shard_without_any_value_is_whole(feature_set: FeatureSet) -> None:
    record = stage_shard(feature_set, 0, [Row(id="a", digest="", status="missing")]).record
    layout = read_layout(feature_set, record)
    assert (layout.ids, layout.statuses, layout.value_index.tolist()) == (["a"], ["missing"], [-1])
    assert layout.fields["states"].values.shape == (0, 5)


def test_rows_that_must_not_be_stored_leave_nothing(feature_set: FeatureSet, make_row: Callable[..., Row]) -> None:
    good = make_row("a", 1)
    values = dict(good.values or {})
    nan = {**values, "grid": np.full((3, 4), np.nan, np.float16)}
    without = {name: value for name, value in values.items() if name != "grid"}
    for rows, message in [
        ([], "a shard of no rows"),
        ([good, make_row("b", 2), make_row("a", 3)], "id 'a' more than once"),
        ([dataclasses.replace(good, values=nan)], "field 'grid': NaN or infinity"),
        ([dataclasses.replace(good, values=without)], r"fields \['count', 'pieces', 'states'\], expected"),
        ([dataclasses.replace(good, values={**values, "x": values["grid"]})], "expected"),
    ]:
        with pytest.raises(BadRow, match=message):
            stage_shard(feature_set, 0, rows)
    with pytest.raises(BadRow, match="shard number -1"):
        stage_shard(feature_set, -1, [good])
    assert list(feature_set.shards.iterdir()) == []
    assert list(feature_set.temporary.iterdir()) == []


def _soft_link(file: h5py.File) -> None:
    file.move("fields/grid", "elsewhere")
    file["fields/grid"] = h5py.SoftLink("/elsewhere")


def _external_link(file: h5py.File) -> None:
    del file["fields/grid"]
    file["fields/grid"] = h5py.ExternalLink("/etc/passwd", "x")


def _unaligned(file: h5py.File) -> None:
    del file["fields/grid"]
    file["pad"] = np.zeros(100, np.uint8)
    file["fields"].create_dataset("grid", data=GRID)
    del file["pad"]


GRID = np.zeros((5, 3, 4), np.float16)

DAMAGES: list[tuple[Callable[[h5py.File], object], str]] = [
    (lambda file: file.attrs.__setitem__("format", "their-features"), "format 'their-features'.*not a shard of ours"),
    (lambda file: file.attrs.__delitem__("format"), "not a shard of ours"),
    (lambda file: file.attrs.__setitem__("number", 4), "attributes number are not"),
    (lambda file: file.attrs.__setitem__("recipe", "{}"), "attributes recipe are not"),
    (lambda file: file.attrs.__setitem__("note", "x"), "attributes note are not"),
    (lambda file: file.__delitem__("status"), "/: holds .* expected"),
    (lambda file: file.create_group("more"), "/: holds .*'more'"),
    (lambda file: file["fields"].create_dataset("more", data=[1]), "fields: holds"),
    (_soft_link, "/: holds"),
    (_external_link, r"links: \['grid'\]"),
    (lambda file: put(file, "fields/grid", GRID.astype(np.float32)), "fields/grid: float32"),
    (lambda file: put(file, "fields/grid", GRID.astype(">f2")), "fields/grid: >f2"),
    (
        lambda file: put(file, "fields/grid", GRID[:4]),
        r"fields/grid: float16 \(4, 3, 4\), expected float16 \(5, 3, 4\)",
    ),
    (lambda file: put(file, "fields/grid", GRID, chunks=(1, 3, 4)), "not stored as one contiguous piece"),
    (lambda file: put(file, "fields/grid", GRID, compression="gzip"), "not stored as one contiguous piece"),
    (_unaligned, "fields/grid: starts at byte"),
    (lambda file: put(file, "ids", np.array([b"a"] * 7, h5py.string_dtype("utf-8", 1))), "ids: an id twice"),
    (lambda file: file["ids"].__setitem__(1, file["ids"][0]), "ids: an id twice"),
    (lambda file: file["ids"].__setitem__(1, b"\xff\xfe"), "not readable as HDF5"),
    (lambda file: file["status"].__setitem__(0, b"missing"), "status: .*expected"),
    (lambda file: file["status"].__setitem__(0, b"perhaps"), "status: .*expected"),
    (lambda file: file["batch"].__setitem__(1, -2), "batch: a number below -1"),
    (lambda file: file["value_index"].__setitem__(1, 0), "value_index: it does not number"),
    (lambda file: file["value_index"].__setitem__(slice(0, 2), [1, 0]), "value_index: it does not number"),
    (lambda file: file["fields/states/offsets"].__setitem__(0, 1), "do not rise from 0"),
    (lambda file: file["fields/states/offsets"].__setitem__(1, 9), "do not rise from 0"),
    (lambda file: file["fields/states/offsets"].__setitem__(5, 99), r"fields/states/values: float32 .*\(99, 5\)"),
    (lambda file: file["fields/states/offsets"].__setitem__(5, 1 << 60), "fields/states/values"),
]


@pytest.mark.parametrize("case", range(len(DAMAGES)))
def test_a_shard_that_was_changed_is_refused_by_name(feature_set: FeatureSet, make_rows: MakeRows, case: int) -> None:
    change, message = DAMAGES[case]
    record = damage(feature_set, stage_shard(feature_set, 0, make_rows(0, 7)), lambda file: change(file) and None)
    with pytest.raises(CorruptShard, match=message) as caught:
        read_layout(feature_set, record)
    assert record.file in str(caught.value)
    assert "sentifuse cache repair" in str(caught.value)


def test_a_later_version_and_another_recipe_have_errors_of_their_own(
    feature_set: FeatureSet, make_rows: MakeRows
) -> None:
    record = stage_shard(feature_set, 0, make_rows(0, 7))
    later = damage(feature_set, record, lambda file: file.attrs.__setitem__("version", 2))
    with pytest.raises(FutureVersion, match="version 2, this program reads up to 1"):
        read_layout(feature_set, later)
    record = stage_shard(feature_set, 0, make_rows(0, 7))
    other = damage(feature_set, record, lambda file: file.attrs.__setitem__("fingerprint", "0" * 64))
    with pytest.raises(FingerprintMismatch, match="fingerprint 000000000000, expected"):
        read_layout(feature_set, other)


def test_a_file_that_is_missing_cut_short_or_something_else_is_refused(
    feature_set: FeatureSet, make_rows: MakeRows
) -> None:
    record = stage_shard(feature_set, 0, make_rows(0, 7)).record
    path = feature_set.directory / record.file
    content = path.read_bytes()
    path.write_bytes(content[:-4096])
    with pytest.raises(CorruptShard, match=rf"{len(content) - 4096} bytes, expected {len(content)}"):
        read_layout(feature_set, record)
    path.write_bytes(b"\0" * len(content))
    with pytest.raises(CorruptShard, match="not readable as HDF5"):
        read_layout(feature_set, record)
    path.write_bytes(b"")
    with pytest.raises(CorruptShard, match="0 bytes, expected"):
        read_layout(feature_set, record)
    path.unlink()
    with pytest.raises(CorruptShard, match=r"cannot be found .*but the index names it"):
        read_layout(feature_set, record)
