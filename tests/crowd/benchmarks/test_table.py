"""Tables say which numbers are whose, and what a reader must know about them."""

from typing import Any

import numpy as np

from sentifuse.crowd.benchmarks.binary import score_binary
from sentifuse.crowd.benchmarks.table import entries_of, grids_of
from sentifuse.fuse.tables import to_latex, to_markdown

ANSWERS = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3]], dtype=np.float32)
SCORES = score_binary(np.array([False, True, False]), ANSWERS)
ENTRY: dict[str, Any] = {
    "n_listed": 3, "published_count": None, "statuses": {"ok": 3}, "problems": [], "n_seen": 0,
}  # fmt: skip


def document_of(name: str, **changes: Any) -> dict[str, Any]:
    entry = ENTRY | {"name": name, "scores": SCORES}
    return {"model": {"name": "mine"}, "benchmarks": [entry | changes], "five_fold": [], "fi_splits": None}


def test_a_benchmark_without_published_numbers_has_no_published_rows() -> None:
    grid = grids_of(document_of("emotion_ROI_test"))[0]
    assert grid.rows == (("always the larger class", "measured", "66.7"), ("mine", "measured", "66.7"))


def test_one_with_them_has_the_eight_models_above_ours() -> None:
    grid = grids_of(document_of("4agree"))[0]
    assert [row[1] for row in grid.rows] == ["published"] * 8 + ["measured"] * 2
    assert [row[2] for row in grid.rows[:8]] == ["78.0", "79.7", "78.7", "80.3", "82.6", "82.4", "83.1", "84.8"]


def test_a_model_that_saw_the_images_is_called_leaked() -> None:
    assert "trained on 2 of these images" in grids_of(document_of("4agree", n_seen=2))[1].notes[-1]


def test_folds_and_splits_have_mean_and_deviation() -> None:
    spread = {"mean": 0.8125, "sd": 0.05, "n": 5}
    parts = [SCORES | {"left_out": {"/a/b/gone.jpg": "missing"}, "best": {"step": 7}, "split": k} for k in range(1, 6)]
    found = {"accuracy": spread, "f1_macro": spread}
    document = document_of("4agree") | {
        "five_fold": [ENTRY | {"name": "4agree", "majority": 0.6, "folds": parts} | found],
        "fi_splits": {"splits": [ENTRY | part for part in parts]} | found,
    }
    grids = grids_of(document)
    assert grids[2].rows[0][6] == "81.2 ± 5.0"
    assert "gone.jpg" in grids[2].notes[1]
    assert grids[3].rows[-1][:2] == ("mean ± sd", "81.2 ± 5.0")
    assert len(grids[3].rows) == 6
    assert "published" in to_markdown("x", grids)
    assert r"$\pm$" in to_latex("x", grids)


def test_a_leak_and_missing_images_are_told_of_every_protocol() -> None:
    spread = {"accuracy": {"mean": 0.5, "sd": 0.0, "n": 5}, "f1_macro": {"mean": 0.5, "sd": 0.0, "n": 5}}
    bad = {"n_seen": 2, "statuses": {"ok": 2, "missing": 1}, "problems": [{"path": "x.jpg", "status": "missing"}]}
    part = SCORES | {"left_out": {}, "best": {"step": 7}}
    document = document_of("emotion_ROI_test") | {
        "benchmarks": [],
        "five_fold": [ENTRY | bad | {"name": "4agree", "majority": 0.6, "folds": [part] * 5} | spread],
        "fi_splits": {"splits": [ENTRY | bad | part | {"split": 3, "name": "FI_split_3_test"}]} | spread,
    }
    for grid in grids_of(document):
        notes = " ".join(grid.notes)
        assert "trained on 2 of these images: read it as leaked" in notes
        assert "x.jpg (missing)" in notes
    assert [name for name, _ in entries_of(document)] == ["4agree, five folds", "FI, split 3, test part"]
