"""Where the time of one image goes: each stage of the detector and of the naive variant, by clock and by processor."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from regions_naive import NaiveDetector

from sentifuse.cache.featureset import create_feature_set
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter
from sentifuse.data.images import read_image
from sentifuse.extract.detector.arithmetic import float32_only
from sentifuse.extract.detector.detector import Detector
from sentifuse.extract.detector.fast import FastNetwork
from sentifuse.extract.detector.pooling import find_windows, pool_windows
from sentifuse.extract.detector.predictions import predict_classes
from sentifuse.extract.detector.preprocess import to_tensor
from sentifuse.extract.detector.proposals import Proposals
from sentifuse.extract.detector.regions import Regions

STAGES = ("decode", "resize", "backbone", "RPN", "RoI pool", "res5", "predictors", "selection", "write")


@dataclass(slots=True)
class Laps:
    """Seconds of each stage in each of several passes."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    cpu_s: dict[str, list[float]] = field(default_factory=dict)
    wall_s: dict[str, list[float]] = field(default_factory=dict)
    _cpu: float = 0.0
    _wall: float = 0.0

    def begin(self) -> None:
        """Before the first stage of a pass."""
        self._cpu, self._wall = self._now()

    def lap(self, name: str) -> None:
        """A stage has ended."""
        cpu, wall = self._now()
        self.cpu_s.setdefault(name, []).append(cpu - self._cpu)
        self.wall_s.setdefault(name, []).append(wall - self._wall)
        self._cpu, self._wall = self._now()

    def medians(self) -> dict[str, dict[str, float]]:
        """{stage: {"cpu_s", "wall_s"}}; the first pass, in which libraries prepare themselves, does not count."""
        return {
            name: {
                "cpu_s": statistics.median(self.cpu_s[name][1:]),
                "wall_s": statistics.median(self.wall_s[name][1:]),
            }
            for name in self.cpu_s
        }

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time(), time.perf_counter()


def pass_of_naive(naive: NaiveDetector, picture: Path) -> Callable[[Laps], None]:
    """A call that runs one image."""

    def run(laps: Laps) -> None:
        laps.begin()
        naive.detect(picture, laps.lap)

    return run


def pass_of_ours(detector: Detector, picture: Path) -> Callable[[Laps], None]:
    """The same of ours, one image alone. Pooling is part of `features`: here it is done once more, for its time."""
    stages = detector.stages

    def run(laps: Laps) -> None:
        laps.begin()
        image = read_image(picture)
        laps.lap("decode")
        prepared = detector.prepare(image)
        laps.lap("resize")
        res4 = stages.backbone(to_tensor(prepared, device=stages.device, dtype=stages.dtype))["res4"]
        laps.lap("backbone")
        proposals = Proposals.choose(
            *stages.proposal_head(res4), stages.cell_anchors, prepared.net_hw, count=detector.selection.proposals
        )
        laps.lap("RPN")
        _pool(stages, res4, proposals.boxes)
        laps.lap("RoI pool")
        features = stages.features(res4, proposals.boxes)
        laps.lap("features")
        classes = predict_classes(stages, features)
        laps.lap("predictors")
        detector.select(proposals, features, classes, prepared)
        laps.lap("selection")

    return lambda laps: _without_gradients(run, laps, stages)


def split_features(medians: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """`features` without the pooling in it is the last stage."""
    found = dict(medians)
    if "features" in found:
        whole, pool = found.pop("features"), found["RoI pool"]
        found["res5"] = {kind: max(whole[kind] - pool[kind], 1e-6) for kind in whole}
    return {name: found[name] for name in STAGES if name in found}


def _pool(stages: Any, res4: torch.Tensor, boxes: torch.Tensor) -> None:
    if isinstance(stages, FastNetwork):  # every different window once
        cells = res4[0].permute(1, 2, 0).float().contiguous()
        pool_windows(cells, find_windows(boxes, *cells.shape[:2]).edges)
    else:
        stages.pooled(res4, boxes)


def _without_gradients(run: Callable[[Laps], None], laps: Laps, stages: Any) -> None:
    with torch.inference_mode(), float32_only(stages):
        run(laps)


def write_s(folder: Path, regions: Regions, *, images: int = 32) -> dict[str, float]:
    """Seconds an image to write its regions into a shard, checked and synced."""
    fields = [
        Field(name="features", dtype="float32", shape=regions.features.shape[1:], is_ragged=True),
        Field(name="boxes", dtype="float32", shape=(4,), is_ragged=True),
        Field(name="object_ids", dtype="int32", shape=(), is_ragged=True),
        Field(name="object_scores", dtype="float32", shape=(), is_ragged=True),
    ]
    feature_set = create_feature_set(folder, encoder="regions", recipe={"bench": "regions"}, fields=fields)
    values = {
        "features": regions.features,
        "boxes": regions.boxes,
        "object_ids": regions.class_ids.astype("int32"),
        "object_scores": regions.class_scores,
    }
    rows = [Row(id=str(i), digest="ab" * 32, status="ok", values=values, batch=i) for i in range(images)]
    cpu, wall = time.process_time(), time.perf_counter()
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, rows))
    return {"cpu_s": (time.process_time() - cpu) / images, "wall_s": (time.perf_counter() - wall) / images}
