"""Training steps of every head at MVSA-Multiple's size, and CTMWA's beside the algorithm taken literally.

python bench/heads.py --threads 2                      all heads, then CTMWA
python bench/heads.py --heads ctmwa,itin --quick       a look
python bench/heads.py --precision bfloat16             trained heads with rounded products, and by turns in float32

Batches are made in memory (what reading costs is bench/cache_speed.py): 64 pairs, texts of MVSA's lengths × 768, 36
regions × 2048, one vector of 512. Each head runs in a process of its own in its default preset. Times are processor
times, the best of several rounds; ratios are of one process and one run.
"""

import argparse
import copy
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import clock
import heads_ctmwa
import numpy as np
import torch
from output import say, write

from sentifuse.fuse.config import resolve
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads import HEADS, load_head
from sentifuse.fuse.loop import build_optimiser
from sentifuse.fuse.precision import rounded_products

WIDTHS = {"tokens": 768, "context": 512, "regions": 2048, "clip": 512}
NUMBERS = {"regions.boxes_normalised": 4}
PAIRS, BATCH, CLASSES, REGIONS = 17_024, 64, 3, 36
TRAINING = int(0.8 * PAIRS)
MIB = 2.0**20
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--heads", default=",".join(HEADS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="of CTMWA's variants, and of each head's batches")
    parser.add_argument("--quick", action="store_true", help="one round, four batches, small widths of CTMWA")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of training steps")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a head, in the process of its own
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds = 1 if arguments.quick else arguments.rounds
    if arguments.one:
        sys.stdout.write(
            json.dumps(measure_head(arguments.one, rounds, arguments.precision, is_quick=arguments.quick)) + "\n"
        )
        return
    precision = arguments.precision
    document: dict[str, Any] = {"machine": clock.machine(), "threads": arguments.threads, "batch": BATCH}
    document |= {"precision": precision, "heads": {}}
    say(f"{'head':<18} precision ms/step (float32)  pairs/s  epoch s  peak MiB   forward / loss, backward / optimiser")
    for name in arguments.heads.split(","):
        if precision != "float32" and load_head(name).has_closed_fit:
            say(f"{name:<18} is solved in float64, not trained in steps")
            continue
        document["heads"][name] = row = measure_apart(name, arguments)
        split = " / ".join(f"{row['split_ms'][part]:.1f}" for part in row["split_ms"]) or f"fit {row['fit_s']:.1f} s"
        say(
            f"{name:<18} {precision:<9} {row['ms_per_step']:7.1f} {row['float32_ms_per_step']:9.1f} "
            f"{row['pairs_per_s']:8.0f} {TRAINING / row['pairs_per_s']:8.1f} {row['peak_mib']:9.0f}   {split}"
        )
    if precision == "float32":
        document["ctmwa"] = heads_ctmwa.measure(rounds, is_quick=arguments.quick)
    write(arguments.artifacts, "heads.json" if precision == "float32" else f"heads-{precision}.json", document)


def measure_apart(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """A head in a process of its own: its peak memory is then its own."""
    command = [sys.executable, __file__, "--one", name, "--threads", str(arguments.threads)]
    command += ["--precision", arguments.precision, "--rounds", str(arguments.rounds)]
    command += ["--quick"] if arguments.quick else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_head(name: str, rounds: int, precision: str, *, is_quick: bool) -> dict[str, Any]:
    head_class = load_head(name)
    config = resolve(name, head_class.Config, head_class.PRESETS, dataset="mvsa_multiple")
    requests = head_class.requests(config.head)
    source = MemorySource(requests, 4 if is_quick else 24)
    torch.manual_seed(0)
    head = head_class(config.head, source.widths, CLASSES)
    before = clock.memory_of()["VmHWM"]
    if head.has_closed_fit:
        return {**measure_fit(head, source), **memory(before)}
    heads = {"float32": copy.deepcopy(head), precision: head}  # by turns: the machine may be busier later
    optimisers = {name: build_optimiser(begin(trained, source), config.train) for name, trained in heads.items()}
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in heads}
    for _, batch, used in itertools.product(range(rounds), source.pool, heads):
        cpu, wall = time.process_time(), time.perf_counter()
        with rounded_products(used, CPU):
            heads[used].training_step(batch, optimisers[used], gradient_clip=config.train.gradient_clip)
        steps[used].append({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall})
    optimiser, best = optimisers[precision], best_of_each(steps[precision], len(source.pool))
    return {
        "ms_per_step": 1e3 * best["cpu"],
        "float32_ms_per_step": 1e3 * best_of_each(steps["float32"], len(source.pool))["cpu"],
        "wall_ms_per_step": 1e3 * best["wall"],
        "pairs_per_s": BATCH / best["wall"],
        "parameters": sum(p.numel() for p in head.parameters()),
        "split_ms": split_of(head, source.pool, optimiser, precision) if name != "ctmwa" else {},
        "fit_s": 0.0,
        **memory(before),
    }


def begin(head: Any, source: "MemorySource") -> Any:
    """The head as it is before its first step."""
    head.prepare(batch for _, batch in source.batches(BATCH))
    held_out = head.hold_out(source, 0)
    head.start_epoch(1, source.part(held_out) if len(held_out) else None)
    return head.train()


def best_of_each(steps: list[dict[str, float]], size: int) -> dict[str, float]:
    """Mean seconds of a step: the batches differ in length, so their best times are taken one by one."""
    return {
        kind: float(np.mean([min(s[kind] for s in steps[i::size]) for i in range(size)])) for kind in ("cpu", "wall")
    }


def split_of(head: Any, pool: list[Batch], optimiser: torch.optim.Optimizer, precision: str) -> dict[str, float]:
    """Where a step's processor time goes."""
    taken = {"forward": 0.0, "loss and backward": 0.0, "optimiser": 0.0}
    for batch in pool:
        marks = [time.process_time()]
        with rounded_products(precision, CPU):
            output = head(batch)
        marks.append(time.process_time())
        head.loss(output.widened(), batch).backward()
        marks.append(time.process_time())
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        marks.append(time.process_time())
        for part, (start, end) in zip(taken, itertools.pairwise(marks), strict=True):
            taken[part] += 1e3 * (end - start) / len(pool)
    return taken


def measure_fit(head: Any, source: "MemorySource") -> dict[str, Any]:
    """A head that is solved, not trained: its step is a batch's share of the whole fit."""
    cpu, wall = time.process_time(), time.perf_counter()
    head.fit(source, source)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    steps = len(source) / BATCH
    return {
        "ms_per_step": 1e3 * cpu / steps,
        "float32_ms_per_step": 1e3 * cpu / steps,
        "wall_ms_per_step": 1e3 * wall / steps,
        "pairs_per_s": len(source) / wall,
        "parameters": sum(b.numel() for b in head.buffers()),
        "split_ms": {},
        "fit_s": wall,
    }


def memory(before: int) -> dict[str, float]:
    peak = clock.memory_of()["VmHWM"]
    return {"peak_mib": peak / MIB, "above_batches_mib": (peak - before) / MIB}


class MemorySource:
    """What heads use of a `BatchSource`: a few batches, made once and given again and again."""

    def __init__(self, requests: Any, count: int) -> None:
        rng = np.random.default_rng(0)
        self.pool = [self._batch(requests, rng, place) for place in range(count)]
        self.widths = {request.key: self.pool[0].values[request.key].shape[-1] for request in requests}
        self.labels, self.text_labels, self.image_labels = (
            np.concatenate([getattr(batch, name).numpy() for batch in self.pool])
            for name in ("labels", "text_labels", "image_labels")
        )
        self.ids = tuple(id_ for batch in self.pool for id_ in batch.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def batches(self, batch_size: int) -> Any:
        for place, batch in enumerate(self.pool):
            yield np.arange(place * BATCH, (place + 1) * BATCH), batch

    def part(self, rows: Any) -> "MemorySource":
        part = object.__new__(MemorySource)
        part.pool, part.ids = self.pool[:2], tuple(self.ids[: 2 * BATCH])
        return part

    def stream(self, plan: Any) -> Any:
        yield from self.pool

    def _batch(self, requests: Any, rng: Any, place: int) -> Batch:
        # MVSA's texts: about 22 word pieces, seldom over 40; a batch holds texts of similar length.
        lengths = np.clip(rng.normal(10 + 2 * (place % 14), 2, BATCH), 3, 60).astype(int)
        values, masks = {}, {}
        for request in requests:
            width = NUMBERS.get(request.key, WIDTHS[request.encoder])
            if request.encoder == "tokens":
                masks[request.key] = torch.arange(int(lengths.max()))[None] < torch.from_numpy(lengths)[:, None]
            elif request.encoder == "regions":
                masks[request.key] = torch.ones(BATCH, min(REGIONS, request.limit or REGIONS), dtype=torch.bool)
            else:
                masks[request.key] = torch.ones(BATCH, dtype=torch.bool)
            numbers = rng.standard_normal((*masks[request.key].shape, width), dtype=np.float32)
            values[request.key] = torch.from_numpy(numbers) * masks[request.key][..., None]
        labels, text_labels, image_labels = (torch.from_numpy(rng.integers(0, CLASSES, BATCH)) for _ in range(3))
        return Batch(
            ids=tuple(f"{place}-{i}" for i in range(BATCH)),
            values=values,
            masks=masks,
            labels=labels,
            text_labels=text_labels,
            image_labels=image_labels,
        )


if __name__ == "__main__":
    main()
