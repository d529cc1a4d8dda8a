"""One small project, prepared, extracted and trained once by the commands themselves."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sentifuse import cli
from sentifuse.crowd.labels.kept import Kept, write_kept
from sentifuse.crowd.labels.pseudo_labels import PseudoLabels, write_pseudo_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.source import SENTIMENT

N = 48  # pairs of the fixture `pairs`


@dataclass(frozen=True)
class Typed:
    """What a command gave: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def type_command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Typed]:
    """Runs a command in this process and returns what it printed."""

    def run(*words: str | Path) -> Typed:
        capfd.readouterr()
        code = cli.run([str(word) for word in words])
        captured = capfd.readouterr()
        return Typed(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, write_small_mvsa: Callable[..., Path]) -> Path:
    """An artefacts folder in which 90 pairs were prepared, extracted and a head was trained."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("project")
    root = write_small_mvsa(folder / "MVSA_Single", 90)
    artifacts = folder / "artifacts"
    here = ["--artifacts", str(artifacts)]
    for words in (
        ["data", "prepare", "mvsa_single", "--root", str(root)],
        ["profiles", "use", "tiny"],
        ["extract", "--dataset", "mvsa_single", "--device", "cpu"],
        ["train", "--head", "itin", "--set", "epochs=2", "--set", "width=8", "--set", "align_width=8"],
    ):
        assert cli.run([*words, *here]) == 0
    return artifacts


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artefacts with 48 pairs of pictures unlike each other, their `context` features, and a kept set."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pairs")
    rows = ["id,image,text,label,image_label"]
    for i in range(N):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg")
        rows.append(f"{i},{i}.jpg,words number {i},{SENTIMENT[i % 3]},{SENTIMENT[i % 3]}")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    artifacts = folder / "artifacts"
    here = ["--artifacts", str(artifacts)]
    table = ["--table", str(folder / "pairs.csv"), "--root", str(folder), "--image-label-column", "image_label"]
    assert cli.run(["data", "prepare", "pairs", "--name", "shop", *table, *here]) == 0
    words = ["extract", "--dataset", "shop", "--profile", "tiny", "--encoders", "context", "--device", "cpu"]
    assert cli.run([*words, *here]) == 0
    ids = read_manifest(artifacts / "datasets" / "shop").ids
    classes = np.arange(N) % 3
    shares = (np.eye(3)[classes] * 0.94 + 0.02).astype(np.float32)
    nobody = np.zeros(N, dtype=bool)
    labels = PseudoLabels(ids=ids, probabilities=shares, gold_seen=nobody, provenance={"teacher": "made up"})
    write_pseudo_labels(artifacts, "shop", "default", labels)
    kept = Kept(
        ids=ids,
        tweets=ids,
        classes=classes,
        probabilities=shares,
        gold_seen=nobody,
        split=tuple("val" if i % 7 == 0 else "train" for i in range(N)),
        metadata={"labels": {"name": "default", "digest": labels.digest}},
    )
    write_kept(artifacts, "shop", "default", kept)
    return artifacts
