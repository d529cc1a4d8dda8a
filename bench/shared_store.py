"""Several trainings on one store at once, each under a limit of private memory smaller than the store.

python bench/shared_store.py [--gb 4.2] [--processes 4] [--limit-mb 3500] [--keep]

Every process maps the same files, so they share one copy in the page cache. Prints what each took of its own (RssAnon),
of the cache (RssFile) and its fair share of both (Pss); writes artifacts/bench/shared_store.json.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import clock
import stores
import torch
from output import say, write

from sentifuse.fuse.train import TrainRequest, train

NAME = "synthetic"
PAUSE_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--folder", type=Path, help="where the dataset is written; default: ARTIFACTS/bench/shared")
    parser.add_argument("--gb", type=float, default=4.2)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--limit-mb", type=int, default=3500, help="RLIMIT_DATA of each process")
    parser.add_argument("--head", default="image_only")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the store on the disk")
    parser.add_argument("--train-one", type=int, metavar="SEED", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder or arguments.artifacts / "bench" / "shared"
    if arguments.train_one is not None:
        train_one(folder, arguments.train_one, arguments.limit_mb, arguments.head, arguments.epochs)
        return
    try:
        document = run(folder, arguments)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    write(arguments.artifacts, "shared_store.json", document)


def run(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the store, train in all processes at once, watch them."""
    sizes = stores.Sizes()
    pairs = int(arguments.gb * 1e9 / sizes.pair_bytes)
    say(f"writing {pairs:,} pairs, {pairs * sizes.pair_bytes / 1e9:.1f} GB …")
    stores.write_dataset(folder, NAME, pairs, sizes)
    files = sorted((folder / "cache").rglob("*.h5"))
    size = sum(file.stat().st_size for file in files)
    limit = f"--limit-mb={arguments.limit_mb}"
    given = ["--folder", str(folder), limit, "--head", arguments.head, "--epochs", str(arguments.epochs)]
    started = time.perf_counter()
    processes = [
        subprocess.Popen([sys.executable, __file__, *given, "--train-one", str(seed)])
        for seed in range(arguments.processes)
    ]
    peaks = watch(processes)
    codes = [process.wait() for process in processes]
    document = {
        "machine": clock.machine(),
        "store_bytes": size,
        "limit_bytes": arguments.limit_mb << 20,
        "pairs": pairs,
        "head": arguments.head,
        "wall_s": time.perf_counter() - started,
        "exit_codes": codes,
        "processes": peaks,
    }
    say(f"store {size / 1e9:.2f} GB, limit of private memory {arguments.limit_mb << 20:,} bytes, exits {codes}")
    for seed, found in enumerate(peaks):
        say(f"process {seed}: " + ", ".join(f"{key} {value / 1e6:,.0f} MB" for key, value in found.items()))
    total = sum(found["RssFile"] for found in peaks)
    say(f"mapped by all: {total / 1e9:.1f} GB; in memory once: at most {size / 1e9:.1f} GB and the libraries")
    return document


def watch(processes: list["subprocess.Popen[bytes]"]) -> list[dict[str, int]]:
    """The most that each process was seen to take, Pss at the moment when the sum of RssFile was highest."""
    peaks: list[dict[str, int]] = [{} for _ in processes]
    highest = 0
    while any(process.poll() is None for process in processes):
        seen = [_memory(process) for process in processes]
        total = sum(found.get("RssFile", 0) for found in seen)
        for peak, found in zip(peaks, seen, strict=True):
            for key, value in found.items():
                if key != "Pss":
                    peak[key] = max(peak.get(key, 0), value)
                elif total >= highest:
                    peak[key] = value
        highest = max(highest, total)
        time.sleep(PAUSE_S)
    return peaks


def _memory(process: "subprocess.Popen[bytes]") -> dict[str, int]:
    try:
        return clock.memory_of(process.pid)
    except OSError:  # it has just ended
        return {}


def train_one(folder: Path, seed: int, limit_mb: int, head: str, epochs: int) -> None:
    """One training under the limit; a request for more private memory fails in it."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_mb << 20, limit_mb << 20))
    run = train(
        TrainRequest(artifacts=folder, dataset=NAME, head=head, seed=seed, overrides={"epochs": epochs}, device="cpu")
    )
    say(json.dumps({"seed": seed, "run": run.name, "epochs": run.document["epochs_run"]}))


if __name__ == "__main__":
    main()
