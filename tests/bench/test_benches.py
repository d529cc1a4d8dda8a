"""The benchmarks run through and write what they promise; their figures are not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_bench(name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "bench" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_cache_speed_writes_figures_and_a_picture(tmp_path: Path) -> None:
    run_bench("cache_speed.py", "--quick", "--artifacts", str(tmp_path))
    document = json.loads((tmp_path / "bench" / "cache.json").read_text(encoding="utf-8"))
    for reader in ("ours", "naive", "naive_2_workers", "h5py_with_care", "npy_maps", "arrow", "memcpy"):
        for m in ("m36", "m8", "m2"):
            assert document[reader][m]["samples_per_s"] > 0
            assert document[reader][m]["ratio_memcpy"] > 0
    assert document["writer"]["ratio_dd"] > 0
    assert document["cold"]["ratio_sequential"] > 0
    assert [row["pairs"] for row in document["growth"]] == [256, 512]
    assert (tmp_path / "bench" / "cache.png").stat().st_size > 10_000
    assert not (tmp_path / "bench" / "stores").exists()


@pytest.mark.slow
def test_four_trainings_share_one_store(tmp_path: Path) -> None:
    """Their private memory is limited; all finish, and the store is in each one's map but not in its own memory."""
    run_bench("shared_store.py", "--gb", "0.15", "--limit-mb", "3500", "--artifacts", str(tmp_path))
    document = json.loads((tmp_path / "bench" / "shared_store.json").read_text(encoding="utf-8"))
    assert document["exit_codes"] == [0, 0, 0, 0]
    for taken in document["processes"]:
        assert taken["RssFile"] > document["store_bytes"] / 2
        assert taken["Pss"] < taken["RssAnon"] + taken["RssFile"]


@pytest.mark.slow
def test_heads_bench_writes_figures_of_every_head_and_of_ctmwa_beside_the_literal_algorithm(tmp_path: Path) -> None:
    heads = ("itin", "ctmwa", "text_only", "logreg")
    shown = run_bench("heads.py", "--quick", "--threads", "1", "--heads", ",".join(heads), "--artifacts", str(tmp_path))
    document = json.loads((tmp_path / "bench" / "heads.json").read_text(encoding="utf-8"))
    assert tuple(document["heads"]) == heads
    for name in heads:
        for figure in ("ms_per_step", "pairs_per_s", "peak_mib"):
            assert document["heads"][name][figure] > 0
    ctmwa = document["ctmwa"]
    for figure in ("speedup_over_literal", "speedup_shared_mask", "plain_steps", "plain_steps_shared_mask"):
        assert ctmwa[figure] > 0
    assert ctmwa["largest_difference_to_literal"] < 1e-12  # the rival computes the same
    assert set(ctmwa["literal_split_ms"]) == set(ctmwa["reference_split_ms"])
    assert "where the literal step's processor time goes" in shown
    assert document["precision"] == "float32"


@pytest.mark.slow
def test_heads_bench_measures_steps_with_rounded_products(tmp_path: Path) -> None:
    arguments = ("--quick", "--threads", "1", "--heads", "text_only,logreg", "--precision", "bfloat16")
    shown = run_bench("heads.py", *arguments, "--artifacts", str(tmp_path))
    document = json.loads((tmp_path / "bench" / "heads-bfloat16.json").read_text(encoding="utf-8"))
    assert document["precision"] == "bfloat16"
    assert list(document["heads"]) == ["text_only"]
    assert document["heads"]["text_only"]["ms_per_step"] > 0
    assert "logreg             is solved in float64" in shown


@pytest.mark.slow
def test_regions_speed_writes_figures_and_a_picture(tmp_path: Path) -> None:
    """In miniature, with the part for a GPU on the CPU."""
    said = run_bench("regions_speed.py", "--quick", "--artifacts", str(tmp_path))
    document = json.loads((tmp_path / "bench" / "regions.json").read_text(encoding="utf-8"))
    computed = {"exact", "fast", "fastest"} - document["equals"].keys()
    for name in ("naive", *computed):
        assert document["speed"][name]["images_per_s"] > 0
        assert document["peak_bytes"][name] > 100e6
        assert document["cost"]["share_of_peak"][name]["res5"] > 0
        assert {"backbone", "RPN", "RoI pool", "res5", "selection"} <= document["stages"][name].keys()
    for name in computed:
        assert document["stages"][name]["write"]["cpu_s"] > 0
        assert document["proposals"][name]["300"]["regions_kept"] == 1
    assert document["processes"]["exact"]["ratio"] > 0
    assert document["check"]["same"] > 0.5 * document["check"]["regions"] > 0
    assert document["cuda"]["precisions"]["exact"]["images_per_s"] > 0
    assert document["cost"]["nominal_flop"]["res5"] > document["cost"]["done_flop"]["res5"] > 0
    assert (tmp_path / "bench" / "regions.png").stat().st_size > 10_000
    assert not (tmp_path / "bench" / "regions").exists()
    assert "× naive" in said


@pytest.mark.slow
def test_probe_bench_writes_seconds_and_memory_of_two_sizes(tmp_path: Path) -> None:
    run_bench("crowd_probe.py", "--quick", "--artifacts", str(tmp_path))
    document = json.loads((tmp_path / "bench" / "crowd_probe.json").read_text(encoding="utf-8"))
    assert [row["images"] for row in document["sizes"]] == [500, 2000]
    assert all(row["seconds"] > 0 and row["own_mib"] > 0 for row in document["sizes"])


@pytest.mark.slow
def test_fine_tuning_bench_writes_images_per_second(tmp_path: Path) -> None:
    run_bench("crowd_finetune.py", "--quick", "--artifacts", str(tmp_path))
    document = json.loads((tmp_path / "bench" / "crowd_finetune.json").read_text(encoding="utf-8"))
    assert document["means"]["images_per_s"] > 0


@pytest.mark.slow
def test_students_see_through_wrong_labels_and_the_filter_helps_where_unsure_ones_are_wrong(tmp_path: Path) -> None:
    """Means over five seeds. Not a matter of luck: at 0.4 the gains are many times the spread over seeds."""
    run_bench("crowd_noise.py", "--artifacts", str(tmp_path))
    document = json.loads((tmp_path / "bench" / "crowd_noise.json").read_text(encoding="utf-8"))
    rows = {(row["rate"], row["filter"]): row for row in document["rows"]}
    for rate in (0.2, 0.4):
        off, filtered = rows[rate, "off"], rows[rate, "0.7"]
        assert off["labels"]["mean"] == pytest.approx(1 - rate, abs=0.02)
        assert off["accuracy"]["mean"] > off["labels"]["mean"] + 0.1
        assert filtered["labels"]["mean"] > off["labels"]["mean"]
        assert filtered["accuracy"]["mean"] > off["accuracy"]["mean"] - 0.01  # at 0.2 it gains less than seeds differ
    assert rows[0.4, "0.7"]["accuracy"]["mean"] > rows[0.4, "off"]["accuracy"]["mean"] + 0.03
