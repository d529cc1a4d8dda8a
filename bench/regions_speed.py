"""How fast regions are found, at each precision, beside the detector as it is usually written; and where time goes.

python bench/regions_speed.py [--repeats 3] [--images FILE ...] [--weights FILE] [--photos FOLDER] [--quick]

Prints tables, writes artifacts/bench/regions.json and regions.png. Medians of interleaved repeats; seconds of the
processor are the steadier figure, and ratios are by them. On a CPU, and where there is a CUDA device on that too.
Nothing passes or fails here, but a naive variant that finds other regions would not be worth a comparison.
"""

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import clock
import numpy as np
import regions_cost
import regions_gpu
import regions_miniature
import regions_picture
import regions_process
import torch
from PIL import Image
from regions_naive import NaiveDetector
from regions_stages import Laps, pass_of_naive, pass_of_ours, split_features, write_s
from regions_tables import say, say_tables

from sentifuse.data.images import read_image
from sentifuse.extract.detector.checkpoints.weights import Weights, read_weights
from sentifuse.extract.detector.detector import Detector
from sentifuse.extract.detector.pooling import find_windows
from sentifuse.extract.detector.precision import arithmetic_of, choose_arithmetic
from sentifuse.extract.detector.preprocess import PreparedImage, to_tensor
from sentifuse.extract.detector.proposals import Proposals
from sentifuse.extract.detector.settings import SelectionSettings
from sentifuse.extract.lanes import core_count
from sentifuse.extract.precision import PRECISIONS, cpu_flags

PICTURE = Path(__file__).resolve().parents[1] / "tests" / "golden" / "frcnn" / "img_0_400x300.png"
PROPOSALS = (100, 150, 300)
RULE = SelectionSettings(mode="caffe36")  # the one with an NMS for each class
Detectors = dict[str, Detector]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--repeats", type=int, default=3, help="of everything that is timed; one more comes before")
    parser.add_argument("--images", type=Path, nargs="+", help="pictures; default: one of 400x300")
    parser.add_argument("--weights", type=Path, help="of the detector; default: synthetic ones, equally fast")
    parser.add_argument("--photos", type=Path, help="folder of JPEG files for the rate of a GPU, 2,000 of them at most")
    parser.add_argument("--threads", type=int, default=core_count(), help="of a process that has the CPU for itself")
    parser.add_argument("--quick", action="store_true", help="a miniature, one repeat: does it still run?")
    arguments = parser.parse_args()
    results = arguments.artifacts / "bench"
    folder = results / "regions"
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    try:
        document = run(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    (results / "regions.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    regions_picture.draw(document, results / "regions.png")
    say_tables(document)
    say(f"written: {results / 'regions.json'}, {results / 'regions.png'}")


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All parts, as one JSON object."""
    repeats = 1 if arguments.quick else arguments.repeats
    pictures = arguments.images or [_jpeg(PICTURE, folder, is_strip=arguments.quick)]
    file = arguments.weights or folder / "weights.safetensors"
    if not arguments.weights:
        regions_miniature.write_weights(file, is_miniature=arguments.quick)
    weights = read_weights(file, regions_miniature.sizes(is_miniature=arguments.quick))
    chosen = {name: choose_arithmetic(name, device="cpu") for name in PRECISIONS}
    distinct = {precision.dtype: name for name, precision in reversed(chosen.items())}  # the first of equals
    document: dict[str, Any] = {
        "machine": clock.machine() | {"flags": sorted(flag for flag in cpu_flags() if flag.startswith(("avx", "amx")))},
        "threads": arguments.threads,
        "repeats": repeats,
        "quick": arguments.quick,
        "pictures": [str(picture.name) for picture in pictures],
        "precisions": {name: {"dtype": one.dtype, "note": one.note} for name, one in chosen.items()},
        "equals": {name: distinct[one.dtype] for name, one in chosen.items() if distinct[one.dtype] != name},
    }
    say(f"machine: {document['machine']}; {arguments.threads} threads")
    document["peak_gflops_per_core"] = regions_cost.peaks(side=256 if arguments.quick else regions_cost.SIDE)
    detectors: Detectors = {
        name: Detector(weights.state, sizes=weights.sizes, arithmetic=arithmetic_of(chosen[name].dtype), selection=RULE)
        for name in chosen
        if name not in document["equals"]
    }
    naive = NaiveDetector(weights.state, weights.sizes)
    least = 0.5 if arguments.quick else 0.9  # a miniature has many near ties
    document["check"] = check(naive, detectors["exact"], pictures[0], least=least)
    document["speed"] = speed(naive, detectors, pictures, repeats)
    document["stages"] = stages(naive, detectors, pictures[0], repeats, folder)
    document["cost"] = cost(detectors, weights, pictures[0], document)
    document["proposals"] = by_proposals(detectors, pictures[0], repeats)
    options = {"is_miniature": arguments.quick}
    say("peak memory, in fresh processes …")
    document["peak_bytes"] = regions_process.memory(
        file, pictures[0], ["naive", *map(_arithmetic(chosen), detectors)], threads=arguments.threads, **options
    )
    say("two processes beside one …")
    document["processes"] = {
        name: regions_process.two_beside_one(
            file, pictures[0], _arithmetic(chosen)(name), repeats=repeats, images=1, **options
        )
        for name in (["exact"] if arguments.quick else detectors)
    }
    document["cuda"] = regions_gpu.measure(
        weights, pictures[0], arguments.photos, repeats=repeats, is_miniature=arguments.quick
    )
    return document


def check(naive: NaiveDetector, exact: Detector, picture: Path, *, least: float) -> dict[str, float]:
    """How many regions the naive variant finds too, and their largest differences; too few end the program."""
    theirs = naive.detect(picture)
    ours = exact.detect([exact.prepare(read_image(picture))])[0]
    names = [list(zip(found.anchors.tolist(), found.class_ids.tolist(), strict=True)) for found in (ours, theirs)]
    pairs = [(row, names[1].index(name)) for row, name in enumerate(names[0]) if name in names[1]]
    if len(pairs) < least * len(ours):
        raise SystemExit(f"{picture}: naive finds {len(pairs)} of {len(ours)} regions; there is nothing to compare")
    rows, others = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    found = {
        "regions": len(ours),
        "same": len(pairs),
        "features": float(np.abs(ours.features[rows] - theirs.features.numpy()[others]).max(initial=0)),
        "boxes_px": float(np.abs(ours.boxes[rows] - theirs.boxes.numpy()[others]).max(initial=0)),
    }
    say(
        f"naive finds {len(pairs)} of {len(ours)} regions too; their features differ by {found['features']:.1e} at most"
    )
    return found


def speed(
    naive: NaiveDetector, detectors: Detectors, pictures: Sequence[Path], repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds an image from file to regions; the median over repeats of the mean over pictures."""
    calls: dict[str, Callable[[], Any]] = {"naive": lambda: [naive.detect(picture) for picture in pictures]}
    for name, detector in detectors.items():
        calls[name] = lambda detector=detector: [
            detector.detect([detector.prepare(read_image(picture))]) for picture in pictures
        ]
    taken = interleaved(calls, repeats)
    found = {}
    for name, runs in taken.items():
        cpu, wall = (statistics.median(run[kind] for run in runs) / len(pictures) for kind in ("cpu_s", "wall_s"))
        found[name] = {"cpu_s": cpu, "wall_s": wall, "images_per_s": 1 / wall}
    for name in found:
        for kind in ("cpu_s", "wall_s"):
            found[name][f"ratio_{kind}"] = found["naive"][kind] / found[name][kind]
    return found


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[dict[str, float]]]:
    """What each call took in each repeat, all calls in turn; a first turn is not counted."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            run = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
            if repeat:
                taken[name].append(run)
    return taken


def stages(
    naive: NaiveDetector, detectors: Detectors, picture: Path, repeats: int, folder: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """{variant: {stage: {"cpu_s", "wall_s"}}}."""
    passes = {"naive": pass_of_naive(naive, picture)}
    passes |= {name: pass_of_ours(detector, picture) for name, detector in detectors.items()}
    laps = {name: Laps() for name in passes}
    for _ in range(repeats + 1):
        for name, run_once in passes.items():
            run_once(laps[name])
    found = {name: split_features(lap.medians()) for name, lap in laps.items()}
    regions = detectors["exact"].detect([detectors["exact"].prepare(read_image(picture))])[0]
    for name in detectors:
        found[name]["write"] = write_s(folder / "written", regions)
    return found


def cost(detectors: Detectors, weights: Weights, picture: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """FLOP of each stage by definition and as done, and GFLOP/s reached for each precision, one core's worth."""
    exact = detectors["exact"]
    prepared = exact.prepare(read_image(picture))
    proposals, windows = _windows(exact, prepared)
    nominal = regions_cost.nominal(weights.sizes, prepared.net_hw, proposals)
    done = regions_cost.done(weights.sizes, prepared.net_hw, proposals, windows)
    found: dict[str, Any] = {"net_hw": prepared.net_hw, "proposals": proposals, "windows": windows}
    found |= {"nominal_flop": nominal, "done_flop": done, "gflops_per_core": {}, "share_of_peak": {}}
    for name, measured in document["stages"].items():
        spent = nominal if name == "naive" else done
        seconds = {stage: measured[stage]["cpu_s"] for stage in ("backbone", "RPN", "res5", "predictors")}
        dtypes = regions_cost.dtypes_of(detectors[name].stages if name in detectors else None)
        found["gflops_per_core"][name] = {
            stage: {"nominal": nominal[stage] / taken / 1e9, "done": spent[stage] / taken / 1e9}
            for stage, taken in seconds.items()
        }
        peaks = document["peak_gflops_per_core"]
        found["share_of_peak"][name] = {
            stage: regions_cost.ideal_s(stage, spent, dtypes, peaks) / taken for stage, taken in seconds.items()
        }
    return found


def by_proposals(detectors: Detectors, picture: Path, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Time with fewer proposals, and how many of the regions found with 300 are found again."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, detector in detectors.items():
        prepared = detector.prepare(read_image(picture))
        anchors: dict[int, set[int]] = {}

        def look(count: int, detector: Detector = detector, prepared: PreparedImage = prepared) -> set[int]:
            detector.selection = SelectionSettings(proposals=count)
            return set(detector.detect([prepared])[0].anchors.tolist())

        taken = interleaved({str(count): lambda count=count: look(count) for count in PROPOSALS}, repeats)
        anchors = {count: look(count) for count in PROPOSALS}
        detector.selection = RULE
        found[name] = {
            str(count): {
                "cpu_s": statistics.median(run["cpu_s"] for run in taken[str(count)]),
                "wall_s": statistics.median(run["wall_s"] for run in taken[str(count)]),
                "regions_kept": len(anchors[count] & anchors[PROPOSALS[-1]]) / max(len(anchors[PROPOSALS[-1]]), 1),
            }
            for count in PROPOSALS
        }
    return found


@torch.inference_mode()
def _windows(detector: Detector, prepared: PreparedImage) -> tuple[int, int]:
    """How many proposals the picture has, and how many different windows their bins are."""
    net = detector.stages
    res4 = net.backbone(to_tensor(prepared, device=net.device, dtype=net.dtype))["res4"]
    proposals = Proposals.choose(*net.proposal_head(res4), net.cell_anchors, prepared.net_hw)
    return len(proposals.boxes), len(find_windows(proposals.boxes, *res4.shape[2:]).edges)


def _arithmetic(chosen: Mapping[str, Any]) -> Callable[[str], str]:
    return lambda name: arithmetic_of(chosen[name].dtype)


def _jpeg(picture: Path, folder: Path, *, is_strip: bool) -> Path:
    """The picture as people have theirs, or a strip of it, which is small to the network too."""
    made = folder / f"{picture.stem}.jpg"
    with Image.open(picture) as image:
        shown = image.crop((0, 100, image.width, 130)) if is_strip else image
        shown.convert("RGB").save(made, quality=90)
    return made


if __name__ == "__main__":
    main()
