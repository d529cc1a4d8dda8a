"""Which pairs are used: counts in are counts used plus pairs named with a reason."""

from collections.abc import Callable
from typing import Any

import h5py
import pytest

from sentifuse import CacheError
from sentifuse.cache.errors import CorruptShard
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter
from sentifuse.data.labels import read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.reasons import count_reasons
from sentifuse.fuse.features.batches import FieldRequest
from sentifuse.fuse.features.samples import Samples, digest_ids, open_features, select_samples

STATES = FieldRequest(encoder="tokens", field="states")
VECTOR = FieldRequest(encoder="context", field="vector")
MakeWorld = Callable[..., Any]


def select(world: Any, *requests: FieldRequest, target: str = "label") -> Samples:
    readers = open_features(world.artifacts, world.name, requests)
    labels, manifest = read_labels(world.dataset_dir), read_manifest(world.dataset_dir)
    return select_samples(world.ids, labels, target, readers, requests, manifest)


def test_pairs_without_a_needed_feature_are_named_with_the_reason(make_world: MakeWorld) -> None:
    statuses = {
        "context": {"p3": "unreadable: empty file", "p5": "missing"},
        "tokens": {"p5": "missing", "p6": "failed: out of memory"},
    }
    found = select(make_world(n=60, statuses=statuses), STATES, VECTOR)
    assert dict(found.excluded) == {
        "p3": "context: unreadable: empty file",
        "p5": "context: missing; tokens: missing",
        "p6": "tokens: failed: out of memory",
    }
    assert len(found.ids) + len(found.excluded) == 60
    assert count_reasons(found.excluded)["context: unreadable: empty file"] == 1


def test_only_what_the_head_reads_excludes(make_world: MakeWorld) -> None:
    world = make_world(n=60, statuses={"context": {"p3": "missing"}})
    assert select(world, STATES).excluded == {}


def test_an_optional_field_excludes_nobody(make_world: MakeWorld) -> None:
    world = make_world(n=60, statuses={"context": {"p3": "missing"}})
    optional = FieldRequest(encoder="context", field="vector", optional=True)
    assert select(world, STATES, optional).excluded == {}


def test_labels_are_positions_in_the_cards_order(make_world: MakeWorld) -> None:
    world = make_world(n=60, classes=("b", "a"))
    found = select(world, STATES)
    assert [world.label(id_) for id_ in found.ids] == [("b", "a")[i] for i in found.labels]
    assert found.class_counts(("b", "a")) == {"b": 30, "a": 30}


def test_a_target_without_label_is_a_reason(make_world: MakeWorld) -> None:
    world = make_world(n=60, text_labels={"p1": "negative", "p2": "positive"})
    found = select(world, STATES, target="text_label")
    assert found.ids == ("p1", "p2")
    assert found.labels.tolist() == [0, 2]
    assert count_reasons(found.excluded) == {"no text_label": 58}


def test_an_encoder_that_was_not_run_is_named_with_the_command(make_world: MakeWorld) -> None:
    world = make_world(n=60, encoders=("tokens",))
    with pytest.raises(CacheError, match=r"found tokens\. Run: sentifuse extract --dataset pairs --encoders context$"):
        select(world, STATES, VECTOR)


def test_an_absent_field_is_refused_before_any_row_is_read(make_world: MakeWorld) -> None:
    world = make_world(n=60)
    with pytest.raises(CacheError, match="expected a field 'pooled', found states"):
        open_features(world.artifacts, world.name, [FieldRequest(encoder="tokens", field="pooled")])


def test_pairs_that_were_never_encoded_ask_for_extract(make_world: MakeWorld) -> None:
    world = make_world(n=60, not_stored={"tokens": frozenset({"p7", "p8"})})
    with pytest.raises(CacheError, match=r"2 of 60 pairs are in no row: p7, p8\. Run extract again"):
        select(world, STATES)


def test_a_row_of_an_edited_text_is_refused(make_world: MakeWorld) -> None:
    world = make_world(n=60)
    world.texts = {"p9": "edited afterwards"}
    world.write_dataset()
    with pytest.raises(CacheError, match=r"1 of 60 pairs have changed since they were encoded: p9\. Run extract"):
        select(world, STATES)
    assert select(world, VECTOR).excluded == {}


@pytest.mark.parametrize("column", ["digests", "ids"])
def test_a_damaged_digest_or_id_is_damage_and_no_changed_input(make_world: MakeWorld, column: str) -> None:
    world = make_world(n=60)
    tokens = open_features(world.artifacts, world.name, [STATES])["tokens"]
    path = tokens.feature_set.directory / tokens.shards[0].file
    with h5py.File(path, "r+", locking=False) as file:
        texts = file[column][:]
        texts[9] = b"f" * 64 if column == "digests" else b"p0x"
        file[column][:] = texts
    with pytest.raises(CorruptShard, match="has CRC32C"):
        select(world, STATES)


def test_a_digest_of_ids_knows_no_order_but_every_id() -> None:
    assert digest_ids(["a", "b"]) == digest_ids(["b", "a"])
    assert len({digest_ids(ids) for ids in (["a", "b"], ["a"], ["ab"], [])}) == 4


def test_a_row_whose_input_could_not_be_read_is_left_out_by_name(make_world: MakeWorld) -> None:
    world = make_world(n=60)
    reader = open_features(world.artifacts, world.name, [VECTOR])["context"]
    with FeatureWriter(reader.feature_set) as writer:
        writer.commit(writer.stage(2, [Row(id="p3", digest="", status="failed: input/output error")]))
    assert select(world, VECTOR).excluded == {"p3": "context: failed: input/output error"}


def test_labels_of_text_and_image_come_along_where_there_are_any(make_world: MakeWorld) -> None:
    assert select(make_world(n=60), STATES).text_labels is None
    text = {"p3": "positive", "p4": "negative", "p59": "neutral"}
    world = make_world(name="others", n=60, text_labels=text, image_labels={"p4": "neutral"})
    found = select(world, STATES)
    classes = world.classes
    expected = [classes.index(text[id_]) if id_ in text else -1 for id_ in found.ids]
    assert found.text_labels.tolist() == expected
    assert found.image_labels[found.ids.index("p4")] == classes.index("neutral")
    assert int((found.image_labels >= 0).sum()) == 1
