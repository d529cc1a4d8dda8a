"""One small project, prepared, extracted and trained once by the commands themselves."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from sentifuse import cli


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
