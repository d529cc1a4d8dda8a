"""Runs heads over seeds and states means, deviations and paired differences; shared by the benchmarks here."""

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from sentifuse.fuse.config import parse_assignments
from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.train import TrainRequest, train

METRICS = ("accuracy", "f1_weighted", "f1_macro")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run_heads(
    artifacts: Path, dataset: str, heads: Sequence[str], seeds: Sequence[int], overrides: Sequence[str] = ()
) -> dict[str, list[dict[str, Any]]]:
    """Train and evaluate each head on each seed's split; the seed is that of the split and of the initial values.

    A head may be named with a preset, `itin:context_only`.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    for named in heads:
        head, _, preset = named.partition(":")
        for seed in seeds:
            started = time.monotonic()
            request = TrainRequest(
                artifacts=artifacts,
                dataset=dataset,
                head=head,
                preset=preset or "default",
                seed=seed,
                overrides=parse_assignments(overrides) if head == "itin" else None,
            )
            run = train(request)
            trained_s = time.monotonic() - started
            metrics = evaluate(run.path, split="test", artifacts=artifacts)
            kept = {name: metrics[name] for name in METRICS}
            results.setdefault(named, []).append({"seed": seed, "train_s": trained_s, "n": metrics["n"], **kept})
            say(f"{dataset} {named} seed {seed}: accuracy {kept['accuracy']:.4f}, trained in {trained_s:.1f} s")
    return results


def summarise(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    width = max(12, *map(len, results))
    lines = [f"{'head':<{width}} accuracy          weighted F1       macro F1          training s (max)"]
    for head, runs in results.items():
        cells = []
        for metric in METRICS:
            values = np.array([run[metric] for run in runs])
            cells.append(f"{values.mean():.4f} ± {values.std(ddof=1):.4f}")
        lines.append(f"{head:<{width}} {'   '.join(cells)}   {max(run['train_s'] for run in runs):.1f}")
    return lines


def paired_difference(
    results: Mapping[str, Sequence[Mapping[str, Any]]], better: str, base: str, metric: str = "accuracy"
) -> dict[str, float]:
    """Mean paired difference over the seeds with its 95 % t-interval (the seeds' splits overlap: a guide, no proof)."""
    difference = np.array([a[metric] - b[metric] for a, b in zip(results[better], results[base], strict=True)])
    half = stats.t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / math.sqrt(len(difference))
    mean = float(difference.mean())
    return {"mean": mean, "low": mean - float(half), "high": mean + float(half)}


def write(artifacts: Path, name: str, document: Mapping[str, Any]) -> None:
    folder = artifacts / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    say(f"written: {folder / name}")
