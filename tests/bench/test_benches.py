"""The benchmarks of the cache run through and write what they promise; their figures are not judged here."""

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
