"""Laws of evidence: what one file of a set lost is taken from the others, and nothing that never counted is."""

from typing import Any

from sentifuse.cache.checkup.evidence import reason_of, weigh
from sentifuse.cache.errors import CorruptShard
from sentifuse.cache.writer import FeatureWriter


def test_a_whole_set_says_everything(store: Any) -> None:
    found = weigh(store.directory)
    assert (found.faults, found.remarks, found.part_journals) == ((), (), {})
    assert found.feature_set is not None
    assert found.feature_set.fields == store.feature_set.fields
    assert [witness.record for witness in found.shards] == [shard.record for shard in store.shards.values()]
    assert all(witness.proof is not None for witness in found.shards)


def test_recipe_and_fields_come_from_the_shards_in_their_order(store: Any) -> None:
    for journal in (store.whole["journal.jsonl"], b""):
        store.put("journal.jsonl", journal)
        (store.directory / "recipe.json").unlink(missing_ok=True)
        found = weigh(store.directory, details={"path": "/y"}).feature_set
        assert found is not None
        assert (found.recipe, found.fields) == (store.feature_set.recipe, store.feature_set.fields)
        assert (found.fingerprint, found.encoder, found.details) == (
            store.feature_set.fingerprint,
            store.feature_set.encoder,
            {"path": "/y"},
        )


def test_a_newline_that_was_changed_costs_no_line(store: Any) -> None:
    content = store.whole["journal.jsonl"]
    for place in [at for at, byte in enumerate(content) if byte == 0x0A]:
        for bit in range(8):
            changed = content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
            store.put("journal.jsonl", changed)
            found = weigh(store.directory)
            assert len(found.faults) == 1
            assert all(witness.proof is not None for witness in found.shards)


def test_a_rewritten_journal_does_not_miss_what_the_old_index_names(store: Any, make_rows: Any) -> None:
    with FeatureWriter(store.feature_set) as writer:
        writer.rewrite([writer.stage(0, make_rows(0, 5))])
    index = store.feature_set.index.read_bytes()
    store.put("index.json", store.whole["index.json"])
    found = weigh(store.directory)
    assert [witness.record.rows for witness in found.shards] == [5]
    assert found.faults == ()
    store.feature_set.index.write_bytes(index)
    assert weigh(store.directory).faults == ()


def test_a_reason_has_no_path_and_no_advice() -> None:
    error = CorruptShard("/a/b/000001-x.h5: 5 bytes, expected 6. Run: sentifuse cache repair, which recomputes.")
    assert reason_of(error) == "5 bytes, expected 6"
