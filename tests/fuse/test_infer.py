"""A head's answers and statistics: in the source's order, averaged over the pairs that have them, kept with the run."""

import csv
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse.fuse.config import resolve
from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.features.batches import BatchSource
from sentifuse.fuse.features.samples import open_features
from sentifuse.fuse.heads import load_head
from sentifuse.fuse.heads.head import Head
from sentifuse.fuse.infer import Inference, infer, infer_logits
from sentifuse.fuse.train import TrainRequest, train

CPU = torch.device("cpu")
ITIN = ("gate", "gate_saturated", "alignment_peak")


def head_and_source(world: Any, name: str) -> tuple[Head, BatchSource]:
    head_class = load_head(name)
    config = resolve(name, head_class.Config, head_class.PRESETS).head
    requests = head_class.requests(config)
    readers = open_features(world.artifacts, world.name, requests)
    source = BatchSource(readers, requests, readers["tokens"].ids[:40], reuse=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return head_class(config, source.widths, 3), source


def test_statistics_are_in_the_order_of_the_source_whatever_the_batches(world: Any) -> None:
    head, source = head_and_source(world, "itin")
    together, apart = (infer(head, source, device=CPU, batch_size=n) for n in (64, 7))
    assert head.training
    assert tuple(together.statistics) == ITIN
    np.testing.assert_array_equal(infer_logits(head, source, device=CPU), infer(head, source, device=CPU).logits)
    for name, values in together.statistics.items():
        assert values.shape == (40,)
        np.testing.assert_allclose(apart.statistics[name], values, atol=1e-6)
    head.eval()
    with torch.no_grad():
        batch = source.gather([5])
        alone = head.statistics(head(batch), batch)
    assert together.statistics["gate"][5] == pytest.approx(alone["gate"].item(), abs=1e-6)


def test_mean_is_over_the_pairs_that_have_the_number() -> None:
    found = Inference(
        logits=np.zeros((3, 2)),
        statistics={"gate": np.array([0.2, np.nan, 0.6]), "never": np.full(3, np.nan)},
    )
    assert found.means()["gate"] == pytest.approx(0.4)
    assert math.isnan(found.means()["never"])
    assert found.to_metrics() == {"statistics": {"gate": pytest.approx(0.4), "never": None}}
    assert Inference(logits=np.zeros((3, 2)), statistics={}).to_metrics() == {}


def test_statistics_stand_in_the_history_and_in_the_metrics(make_world: Callable[..., Any]) -> None:
    world = make_world()
    request = TrainRequest(artifacts=world.artifacts, dataset=world.name, head="itin", overrides={"epochs": 2})
    run = train(request)
    with (run.path / "history.csv").open(encoding="utf-8", newline="") as file:
        history = list(csv.DictReader(file))
    best = history[run.document["best"]["epoch"] - 1]
    metrics = json.loads((run.path / "metrics-val.json").read_text(encoding="utf-8"))
    assert tuple(metrics["statistics"]) == ITIN
    for name, mean in metrics["statistics"].items():
        assert float(best[f"val_{name}"]) == pytest.approx(mean, abs=1e-6)
    assert 0 < evaluate(run)["statistics"]["gate"] < 1


def test_a_head_without_statistics_adds_nothing(make_world: Callable[..., Any]) -> None:
    world = make_world()
    request = TrainRequest(artifacts=world.artifacts, dataset=world.name, head="text_only", overrides={"epochs": 1})
    run = train(request)
    assert "statistics" not in json.loads((run.path / "metrics-val.json").read_text(encoding="utf-8"))
    assert "val_gate" not in (run.path / "history.csv").read_text(encoding="utf-8")
