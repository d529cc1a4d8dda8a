"""The law of gathering: whatever the fields, readers and ways of delivery, a batch is what a slow loop would make."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.reader import READERS, FeatureReader
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter
from sentifuse.fuse.features import batches as batches_module
from sentifuse.fuse.features import gather as gather_module
from sentifuse.fuse.features.batches import Batch, BatchSource, FieldRequest
from sentifuse.fuse.features.delivery import Converted, Staged

Values = dict[str, np.ndarray] | None

dtypes = st.sampled_from(["float16", "float32", "int32", "int64", "uint8"])
shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
declared = st.lists(st.tuples(dtypes, shapes, st.booleans()), min_size=1, max_size=3)
lengths = st.lists(st.integers(-1, 4), min_size=1, max_size=9)  # -1: a row without values


@dataclass(frozen=True)
class Case:
    """A feature set and the rows that were put into it."""

    feature_set: FeatureSet
    fields: tuple[Field, ...]
    rows: dict[str, Values]


def write_case(folder: Path, kinds: Sequence[tuple[str, tuple[int, ...], bool]], sizes: Sequence[int]) -> Case:
    fields = tuple(
        Field(name=f"f{place}", dtype=dtype, shape=shape, is_ragged=ragged)
        for place, (dtype, shape, ragged) in enumerate(kinds)
    )
    fields += (Field(name="count", dtype="int32", shape=()),)
    rng = np.random.default_rng(len(sizes))
    rows: dict[str, Values] = {}
    for number, size in enumerate(sizes):
        values = {
            field.name: np.asarray(
                rng.integers(0, 100, size=(size, *field.shape) if field.is_ragged else field.shape)
            ).astype(field.numpy_dtype)
            for field in fields[:-1]
            if size >= 0
        }
        rows[f"p{number}"] = {**values, "count": np.array(size % 3, np.int32)} if size >= 0 else None
    feature_set = create_feature_set(folder, encoder="any", recipe={}, fields=fields)
    stored = [
        Row(id=id_, digest="", status="missing" if values is None else "ok", values=values)
        for id_, values in rows.items()
    ]
    with FeatureWriter(feature_set) as writer:
        for number, start in enumerate(range(0, len(stored), 4)):
            writer.commit(writer.stage(number, stored[start : start + 4]))
    return Case(feature_set, fields, rows)


def slow(case: Case, field: Field, limit: int | None, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The batch of one field by a loop over rows: values float64, mask."""
    is_sequence = field.is_ragged or len(field.shape) >= 2
    element = field.shape[1:] if is_sequence and not field.is_ragged else field.shape
    found = []
    for id_ in ids:
        values = case.rows[id_]
        if not is_sequence:
            found.append(None if values is None else values[field.name])
            continue
        n = 0 if values is None else len(values[field.name])
        if values is not None and not field.is_ragged:
            n = min(n, int(values["count"]))
        n = n if limit is None else min(n, limit)
        found.append(np.zeros((0, *element)) if values is None else values[field.name][:n])
    if not is_sequence:
        filled = [np.zeros(element) if value is None else value for value in found]
        return np.stack(filled).astype(np.float64), np.array([value is not None for value in found])
    longest = max(1, *(len(value) for value in found))
    out, mask = np.zeros((len(ids), longest, *element)), np.zeros((len(ids), longest), dtype=bool)
    for place, value in enumerate(found):
        out[place, : len(value)], mask[place, : len(value)] = value, True
    return out, mask


def assert_right(case: Case, requests: Sequence[FieldRequest], batch: Batch, dtype: torch.dtype) -> None:
    for request, field in zip(requests, case.fields, strict=False):
        values, mask = slow(case, field, request.limit, batch.ids)
        found = batch.values[request.key]
        assert found.dtype == dtype
        assert found.is_contiguous()
        np.testing.assert_array_equal(found.double().numpy(), values)  # whole numbers below 128: exact in all dtypes
        np.testing.assert_array_equal(batch.masks[request.key].numpy(), mask)


def requests_of(case: Case, limit: int | None) -> tuple[FieldRequest, ...]:
    return tuple(FieldRequest(encoder="any", field=field.name, limit=limit) for field in case.fields)


def staged(self: BatchSource, dtype: torch.dtype, device: torch.device, resident: str | None, *, reuse: bool) -> Any:
    return Staged(dtype, device)


@settings(derandomize=True, max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=declared,
    sizes=lengths,
    limit=st.none() | st.integers(1, 4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    reuse=st.booleans(),
    seed=st.integers(0, 3),
)
def test_every_way_gives_what_a_slow_loop_gives(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: list[tuple[str, tuple[int, ...], bool]],
    sizes: list[int],
    limit: int | None,
    dtype: torch.dtype,
    reuse: bool,
    seed: int,
) -> None:
    case = write_case(tmp_path_factory.mktemp("c"), kinds, sizes)
    requests, ids = requests_of(case, limit), list(case.rows)
    rng = np.random.default_rng(seed)
    plan = [rng.integers(0, len(ids), size=int(rng.integers(1, 7))) for _ in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        for way in ("mmap", "h5py", "ram", "device", "loops", "staged"):
            if way == "loops":
                patch.setattr(gather_module, "_copy_all", None)
                patch.setattr(gather_module, "_zero_all", None)
            if way == "staged":
                patch.setattr(batches_module.BatchSource, "_choose", staged)
            readers = {"any": FeatureReader(case.feature_set, reader="h5py" if way == "h5py" else "mmap")}
            resident = way if way in ("ram", "device") else None
            source = BatchSource(readers, requests, ids, reuse=reuse, dtype=dtype, resident=resident)
            for rows in plan:
                batch = source.gather(rows)
                assert batch.ids == tuple(ids[row] for row in rows)
                assert_right(case, requests, batch, dtype)


def test_the_fast_calls_of_torch_are_there() -> None:
    assert gather_module._copy_all is not None
    assert gather_module._zero_all is not None


@pytest.fixture
def case(tmp_path: Path) -> Case:
    kinds = [("float16", (5,), True), ("float32", (4,), False), ("float16", (3, 6), False)]
    return write_case(tmp_path, kinds, [4, 0, 2, -1, 3, 1, 4, 4, 2, 0, 1])


@pytest.fixture
def new_source(case: Case) -> Callable[..., BatchSource]:
    def make(**settings: Any) -> BatchSource:
        kind = settings.pop("reader", "mmap")
        readers = {"any": FeatureReader(case.feature_set, reader=kind)}
        return BatchSource(readers, requests_of(case, 2), list(case.rows), **settings)

    return make


def clone(batch: Batch) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in batch.values.items()}


def assert_same(found: Batch, values: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(found.values[key], values[key]) for key in values)


def test_a_batch_is_valid_until_the_next_but_one(new_source: Callable[..., BatchSource]) -> None:
    source = new_source(reuse=True)
    first = source.gather([0, 4])
    kept = clone(first)
    source.gather([6, 7])
    assert_same(first, kept)
    third = source.gather([2, 5])
    assert third.values["any.f0"].data_ptr() == first.values["any.f0"].data_ptr()


@pytest.mark.parametrize("settings", [{"reuse": False}, {"reuse": True, "copy": True}])
def test_a_fresh_batch_is_valid_for_good(new_source: Callable[..., BatchSource], settings: dict[str, bool]) -> None:
    source = new_source(reuse=settings["reuse"])
    copy = settings.get("copy", False)
    made = [source.gather([row, 4], copy=copy) for row in (0, 2, 6, 7)]
    for row, batch in zip((0, 2, 6, 7), made, strict=True):
        assert_same(batch, new_source().gather([row, 4]).values)


@pytest.mark.parametrize("settings", [{}, {"reader": "h5py"}, {"resident": "ram"}, {"read_ahead": True}])
def test_a_stream_gives_what_gather_gives_in_order(
    new_source: Callable[..., BatchSource], settings: dict[str, Any]
) -> None:
    plan = [np.array(rows) for rows in ([0, 1], [2, 3, 4], [5], [6, 7, 8, 9], [10, 0])]
    plain = new_source()
    place = -1
    for place, batch in enumerate(new_source(reuse=True, **settings).stream(plan)):
        expected = plain.gather(plan[place])
        assert batch.ids == expected.ids
        assert_same(batch, expected.values)
        assert all(torch.equal(batch.masks[key], expected.masks[key]) for key in expected.masks)
    assert place == len(plan) - 1


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("resident", [None, "ram"])
def test_a_source_pickles_without_maps_and_buffers(
    new_source: Callable[..., BatchSource], kind: str, resident: str | None
) -> None:
    source = new_source(reuse=True, reader=kind, resident=resident)
    fresh = len(pickle.dumps(source))
    expected = clone(source.gather([0, 4, 6]))
    packed = pickle.dumps(source)
    assert len(packed) <= fresh
    assert_same(pickle.loads(packed).gather([0, 4, 6]), expected)


def test_a_batch_of_no_rows_is_empty(new_source: Callable[..., BatchSource]) -> None:
    for way in ({}, {"reader": "h5py"}, {"resident": "ram"}):
        batch = new_source(reuse=True, **way).gather([])
        assert len(batch) == 0
        assert batch.values["any.f0"].shape == (0, 1, 5)
        assert batch.masks["any.f0"].shape == (0, 1)


def test_a_limit_touches_no_bytes_beyond_it(case: Case) -> None:
    request = FieldRequest(encoder="any", field="f2", limit=1)
    source = BatchSource({"any": FeatureReader(case.feature_set)}, (request,), list(case.rows))
    sizes = {source.nelement() for source in source._columns[0].sources(np.arange(len(case.rows)))}
    assert sizes == {0, 6}


def test_what_is_converted_on_the_way_needs_no_second_pass(new_source: Callable[..., BatchSource]) -> None:
    source = new_source(reuse=True)
    assert isinstance(source._delivery, Converted)
    batch = source.gather([0, 4])
    taken = source._delivery._buffers._sets[source._delivery._buffers.place]
    assert {tensor.data_ptr() for tensor in taken.values()} == {value.data_ptr() for value in batch.values.values()}


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [None, "device"])
def test_a_gpu_gets_the_same_numbers(new_source: Callable[..., BatchSource], resident: str | None) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    plan = [np.array(rows) for rows in ([0, 1], [2, 3, 4], [5], [6, 7, 8, 9])]
    source = new_source(reuse=True, device=torch.device("cuda", 0), resident=resident)
    made = [batch.to("cpu") for batch in source.stream(plan)]
    for rows, batch in zip(plan, made, strict=True):
        assert_same(batch, new_source().gather(rows).values)


def test_a_batch_ends_for_the_buffers_it_began_with_whatever_has_begun_since(
    new_source: Callable[..., BatchSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = new_source()
    staged = Staged(torch.float32, torch.device("cpu"))
    monkeypatch.setattr(source, "_delivery", staged)
    began: list[int] = []
    ended: list[int] = []
    begin = staged.begin

    def begin_and_note(*, copy: bool) -> Callable[[], None]:
        end = begin(copy=copy)
        began.append(staged._buffers.place)
        return end

    monkeypatch.setattr(staged, "begin", begin_and_note)
    monkeypatch.setattr(Staged, "_sent", lambda self, place: ended.append(place))
    plan = [np.array([row]) for row in range(4)]
    assert len(list(source.stream(plan))) == 4
    assert ended == began
    assert began[:2] in ([0, 1], [1, 0])
