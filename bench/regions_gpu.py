"""The same on a CUDA device: images/s from JPEG files, where the time goes, what the device could do, its memory."""

import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import regions_cost
import torch
from regions_stages import Laps
from regions_tables import say

from sentifuse.data.images import read_image
from sentifuse.extract.detector.arithmetic import float32_only
from sentifuse.extract.detector.batched import BatchedNetwork
from sentifuse.extract.detector.checkpoints.weights import Weights
from sentifuse.extract.detector.detector import Detector
from sentifuse.extract.detector.predictions import predict_boxes, predict_classes
from sentifuse.extract.detector.preprocess import PreparedImage, to_tensor
from sentifuse.extract.detector.proposals import ProposalsTogether
from sentifuse.extract.detector.selection_together import select_fixed_together
from sentifuse.extract.lanes import core_count
from sentifuse.extract.precision import PRECISIONS

BATCH = 32
MOST_PHOTOS = 2000
SIDE = 8192  # of the matrices that a peak is measured with


def measure(
    weights: Weights, picture: Path, photos: Path | None, *, repeats: int, is_miniature: bool
) -> dict[str, Any]:
    """All of it, or why not; a miniature shows on a CPU that it would run."""
    if is_miniature:
        detector = Detector(weights.state, sizes=weights.sizes)
        detector.stages = BatchedNetwork(weights.state, weights.sizes, device=torch.device("cpu"))
        return measure_with({"exact": detector}, weights, picture, photos, repeats=repeats, batch=3)
    if not torch.cuda.is_available():
        say("CUDA: skipped, there is no such device on this machine")
        return {"skipped": "no CUDA device on this machine"}
    detectors = {
        name: Detector(weights.state, sizes=weights.sizes, device="cuda", arithmetic=name) for name in PRECISIONS
    }
    return measure_with(detectors, weights, picture, photos, repeats=repeats)


def measure_with(
    detectors: Mapping[str, Detector],
    weights: Weights,
    picture: Path,
    photos: Path | None,
    *,
    repeats: int,
    batch: int = BATCH,
) -> dict[str, Any]:
    """The same with given detectors, whose networks are `BatchedNetwork`."""
    device = next(iter(detectors.values())).stages.device
    files = sorted(photos.glob("*.jpg"))[:MOST_PHOTOS] if photos else [picture] * (repeats * batch)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "files": len(files),
        "peak_gflops": peaks(device, repeats=repeats),
        "precisions": {},
    }
    for name, detector in detectors.items():
        rate(detector, files[:batch], batch)  # libraries prepare themselves
        _reset_peak(device)
        found["precisions"][name] = {
            **rate(detector, files, batch),
            "peak_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
            "stages": stages(detector, detector.prepare(read_image(picture)), repeats, batch),
        }
    prepared = detector.prepare(read_image(picture))
    found["nominal_flop"] = regions_cost.nominal(weights.sizes, prepared.net_hw, detector.selection.proposals)
    return found


def rate(detector: Detector, files: Sequence[Path], batch: int) -> dict[str, float]:
    """Images/s from files to regions, read and resized by as many threads as there are cores, ahead of the device."""
    with _Watch(detector.stages.device) as watch:
        cpu, started = time.process_time(), time.perf_counter()
        regions = sum(len(found) for some in _batches(detector, files, batch) for found in detector.detect(some))
        wall = time.perf_counter() - started
    return {
        "images_per_s": len(files) / wall,
        "cpu_s": (time.process_time() - cpu) / len(files),
        "regions_per_image": regions / len(files),
        **watch.found(),
    }


def stages(detector: Detector, prepared: PreparedImage, repeats: int, batch: int) -> dict[str, dict[str, float]]:
    """Seconds an image of each stage in a batch, waiting for the device behind each."""
    network = detector.stages
    assert isinstance(network, BatchedNetwork)
    laps = Laps(device=network.device)
    with torch.inference_mode(), float32_only(network):
        pixels = torch.cat([to_tensor(prepared, device=network.device, dtype=network.dtype)] * batch)
        for _ in range(repeats + 1):
            laps.begin()
            maps = network.res4(pixels)
            laps.lap("backbone")
            found = ProposalsTogether.choose(
                *network.proposal_head(maps), network.cell_anchors, prepared.net_hw, count=detector.selection.proposals
            )
            laps.lap("RPN")
            features = network.features_together([maps], [found.boxes])
            laps.lap("RoI pool and res5")
            classes = predict_classes(network, features)
            boxes = found.boxes.flatten(0, 1)
            moved = predict_boxes(network, features, classes.ids, boxes, prepared.net_hw)
            laps.lap("predictors")
            shape = found.boxes.shape[:2]
            scores = classes.scores.view(shape)
            select_fixed_together(moved.view(*shape, 4), scores, found.is_real, count=detector.selection.count)
            laps.lap("selection")
    return {name: {kind: taken[kind] / batch for kind in taken} for name, taken in laps.medians().items()}


def peaks(device: torch.device, *, repeats: int) -> dict[str, float]:
    """GFLOP/s in a product of square matrices, by arithmetic."""
    side = SIDE if device.type == "cuda" else 128
    before = torch.backends.cuda.matmul.allow_tf32
    found: dict[str, float] = {}
    try:
        for name, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("float16", torch.float16)):
            torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
            one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            laps = Laps(device=device)
            for _ in range(repeats + 1):
                laps.begin()
                one @ other
                laps.lap(name)
            found[name] = 2 * side**3 / laps.medians()[name]["wall_s"] / 1e9
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return found


class _Watch:
    """How busy a GPU is meanwhile, asked five times a second; says nothing where nobody can be asked."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._seen = device, []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        self._thread.join()

    def found(self) -> dict[str, float]:
        return {"gpu_busy_percent": statistics.mean(self._seen)} if self._seen else {}

    def _look(self) -> None:
        while not self._is_over.wait(0.2):
            try:
                self._seen.append(torch.cuda.utilization(self._device))
            except (ModuleNotFoundError, RuntimeError, AssertionError):  # no pynvml, no driver, no such device
                return


def _batches(detector: Detector, files: Sequence[Path], batch: int) -> Iterator[list[PreparedImage]]:
    """Prepared images, three batches ahead."""
    flying: deque[Future[PreparedImage]] = deque()
    source = iter(files)
    with ThreadPoolExecutor(core_count()) as loaders:
        while True:
            for file in source:
                flying.append(loaders.submit(lambda file=file: detector.prepare(read_image(file))))
                if len(flying) >= 3 * batch:
                    break
            if not flying:
                return
            yield [flying.popleft().result() for _ in range(min(batch, len(flying)))]


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
