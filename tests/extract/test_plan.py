"""Laws of the plan: what is stored is never planned again, and interruptions do not change the shards."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse.data.manifest import Manifest, Pair
from sentifuse.extract.plan import RowInput, list_inputs, plan_shards


def row(identity: int, digest: str = "d", status: str = "ok") -> RowInput:
    return RowInput(id=str(identity), image_path="", text="", image_digest="", digest=digest, status=status)


def known_rows(rows: list[RowInput]) -> dict[str, tuple[str, str]]:
    return {r.id: (r.digest, r.status) for r in rows}


def test_a_first_run_cuts_the_manifest_in_order() -> None:
    plan = plan_shards([row(i) for i in range(10)], {}, (), shard_rows=4)
    assert [(s.number, s.rows) for s in plan.shards] == [(0, (0, 1, 2, 3)), (1, (4, 5, 6, 7)), (2, (8, 9))]
    assert (plan.new_rows, plan.stale_rows, plan.stored_rows) == (10, 0, 0)


@settings(max_examples=50, derandomize=True)
@given(total=st.integers(1, 60), done=st.sets(st.integers(0, 14)))
def test_after_any_interruption_the_same_shards_are_planned(total: int, done: set[int]) -> None:
    rows = [row(i) for i in range(total)]
    whole = {s.number: s.rows for s in plan_shards(rows, {}, (), shard_rows=4).shards}
    done = {number for number in done if number in whole}
    stored = known_rows([rows[i] for number in done for i in whole[number]])
    rest = {s.number: s.rows for s in plan_shards(rows, stored, done, shard_rows=4).shards}
    # A partial last shard that is done leaves only full ones, so the cut is the same.
    assert rest == {number: cut for number, cut in whole.items() if number not in done}


def test_added_pairs_become_a_shard_of_their_own_wherever_their_ids_sort() -> None:
    rows = [row(i) for i in range(10)]
    grown = [*rows, row(-5), row(3000)]
    plan = plan_shards(grown, known_rows(rows), (0, 1, 2), shard_rows=4)
    assert [(s.number, s.rows) for s in plan.shards] == [(3, (10, 11))]


def test_an_edited_input_is_one_stale_row() -> None:
    rows = [row(i) for i in range(10)]
    edited = [*rows[:7], row(7, digest="other"), *rows[8:]]
    plan = plan_shards(edited, known_rows(rows), (0, 1, 2), shard_rows=4)
    assert [(s.number, s.rows) for s in plan.shards] == [(3, (7,))]
    assert (plan.new_rows, plan.stale_rows, plan.stored_rows) == (0, 1, 9)


def test_a_patch_comes_after_the_shards_it_replaces_even_when_a_number_is_free() -> None:
    rows = [row(i, digest="other" if i == 9 else "d") for i in [*range(4), *range(8, 12)]]
    stored = known_rows([row(i) for i in [*range(4), *range(8, 12)]])
    plan = plan_shards(rows, stored, (0, 2), shard_rows=4)
    assert [s.number for s in plan.shards] == [3]


def test_a_row_that_failed_on_these_bytes_is_not_tried_again() -> None:
    plan = plan_shards([row(0)], {"0": ("d", "unreadable: truncated")}, (0,))
    assert not plan.shards


def test_a_missing_image_that_appears_is_computed() -> None:
    assert not plan_shards([row(0, "", "missing")], {"0": ("", "missing")}, (0,)).shards
    assert plan_shards([row(0, "d", "ok")], {"0": ("", "missing")}, (0,)).stale_rows == 1


def pair(identity: str, *, image: str = "ok", text: str = "ok") -> Pair:
    return Pair(
        id=identity,
        image_path=f"{identity}.jpg",
        text="words",
        text_encoding="utf-8",
        image_digest="a" * 64 if image == "ok" else "",
        text_digest="b" * 64 if text == "ok" else "",
        image_status=image,
        text_status=text,
    )


def test_every_pair_that_is_not_withdrawn_is_an_input_of_each_modality() -> None:
    manifest = Manifest(
        root=Path(),
        pairs=(
            pair("1"),
            pair("2", image="missing"),
            pair("3", text="undecodable: bad byte"),
            pair("4", image="withdrawn", text="withdrawn"),
        ),
    )
    images = list_inputs(manifest, ("image",))
    assert [(r.id, r.status) for r in images] == [("1", "ok"), ("2", "missing"), ("3", "ok")]
    texts = list_inputs(manifest, ("text",))
    assert [r.status for r in texts] == ["ok", "ok", "unreadable: undecodable: bad byte"]
    both = list_inputs(manifest, ("image", "text"))
    assert [r.status for r in both] == ["ok", "missing", "unreadable: undecodable: bad byte"]
    assert both[0].digest not in {images[0].digest, texts[0].digest}
    assert not both[1].digest
