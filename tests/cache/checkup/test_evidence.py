"""Laws of evidence: what one file of a set lost is taken from the others, and nothing that never counted is."""

import dataclasses
from typing import Any

from sentifuse.cache.checkup.evidence import reason_of, weigh
from sentifuse.cache.checkup.mend import repair
from sentifuse.cache.checkup.verify import verify
from sentifuse.cache.errors import CorruptShard
from sentifuse.cache.staging import stage_shard
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


def test_a_line_that_names_other_datasets_is_the_fault_and_not_the_rows(store: Any) -> None:
    lines = [shard.to_line() for shard in store.shards.values()]
    middle = list(store.shards.values())[1]
    proof = dataclasses.replace(middle.proof, datasets=middle.proof.datasets[::-1])
    lines[1] = dataclasses.replace(middle, proof=proof).to_line()
    store.put("journal.jsonl", b"".join(lines))
    (fault,) = verify(store.directory).faults
    assert (fault.part, fault.rows) == ("journal.jsonl line 2", ())
    assert "not what was written (datasets ['fields/pieces" in fault.problem
    repair(store.directory, expected=None, recompute=lambda feature_set, batches: [])
    assert store.feature_set.journal().read_bytes() == store.whole["journal.jsonl"]
    assert verify(store.directory).faults == ()


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


def test_beside_a_whole_journal_files_that_nobody_committed_do_not_count(store: Any, make_rows: Any) -> None:
    staged = stage_shard(store.feature_set, 7, make_rows(300, 5))
    for index in (None, b"", b"\0" * 300):
        store.feature_set.index.unlink(missing_ok=True)
        if index is not None:
            store.put("index.json", index)
        found = weigh(store.directory)
        assert [witness.record for witness in found.shards] == [shard.record for shard in store.shards.values()]
        assert {fault.file for fault in found.faults} == {"index.json"}
        assert found.remarks == ("1 shard files that were never committed; the next writer removes them",)
    # A journal that lost a line may have lost this one.
    store.put("journal.jsonl", b"x\n" + store.whole["journal.jsonl"])
    assert staged.record in [witness.record for witness in weigh(store.directory).shards]


def test_a_journal_that_was_rewritten_to_nothing_is_whole(store: Any) -> None:
    content = store.files()
    with FeatureWriter(store.feature_set) as writer:
        writer.rewrite([])
    for name in store.shards:  # as if their removal had been cut short
        store.put(name, content[name])
    store.feature_set.index.unlink()
    assert weigh(store.directory).shards == ()


def test_what_a_part_has_staged_before_its_first_commit_does_not_count(feature_set: Any, make_rows: Any) -> None:
    with FeatureWriter(feature_set, part=(0, 2)) as writer:
        writer.stage(0, make_rows(0, 5))
        found = weigh(feature_set.directory)
    assert (found.shards, found.faults) == ((), ())


def test_a_seam_is_looked_for_a_few_times_only(store: Any) -> None:
    store.put("journal.jsonl", b'{"counts":1}J' * 50_000 + b"\n" + store.whole["journal.jsonl"])
    assert [fault.part for fault in weigh(store.directory).faults] == ["journal.jsonl line 1"]


def test_a_reason_has_no_path_and_no_advice() -> None:
    error = CorruptShard("/a/b/000001-x.h5: 5 bytes, expected 6. Run: sentifuse cache repair, which recomputes.")
    assert reason_of(error) == "5 bytes, expected 6"
