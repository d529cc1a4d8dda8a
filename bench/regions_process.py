"""One process with one detector, asked line by line: peak memory from a fresh start, and images while others work too.

python regions_process.py WEIGHTS PICTURE ARITHMETIC THREADS [--miniature]

Says what it knows as one JSON object for every line it reads, until there is none. Knows nothing of what is done with
the figures; `Worker` is the other end.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any


class Worker:
    """The other end: a process that has loaded its detector; a context manager."""

    def __init__(self, weights: Path, picture: Path, arithmetic: str, *, threads: int, is_miniature: bool) -> None:
        command = [sys.executable, __file__, str(weights), str(picture), arithmetic, str(threads)]
        command += ["--miniature"] if is_miniature else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.loaded = self.answer()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.communicate()

    def ask(self, images: int) -> None:
        """Let it look at the picture so many times."""
        self.process.stdin.write(f"{images}\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it said next."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a process of the benchmark ended without an answer; what it said is above")
        found: dict[str, Any] = json.loads(line)
        return found


def main(weights: str, picture: str, arithmetic: str, threads: str, *flags: str) -> None:
    import torch

    torch.set_num_threads(int(threads))
    detect = build(Path(weights), Path(picture), arithmetic, is_miniature="--miniature" in flags)
    say({"peak_bytes": peak_bytes()})
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(int(line)):
            detect()
        taken = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        say({**taken, "images": int(line), "peak_bytes": peak_bytes()})


def build(weights: Path, picture: Path, arithmetic: str, *, is_miniature: bool) -> Any:
    """A call that looks at the picture once."""
    import regions_miniature

    from sentifuse.data.images import read_image
    from sentifuse.extract.detector.checkpoints.weights import read_weights
    from sentifuse.extract.detector.detector import Detector

    read = read_weights(weights, regions_miniature.sizes(is_miniature=is_miniature))
    if arithmetic == "naive":
        from regions_naive import NaiveDetector

        naive = NaiveDetector(read.state, read.sizes)
        return lambda: naive.detect(picture)
    detector = Detector(read.state, sizes=read.sizes, arithmetic=arithmetic)
    del read
    return lambda: detector.detect([detector.prepare(read_image(picture))])


def peak_bytes() -> int:
    """Of this process alone: what `getrusage` says begins with the peak of the process that started it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:  # not Linux
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def say(found: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def memory(
    weights: Path, picture: Path, arithmetics: Sequence[str], *, threads: int, is_miniature: bool
) -> dict[str, int]:
    """Peak bytes of a process that imports everything, reads the weights and looks at a picture twice."""
    found = {}
    for arithmetic in arithmetics:
        with Worker(weights, picture, arithmetic, threads=threads, is_miniature=is_miniature) as worker:
            worker.ask(2)
            found[arithmetic] = worker.answer()["peak_bytes"]
    return found


def two_beside_one(
    weights: Path, picture: Path, arithmetic: str, *, repeats: int, images: int, is_miniature: bool
) -> dict[str, Any]:
    """Images/s of one process with one thread, and of two at once, in turns."""
    alone, together = [], []
    with (
        Worker(weights, picture, arithmetic, threads=1, is_miniature=is_miniature) as first,
        Worker(weights, picture, arithmetic, threads=1, is_miniature=is_miniature) as second,
    ):
        for worker in (first, second):
            worker.ask(1)  # what a library does only once
            worker.answer()
        for _ in range(repeats):
            first.ask(images)
            alone.append(images / first.answer()["wall_s"])
            for worker in (first, second):
                worker.ask(images)
            together.append(sum(images / worker.answer()["wall_s"] for worker in (first, second)))
    return {"one": alone, "two": together, "ratio": sorted(together)[repeats // 2] / sorted(alone)[repeats // 2]}


if __name__ == "__main__":
    main(*sys.argv[1:])
