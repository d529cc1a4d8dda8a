"""Prints what regions_speed.py measured."""

import sys
from collections.abc import Mapping
from typing import Any

from regions_stages import STAGES


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say_tables(document: Mapping[str, Any]) -> None:
    """All of it."""
    for part in (_speed, _stages, _cost, _proposals, _processes, _cuda):
        say("")
        for line in part(document):
            say(line)


def _speed(document: Mapping[str, Any]) -> list[str]:
    lines = ["             images/s   CPU s  wall s   × naive (CPU)  × naive (wall)   peak GiB"]
    memory = document["peak_bytes"]
    for name, f in document["speed"].items():
        lines.append(
            f"{name:<10} {f['images_per_s']:>10.3f} {f['cpu_s']:>7.2f} {f['wall_s']:>7.2f} {f['ratio_cpu_s']:>15.2f} "
            f"{f['ratio_wall_s']:>15.2f} {memory[name] / 2**30:>10.2f}"
        )
    lines += [f"{name} equals {other} on this CPU" for name, other in document["equals"].items()]
    return lines


def _stages(document: Mapping[str, Any]) -> list[str]:
    names = list(document["stages"])
    lines = ["CPU s an image  " + "".join(f"{name:>12}" for name in names)]
    for stage in STAGES:
        cells = [document["stages"][name].get(stage, {}).get("cpu_s") for name in names]
        lines.append(f"{stage:<16}" + "".join(f"{'-' if cell is None else f'{cell:.4f}':>12}" for cell in cells))
    return lines


def _cost(document: Mapping[str, Any]) -> list[str]:
    cost, peaks = document["cost"], document["peak_gflops_per_core"]
    shown = ", ".join(f"{dtype} {rate:.0f}" for dtype, rate in peaks.items())
    lines = [
        f"peak of one core, measured with matrices: {shown} GFLOP/s",
        "GFLOP by definition (as done: shared windows, shorter 3x3): "
        + ", ".join(
            f"{stage} {flop / 1e9:.0f} ({cost['done_flop'][stage] / 1e9:.0f})"
            for stage, flop in cost["nominal_flop"].items()
            if stage != "early"
        ),
        "GFLOP/s of one core  by definition  as done  of the peak of its dtypes",
    ]
    for name, by_stage in cost["gflops_per_core"].items():
        for stage, rates in by_stage.items():
            share = cost["share_of_peak"][name][stage]
            lines.append(f"{name + ' ' + stage:<20} {rates['nominal']:>14.0f} {rates['done']:>8.0f} {share:>23.0%}")
    return lines


def _proposals(document: Mapping[str, Any]) -> list[str]:
    lines = ["proposals                 CPU s   wall s   of the 36 regions of 300 found again"]
    for name, by_count in document["proposals"].items():
        for count, f in by_count.items():
            lines.append(f"{name:<10} {count:>9} {f['cpu_s']:>10.2f} {f['wall_s']:>8.2f} {f['regions_kept']:>10.0%}")
    return lines


def _processes(document: Mapping[str, Any]) -> list[str]:
    return [
        f"two processes of one thread beside one, {name}: {found['ratio']:.2f} times the images"
        for name, found in document["processes"].items()
    ]


def _cuda(document: Mapping[str, Any]) -> list[str]:
    cuda = document["cuda"]
    if "skipped" in cuda:
        return [f"CUDA: skipped, {cuda['skipped']}"]
    lines = [f"{cuda['device']}: images/s from {cuda['files']} files, CPU ms and device ms an image by stage"]
    for name, f in cuda["precisions"].items():
        split = ", ".join(f"{stage} {1e3 * taken['wall_s']:.2f}" for stage, taken in f["stages"].items())
        memory = f"{f['peak_bytes'] / 2**30:.1f} GiB" if f["peak_bytes"] else "memory not known"
        busy = f"busy {f['gpu_busy_percent']:.0f} %" if "gpu_busy_percent" in f else "use not known"
        lines.append(
            f"{name:<8} {f['images_per_s']:>8.1f} images/s, CPU {1e3 * f['cpu_s']:.1f}; {split}; {busy}, {memory}"
        )
    lines.append("peaks, GFLOP/s: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in cuda["peak_gflops"].items()))
    return lines
