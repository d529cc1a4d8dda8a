"""What `extract` says before it works: rows as its last table counts them, and weights that cannot be any."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from sentifuse.commands.extract import work_line
from sentifuse.extract.plan import RowInput
from sentifuse.extract.worker import ShardTask


def task(count: int, *encoders: str) -> ShardTask:
    rows = tuple(
        RowInput(id=str(i), image_path="", text="t", image_digest="", digest="d", status="ok") for i in range(count)
    )
    return ShardTask(rows=rows, targets=tuple((name, 0) for name in encoders))


def test_encoders_that_share_an_input_are_counted_as_rows_each() -> None:
    line = work_line([task(8, "regions", "context"), task(8, "tokens")])
    assert line == "24 rows to compute from 16 inputs (images or texts), in 2 tasks of a shard each"
    assert work_line([task(3, "tokens")]).endswith("in 1 task of a shard each")


def test_a_plan_refuses_weights_that_anybody_can_see_to_be_none(
    project: Path, tmp_path: Path, type_command: Callable[..., Any]
) -> None:
    file = tmp_path / "net.safetensors"
    profile = tmp_path / "mine.toml"
    model = f'model = {{ path = "{file}", architecture = "faster_rcnn_resnet101_c4" }}'
    profile.write_text(f'[encoders.regions]\nbackend = "vg"\n{model}\n', encoding="utf-8")
    words = ("extract", "--dry-run", "--dataset", "mvsa_single", "--profile", profile, "--artifacts", project)
    contents = {
        "a pointer of git-LFS": b"version https://git-lfs.github.com/spec/v1\n",
        "an empty file": b"",
        "none of the 530 tensors expected": save({"a": np.zeros(100, dtype=np.float32)}),
    }
    for message, content in contents.items():
        file.write_bytes(content)
        typed = type_command(*words)
        assert typed.code == 5, typed.err
        assert message in typed.err
