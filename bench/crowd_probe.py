"""Seconds and memory of a probe's training on cached embeddings, as the embeddings grow in number.

python bench/crowd_probe.py [--images 100000] [--width 1280] [--quick]

Synthetic vectors around three means, labels of which 30 % are wrong; each size in a process of its own, the first pass
with a page cache that the writing has filled. Writes artifacts/bench/crowd_probe.json. Nothing passes or fails here.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import clock
import numpy as np
import torch
from output import say, write

from sentifuse.cache.featureset import create_feature_set, open_feature_set
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter
from sentifuse.crowd.students.embeddings import CachedEmbeddings
from sentifuse.crowd.students.probe import train_probe
from sentifuse.crowd.students.probe_recipe import resolve_recipe
from sentifuse.crowd.targets import Targets

SHARD_ROWS = 1024
NOISE, SIGNAL = 0.3, 0.12
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--quick", action="store_true", help="2,000 images of width 64: does it still run?")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.images, arguments.width = 2000, 64
    if arguments.inside is not None:
        say(json.dumps(train(arguments.inside, arguments.images)))
        return
    rows = []
    for images in (arguments.images // 4, arguments.images):
        with tempfile.TemporaryDirectory(dir=_made(arguments.artifacts / "bench")) as name:
            store = write_store(Path(name), images, arguments.width)
            rows.append(in_a_process(store, images))
        row = rows[-1]
        say(
            f"{images:>8,} images of width {arguments.width}: {row['seconds']:.1f} s, {row['epochs']} passes, "
            f"{row['images_per_s']:,.0f} images/s, own memory {row['own_mib']:.0f} MiB, "
            f"macro-F1 {row['val_macro_f1']:.3f} against labels with {NOISE:.0%} noise"
        )
    write(arguments.artifacts, "crowd_probe.json", {"machine": clock.machine(), "sizes": rows})


def write_store(folder: Path, images: int, width: int) -> Path:
    """A feature set of `context`, shard by shard."""
    field = Field(name="vector", dtype="float32", shape=(width,))
    made = create_feature_set(folder, encoder="context", recipe={"made": "bench"}, fields=(field,))
    rng = np.random.default_rng(0)
    means = (SIGNAL * rng.normal(size=(3, width))).astype(np.float32)
    with FeatureWriter(made) as writer:
        for number, start in enumerate(range(0, images, SHARD_ROWS)):
            places = np.arange(start, min(start + SHARD_ROWS, images))
            values = rng.standard_normal((len(places), width), dtype=np.float32) + means[places % 3]
            rows = [
                Row(id=f"{i}-1", digest="", status="ok", values={"vector": value})
                for i, value in zip(places.tolist(), values, strict=True)
            ]
            writer.commit(writer.stage(number, rows))
    return made.directory


def in_a_process(store: Path, images: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--inside", str(store), "--images", str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def train(store: Path, images: int) -> dict[str, Any]:
    """The default recipe on nine tenths of the images, from opening the store to the temperature."""
    rng = np.random.default_rng(1)
    truth = np.arange(images) % 3
    labels = np.where(rng.random(images) < NOISE, (truth + rng.integers(1, 3, images)) % 3, truth)
    order = rng.permutation(images)
    recipe = resolve_recipe()
    before = clock.memory_of()["RssAnon"]
    started = time.perf_counter()
    embeddings = CachedEmbeddings(FeatureReader(open_feature_set(store)), "vector", [f"{i}-1" for i in range(images)])
    probe = train_probe(
        embeddings, Targets(classes=labels), recipe, train_rows=order[images // 10 :], val_rows=order[: images // 10]
    )
    seconds = time.perf_counter() - started
    passes = len(probe.history)
    return {
        "images": images,
        "width": embeddings.width,
        "seconds": round(seconds, 2),
        "epochs": passes,
        "images_per_s": round(passes * images / seconds),
        "own_mib": round((clock.memory_of()["RssAnon"] - before) / MIB, 1),  # without mapped files: the page cache's
        "val_macro_f1": probe.best["val_macro_f1"],
        "batch_size": recipe.batch_size,
        "threads": torch.get_num_threads(),
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
