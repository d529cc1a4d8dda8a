"""How many images per second a student's fine-tuning takes in, what it waits for, and how busy the GPU is.

python bench/crowd_finetune.py [--device cuda:0] [--kind full] [--size base] [--image-px 384] [--steps 60] [--quick]

Random weights and photograph-like noise as JPEG files: the numbers are of speed alone. Prints the log's lines, writes
artifacts/bench/crowd_finetune.json. Nothing passes or fails here.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import clock
import numpy as np
import torch
from output import say, write
from PIL import Image

from sentifuse.crowd.finetune.job import finetune
from sentifuse.crowd.finetune.recipe import FinetuneRequest, ImageRow, resolve_recipe
from sentifuse.extract.devices import resolve_devices

# Width, layers, heads of the usual sizes; patches of 16 pixels.
SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
FILES = 256  # each is decoded anew every time it is drawn
PHOTO = (640, 480)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--kind", choices=["full", "lora"], default="full")
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--image-px", type=int, default=384)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=60, help="the first third is not counted")
    parser.add_argument("--threads", type=int, default=0, help="that decode images; 0: one for each processor")
    parser.add_argument("--quick", action="store_true", help="tiny, 96 pixels, nine steps: does it still run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.size, arguments.image_px, arguments.batch, arguments.steps = "tiny", 96, 8, 9
    write(arguments.artifacts, "crowd_finetune.json", {"machine": clock.machine(), **run(arguments)})


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """One training without validation; its log of steps and the means of what counts."""
    count = arguments.steps * arguments.batch
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_base(folder / "base", arguments.size, arguments.image_px)
        files = write_photographs(folder, min(count, FILES))
        # A row for each draw: a training of one pass, so that nothing else is measured.
        images = [ImageRow(id=f"{i}", path=files[i % len(files)]) for i in range(count)]
        changes = {"head_epochs": 0, "epochs": 1, "batch_size": arguments.batch, "select": "last", "patience": 0}
        rows: list[dict[str, Any]] = []
        found = finetune(
            FinetuneRequest(
                base=folder / "base",
                kind=arguments.kind,
                recipe=resolve_recipe(arguments.kind, overrides=changes),
                images=images,
                classes=np.arange(count, dtype=np.int64) % 3,
                train_rows=np.arange(count, dtype=np.int64),
                val_rows=np.zeros(0, dtype=np.int64),
                out=folder / "out",
                device=resolve_devices(arguments.device)[0],
                checkpoint_every=0,
                log_every=max(1, arguments.steps // 9),
                loader_threads=arguments.threads,
            ),
            progress=lambda row: _hear(row, rows),
        )
    counted = [row for row in rows if row["step"] > arguments.steps / 3]
    means = {name: _mean([row[name] for row in counted]) for name in ("images_per_s", "waiting_share", "gpu_share")}
    say(f"{arguments.kind} {arguments.size}/16 at {arguments.image_px} px, {found.notes['device']}: {means}")
    settings = {name: getattr(arguments, name) for name in ("kind", "size", "image_px", "batch", "steps")}
    return {**settings, **found.notes, "means": means, "log": rows}


def write_base(folder: Path, size: str, image_px: int) -> None:
    """A seeded ViT as transformers would save it."""
    from transformers import ViTConfig, ViTModel

    width, layers, heads = SIZES[size]
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        image_size=image_px,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)


def write_photographs(folder: Path, count: int) -> list[Path]:
    """JPEG files of a photograph's size, with coarse noise so that they weigh about as much."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        path = folder / f"{i}.jpg"
        coarse.resize(PHOTO, Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def _hear(row: Any, rows: list[dict[str, Any]]) -> None:
    if "images_per_s" in row:
        rows.append(dict(row))
        rates = ", ".join(f"{name} {row[name]}" for name in ("images_per_s", "waiting_share", "gpu_share"))
        say(f"step {row['step']}: {rates}")


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


if __name__ == "__main__":
    main()
