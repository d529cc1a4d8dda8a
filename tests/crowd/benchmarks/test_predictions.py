"""Answers on disk: a row per image, none lost, the fold where there is one."""

import csv
from pathlib import Path

import numpy as np

from sentifuse.crowd.benchmarks.answers import Answers
from sentifuse.crowd.benchmarks.predictions import COLUMNS, write_predictions
from sentifuse.data.files import read_table


def test_an_image_without_an_answer_has_its_row_and_no_numbers(tmp_path: Path) -> None:
    shares = np.array([[0.5, 0.25, 0.25], [np.nan] * 3], dtype=np.float32)
    answers = Answers(probabilities=shares, statuses=("ok", "missing"), details=("", ""), digests=("ab", ""))
    written = write_predictions(
        tmp_path / "predictions", "5agree", paths=["a,b.jpg", "é.jpg"], is_positive=np.array([True, False]),
        answers=answers, metadata={"benchmark": "5agree"}, fold_of=np.array([2, 1]),
    )  # fmt: skip
    columns, metadata = read_table(written["parquet"], [*COLUMNS, "fold"], hint="")
    assert columns == {
        "path": ["a,b.jpg", "é.jpg"], "class": ["positive", "negative"], "p_negative": [0.5, None],
        "p_neutral": [0.25, None], "p_positive": [0.25, None], "status": ["ok", "missing"], "fold": [2, 1],
    }  # fmt: skip
    assert metadata == {"benchmark": "5agree"}
    with written["csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [["a,b.jpg", "positive", "0.5", "0.25", "0.25", "ok", "2"],
                        ["é.jpg", "negative", "", "", "", "missing", "1"]]  # fmt: skip
