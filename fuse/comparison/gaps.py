"""Accuracy with texts or images missing, kept in each run: the same comparison again opens no test part."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentifuse import DataError
from sentifuse.data import files
from sentifuse.fuse.comparison.measured import measured_inputs
from sentifuse.fuse.features.samples import OpenReader, digest_ids
from sentifuse.fuse.missing import KINDS, evaluate_missing
from sentifuse.fuse.run import RunDirectory

FILE = "missing-test.json"
RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
HINT = "Remove it: the next comparison measures again"


def digest_pairs(ids: Sequence[str], labels: Mapping[str, str]) -> str:
    """Of test pairs and their classes: what is measured on others says nothing here."""
    return digest_ids([f"{id_}\t{labels.get(id_, '')}" for id_ in ids])


def measure_gaps(run: RunDirectory, measured_on: str, *, artifacts: Path, device: str, open_reader: OpenReader) -> None:
    """Measure on the test part and keep the rows in the run; `measured_on` is the part's `digest_pairs`.

    Raises
    ------
    SentifuseError
        What `evaluate_missing` refuses, or a run that cannot be written to.
    """
    rows = evaluate_missing(
        run, kinds=KINDS, rates=RATES, fillings=("own",), artifacts=artifacts, device=device, open_reader=open_reader
    )
    kept = {"measured_on": measured_on, "rates": list(RATES), "rows": rows, "inputs": measured_inputs(run)}
    files.write_json(run.path / FILE, kept)


def read_gaps(run: RunDirectory, measured_on: str) -> list[dict[str, Any]] | None:
    """The rows of `fuse.missing.evaluate_missing` that were kept; None if there are none of these very pairs.

    Nor if the run's answers have been measured since on features that were made from other inputs.
    """
    if not (run.path / FILE).is_file():
        return None
    try:
        document = files.read_json(run.path / FILE, hint=HINT)
    except DataError:
        return None  # measured anew, which writes it again
    if (document.get("measured_on"), document.get("rates")) != (measured_on, list(RATES)):
        return None
    inputs = measured_inputs(run)
    if inputs and document.get("inputs") and document["inputs"] != inputs:
        return None
    rows = document.get("rows")
    return rows if isinstance(rows, list) and rows else None
