"""Golden files of seeds and images that nobody has seen, verified as a person would."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from sentifuse import ConfigError, DataError
from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.golden.check import Verdict, check_golden_files


def failures(verdict: Verdict) -> list[str]:
    return [str(one) for one in verdict.deviations if not one.is_within]


def changed(file: Path, folder: Path, **values: object) -> Path:
    """A copy of a golden file with its image, with other values."""
    with np.load(file, allow_pickle=False) as arrays:
        every = {name: arrays[name] for name in arrays.files}
    shutil.copy(file.with_name(str(every["image"])), folder)
    every |= {name: np.asarray(value) for name, value in values.items()}
    np.savez(folder / file.name, **every)
    return folder / file.name


def test_files_of_several_seeds_are_right_and_those_of_one_share_their_weights(
    golden_files: dict[int, Path], small: Architecture, tmp_path: Path
) -> None:
    again = changed(golden_files[7], tmp_path)
    notes: list[str] = []
    files = [golden_files[7], golden_files[8], again]
    verdicts = list(check_golden_files(files, sizes=small, note=notes.append))
    assert [failures(verdict) for verdict in verdicts] == [[], [], []]
    assert sorted(verdict.file for verdict in verdicts) == sorted(files)
    assert sum("making the weights" in note for note in notes) == 2


def test_numbers_of_another_seed_are_not_reproduced(
    golden_files: dict[int, Path], small: Architecture, tmp_path: Path
) -> None:
    (verdict,) = check_golden_files([changed(golden_files[7], tmp_path, seed=9)], sizes=small)
    assert not verdict.is_right
    document = verdict.to_json()
    assert (document["ok"], document["first_beyond"], document["seed"]) == (False, "stem", 9)
    assert "FAILS, first at stem" in verdict.lines()[0]


def test_one_wrong_number_is_found_in_its_stage(
    golden_files: dict[int, Path], small: Architecture, tmp_path: Path
) -> None:
    with np.load(golden_files[104], allow_pickle=False) as arrays:
        values = arrays["val_res3"].copy()
    values[17] += 0.01
    (verdict,) = check_golden_files([changed(golden_files[104], tmp_path, val_res3=values)], sizes=small)
    assert [text.split()[0] for text in failures(verdict)] == ["res3"]


def test_float64_stops_at_the_proposals_and_keeps_narrow_limits(
    golden_files: dict[int, Path], small: Architecture
) -> None:
    (verdict,) = check_golden_files([golden_files[8]], sizes=small, is_float64=True)
    assert failures(verdict) == []
    assert verdict.deviations[-1].stage == "pooling"
    assert max(one.limit for one in verdict.deviations if one.stage.startswith("res")) == 1e-8


@pytest.mark.parametrize("precision", ["fast", "fastest"])
def test_reduced_precision_has_the_limits_of_half_precision(
    precision: str, golden_files: dict[int, Path], small: Architecture
) -> None:
    (verdict,) = check_golden_files([golden_files[104]], sizes=small, precision=precision)
    assert failures(verdict) == []
    floors = {one.quantity: one.limit for one in verdict.deviations if one.is_floor}
    assert floors["share of anchors found"] == 0.85


def test_reduced_precision_refuses_sharp_files_before_anything_is_computed(
    golden_files: dict[int, Path], small: Architecture
) -> None:
    notes: list[str] = []
    with pytest.raises(ConfigError, match="sharp golden file \\(seed 7\\)"):
        list(check_golden_files(list(golden_files.values()), sizes=small, precision="fast", note=notes.append))
    assert notes == []


def test_one_arithmetic_at_a_time(golden_files: dict[int, Path], small: Architecture) -> None:
    with pytest.raises(ConfigError, match="--float64"):
        list(check_golden_files([golden_files[104]], sizes=small, precision="fast", is_float64=True))


def test_images_are_found_in_another_folder(golden_files: dict[int, Path], small: Architecture, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    moved = changed(golden_files[7], tmp_path)
    with np.load(moved, allow_pickle=False) as arrays:
        name = str(arrays["image"])
    (tmp_path / name).rename(photos / name)
    with pytest.raises(DataError, match="--images DIR"):
        list(check_golden_files([moved], sizes=small))
    (verdict,) = check_golden_files([moved], sizes=small, images=photos)
    assert verdict.is_right
    assert verdict.image == photos / name
