"""Laws of guesses: the likeliest comes first, all are from the dataset, and none is tried without end."""

import numpy as np

from sentifuse.cache.checkup.guess import Candidates, guess_value_rows

EXPECTED = {f"p{number}": (f"{number:064x}", "ok") for number in range(100)}


def test_the_id_at_the_distance_from_a_proven_neighbour_comes_first() -> None:
    candidates = Candidates(EXPECTED)
    proven = {0: "p10", 5: "p17"}.get  # two of the manifest's are missing in between
    assert candidates.between(3, 6, proven, is_exact=True) == ["p13"]
    assert candidates.between(3, 6, proven)[0] == "p13"
    assert set(candidates.between(3, 6, proven)) == {f"p{number}" for number in range(11, 17)}
    assert candidates.between(3, 6, {4: "p1"}.get, is_exact=True) == ["p0"]
    assert candidates.between(3, 6, {4: "p1"}.get)[0] == "p0"
    assert candidates.between(3, 6, {4: "p2", 0: "a stranger"}.get, is_exact=True) == ["p1"]
    assert candidates.between(0, 1, {}.get) == []


def test_what_was_read_is_tried_before_what_the_dataset_has() -> None:
    candidates = Candidates({**EXPECTED, "same": EXPECTED["p3"]})
    assert candidates.ids(1, 2, ("p7", EXPECTED["p3"][0]), {}.get) == ["p7", "p3", "same"]
    assert candidates.texts("p3", ("read", "failed: read"), None) == (
        ["read", EXPECTED["p3"][0], ""],
        ["failed: read", "ok", "missing"],
    )
    assert candidates.texts(None, (None, None), False) == ([None, ""], [None, "missing"])
    assert len(Candidates(dict.fromkeys(EXPECTED, ("", "ok"))).ids(0, 1, (None, None), {}.get)) == 17


def test_runs_are_all_there_are() -> None:
    assert [run.start for run in Candidates(EXPECTED).runs(98)] == [0, 1, 2]
    assert list(Candidates(EXPECTED).runs(101)) == []


def test_rows_with_values_are_guessed_from_every_source_in_turn() -> None:
    guesses = guess_value_rows(
        {"a": ("", "missing")}, np.array([0, -1, 1]), ["a", "b", None], ["ok", None, "ok"], np.array([-1, 0, 0])
    )
    assert [guess.tolist() for guess in guesses] == [
        [True, False, True],
        [True, False, True],
        [False, True, True],
        [False, True, True],
        [True, True, True],
    ]
