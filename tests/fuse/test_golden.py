"""Golden files of the heads are recognised by content and hold, for the seeds and sizes that a file has."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from sentifuse import DataError
from sentifuse.fuse.heads.golden import KINDS, check_heads_golden, find_kind
from sentifuse.fuse.heads.golden_file import read_golden

GOLDEN = Path(__file__).parents[1] / "golden" / "heads"


def test_every_file_is_of_the_kind_its_name_says() -> None:
    kinds = {file.stem.removesuffix("_s1"): find_kind(read_golden(file)) for file in sorted(GOLDEN.glob("*.npz"))}
    assert kinds.keys() >= {"itin_paper", "itin_code", "rnn_ca"}
    one_kind = dict.fromkeys(("ctmwa_clip", "ctmwa_noclip", "ctmwa_dropout"), "ctmwa_steps")
    assert kinds == {name: one_kind.get(name, name) for name in kinds}
    assert set(kinds.values()) <= set(KINDS)


@pytest.mark.parametrize("kind", ["itin_paper", "itin_code", "rnn_ca"])
def test_golden_file_holds_under_any_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "some numbers.npz"
    shutil.copy(GOLDEN / f"{kind}_s1.npz", path)
    rows = check_heads_golden(path)
    assert [str(row) for row in rows if not row.is_within] == []
    assert rows[0].quantity == "seed 1: arrays unlike the rule"
    assert len(rows) > 15


def test_other_archives_are_refused_with_what_they_hold(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(DataError, match=r"expected a golden file of kind itin_paper, .* found .* \(a, b, …\)"):
        check_heads_golden(tmp_path / "other.npz")


@pytest.mark.parametrize("kind", ["itin_paper", "itin_code", "rnn_ca"])
def test_file_with_an_array_too_few_or_of_another_shape_is_refused_by_its_name(kind: str, tmp_path: Path) -> None:
    values = dict(read_golden(GOLDEN / f"{kind}_s1.npz").values)
    (needed,) = [name for name in values if name in ("scalar.alpha", "out.pool_weights", "lstm.out.attended")]
    np.savez(tmp_path / "few.npz", **{name: value for name, value in values.items() if name != needed})
    with pytest.raises(DataError, match=rf"expected an array '{needed}', found none"):
        check_heads_golden(tmp_path / "few.npz")
    weight = next(name for name in values if name.endswith("param.classifier.weight"))
    np.savez(tmp_path / "shape.npz", **values | {weight: values[weight][:1]})
    with pytest.raises(DataError, match="the parameters are not those of"):
        check_heads_golden(tmp_path / "shape.npz")


@pytest.mark.parametrize("kind", ["itin_paper", "itin_code", "rnn_ca"])
def test_one_changed_number_fails_one_row(kind: str, tmp_path: Path) -> None:
    values = dict(read_golden(GOLDEN / f"{kind}_s1.npz").values)
    name = next(name for name in values if name.endswith("logits"))
    values[name] = values[name] * (1 + 3e-9)
    np.savez(tmp_path / "changed_s1.npz", **values)
    failing = [row for row in check_heads_golden(tmp_path / "changed_s1.npz") if not row.is_within]
    assert [row.quantity for row in failing] == ["logits"]
