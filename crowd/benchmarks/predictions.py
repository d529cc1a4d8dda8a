"""Answers on disk: one row per image of a benchmark's list, as Parquet and as CSV with the same columns."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse.crowd.benchmarks.answers import Answers
from sentifuse.crowd.benchmarks.binary import BINARY
from sentifuse.data import files

__all__ = ["COLUMNS", "write_predictions"]

COLUMNS = ("path", "class", "p_negative", "p_neutral", "p_positive", "status")


def write_predictions(
    folder: Path,
    name: str,
    *,
    paths: Sequence[str],
    is_positive: npt.NDArray[np.bool_],
    answers: Answers,
    metadata: Mapping[str, Any],
    fold_of: npt.NDArray[np.int64] | None = None,
) -> dict[str, Path]:
    """Write `<name>.parquet` and `<name>.csv`; "parquet" and "csv" → path.

    An image without an answer has its row, its status, and no probabilities (null; empty in the CSV).

    Parameters
    ----------
    paths
        As the benchmark's list has them.
    metadata
        Of the Parquet file: benchmark, model and whatever else tells where the numbers came from.
    fold_of
        A seventh column `fold`.

    Raises
    ------
    DataError
        A file cannot be written.
    """
    is_ok = answers.is_ok
    columns: dict[str, tuple[str, list[Any]]] = {
        "path": ("string", list(paths)),
        "class": ("string", [BINARY[int(flag)] for flag in is_positive]),
    }
    for i, column in enumerate(COLUMNS[2:5]):
        values = answers.probabilities[:, i].tolist()
        columns[column] = ("float32", [value if ok else None for value, ok in zip(values, is_ok, strict=True)])
    columns["status"] = ("string", list(answers.statuses))
    if fold_of is not None:
        columns["fold"] = ("int32", fold_of.tolist())
    found = {"parquet": folder / f"{name}.parquet", "csv": folder / f"{name}.csv"}
    files.write_table(found["parquet"], columns, metadata)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    shown = [["" if value is None else value for value in values] for _, values in columns.values()]
    writer.writerows(zip(*shown, strict=True))
    files.write_bytes(found["csv"], text.getvalue().encode())
    return found
