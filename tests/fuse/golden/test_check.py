"""What `sentifuse doctor --golden` is told about a head's golden file."""

import json
from pathlib import Path

import numpy as np
import pytest

from sentifuse import DataError
from sentifuse.doctor import verify_golden
from sentifuse.fuse.golden.check import check_golden_files
from sentifuse.fuse.golden.file import read_golden

GOLDEN = Path(__file__).parents[2] / "golden" / "heads"


def test_doctor_verifies_files_of_several_heads_at_once() -> None:
    files = [GOLDEN / f"{kind}_s1.npz" for kind in ("itin_code", "rnn_ca")]
    verdicts = [verdict.to_json() for verdict in verify_golden(files)]
    assert [(one["kind"], one["head_kind"], one["ok"]) for one in verdicts] == [
        ("heads", "itin_code", True),
        ("heads", "rnn_ca", True),
    ]
    assert all(row["ok"] and row["value"] <= row["limit"] for one in verdicts for row in one["deviations"])
    assert json.loads(json.dumps(verdicts, allow_nan=False)) == verdicts


def test_verdict_names_the_first_quantity_beyond_its_limit(tmp_path: Path) -> None:
    values = dict(read_golden(GOLDEN / "rnn_ca_s1.npz").values)
    values["gru.out.attended"] = values["gru.out.attended"] + 1e-6
    np.savez(tmp_path / "changed_s1.npz", **values)
    (verdict,) = check_golden_files([tmp_path / "changed_s1.npz"])
    assert not verdict.is_right
    assert verdict.to_json()["first_beyond"] == "gru: attended"
    assert verdict.lines()[0].startswith("changed_s1.npz: FAILS, first at gru: attended (rnn_ca; float64; ")
    assert sum("FAILS" in line for line in verdict.lines()[1:]) == 1


def test_numbers_that_are_none_become_null(tmp_path: Path) -> None:
    values = dict(read_golden(GOLDEN / "rnn_ca_s1.npz").values)
    values["lstm.out.loss"] = np.array(np.nan)
    np.savez(tmp_path / "nan_s1.npz", **values)
    (verdict,) = check_golden_files([tmp_path / "nan_s1.npz"])
    (row,) = [row for row in verdict.to_json()["deviations"] if not row["ok"]]
    assert (row["stage"], row["quantity"], row["value"]) == ("lstm", "loss: not finite in the file", None)
    json.dumps(verdict.to_json(), allow_nan=False)


def test_a_damaged_file_stops_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes((GOLDEN / "itin_code_s1.npz").read_bytes()[:5000])
    found = []
    with pytest.raises(DataError, match=r"cut\.npz: expected a NumPy archive"):
        found.extend(check_golden_files([GOLDEN / "itin_code_s1.npz", tmp_path / "cut.npz"]))
    assert found == []


def test_options_of_other_kinds_are_noted_not_obeyed() -> None:
    said: list[str] = []
    (verdict,) = check_golden_files([GOLDEN / "rnn_ca_s1.npz"], precision="fast", note=said.append)
    assert verdict.is_right
    assert "float64 on the CPU" in said[0]
