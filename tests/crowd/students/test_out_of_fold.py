"""Folds divide nothing that belongs together and follow from no label; the student asked has seen none of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentifuse import ConfigError, DataError
from sentifuse.crowd.components import components_of
from sentifuse.crowd.students.out_of_fold import ALL, assign_folds, choose_students, digest_folds

IDS = st.lists(st.integers(0, 15), min_size=8, max_size=60)


def world(names: list[int]) -> dict[str, str]:
    """Pairs p0, p1, … in components by number."""
    return {f"p{i}": f"c{name}" for i, name in enumerate(names)}


@given(names=IDS, k=st.integers(2, 4), seed=st.integers(0, 5))
def test_a_component_is_in_one_fold_and_folds_are_as_even_as_components_allow(
    names: list[int], k: int, seed: int
) -> None:
    components = world(names)
    if len(set(names)) < k:
        with pytest.raises(ConfigError, match="--folds"):
            assign_folds(components, k, seed)
        return
    fold_of = assign_folds(components, k, seed)
    assert fold_of.keys() == components.keys()
    assert set(fold_of.values()) == set(range(1, k + 1))
    assert len({(components[id_], fold) for id_, fold in fold_of.items()}) == len(set(names))
    sizes = [list(fold_of.values()).count(fold) for fold in range(1, k + 1)]
    assert max(sizes) - min(sizes) <= max(names.count(name) for name in names)


def test_folds_hang_on_ids_and_seed_alone() -> None:
    components = world(list(range(30)))
    backwards = dict(reversed(components.items()))
    assert assign_folds(components, 5, 1) == assign_folds(backwards, 5, 1)
    assert assign_folds(components, 5, 1) != assign_folds(components, 5, 2)


@pytest.mark.parametrize("k", [1, -1])
def test_a_number_of_folds_that_is_none_is_refused(k: int) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        assign_folds(world([1, 2, 3]), k, 0)


def test_tweets_and_near_duplicates_are_joined_over_any_number_of_steps() -> None:
    groups = {"1-1": "1-1", "1-2": "1-2", "2-1": "1-2", "2-2": "2-2", "3-1": "2-2", "4-1": "4-1", "plain": "plain"}
    found = components_of(groups)
    assert len({found[id_] for id_ in ("1-1", "1-2", "2-1", "2-2", "3-1")}) == 1
    assert len(set(found.values())) == 3


def choose(seen: dict[str, set[int]], components: dict[str, str]) -> dict[str, int]:
    return choose_students(components, components, seen, where="s on d")


def test_the_student_that_held_out_the_component_answers_for_all_of_it() -> None:
    components = {"a": "a", "b": "a", "c": "c", "d": "d"}
    assert choose({"a": {2}, "c": {1}}, components) == {"a": 2, "b": 2, "c": 1, "d": ALL}


def test_what_every_student_saw_is_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"saw 2 of these pairs or their near-duplicates \(a, b\).*--folds 5"):
        choose({"a": {ALL}}, {"a": "a", "b": "a", "c": "c"})


@pytest.mark.parametrize("seen", [{"a": {1}, "b": {2}}, {"a": {1, 2}}])
def test_pairs_that_bridge_folds_are_refused(seen: dict[str, set[int]]) -> None:
    with pytest.raises(DataError, match="several folds"):
        choose(seen, {"a": "a", "b": "a"})


@given(names=IDS, seen=st.lists(st.booleans(), min_size=60, max_size=60), k=st.integers(2, 4), seed=st.integers(0, 3))
def test_no_pair_is_answered_by_a_student_that_saw_its_component(
    names: list[int], seen: list[bool], k: int, seed: int
) -> None:
    """The whole way: fold, train on what is seen, ask."""
    if len(set(names)) < k:
        return
    components = world(names)
    fold_of = assign_folds(components, k, seed)
    trained_on = {id_ for place, id_ in enumerate(components) if seen[place]}
    chosen = choose({id_: {fold_of[id_]} for id_ in trained_on}, components)
    for id_, student in chosen.items():
        saw = {other for other in trained_on if student == ALL or fold_of[other] != student}
        assert components[id_] not in {components[other] for other in saw}


def test_the_digest_changes_with_an_answer_and_not_with_a_new_stranger() -> None:
    first = digest_folds({"a": 1, "b": 2})
    assert digest_folds({"a": 1, "b": 2, "c": ALL}) == first
    assert digest_folds({"a": 1, "b": 1}) != first


def test_large_numbers_are_quick() -> None:
    components = {f"p{i}": f"p{i - i % 3}" for i in range(30_000)}
    counts = np.bincount(list(assign_folds(components, 5, 0).values()))
    assert counts[1:].tolist() == [6000] * 5
