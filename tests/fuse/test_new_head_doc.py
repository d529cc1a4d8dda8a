"""The worked example of docs/new_head.md is run as it stands there."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sentifuse.fuse import heads
from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.train import TrainRequest, train

FAST = {"learning_rate": "0.03", "batch_size": "16"}  # the small world has few steps per epoch
PAGE = Path(__file__).parents[2] / "docs" / "new_head.md"


@pytest.fixture
def two_voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "two_voices.py").write_text(blocks[0], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(heads.HEADS, "two_voices", "two_voices:TwoVoices")
    monkeypatch.delitem(sys.modules, "two_voices", raising=False)
    return heads.load_head("two_voices")


@pytest.mark.usefixtures("two_voices")
def test_the_example_trains_and_is_evaluated(make_world: Callable[..., Any]) -> None:
    world = make_world(n=300)
    run = train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head="two_voices", overrides=FAST))
    assert run.document["config"]["origins"]["input_dropout"] == "preset default"
    assert evaluate(run)["accuracy"] > 0.7
    assert "two_voices" in [head.name for head in heads.list_heads()]


def test_the_example_obeys_its_masks(two_voices: Any, make_batch: Callable[..., Batch]) -> None:
    widths = {"tokens.states": 5, "context.vector": 4}
    head = two_voices(two_voices.Config(), widths, 3).double().eval()
    batch = make_batch(widths)
    before = head(batch).logits
    for key, value in batch.values.items():
        batch.values[key] = value.masked_fill(~batch.masks[key].unsqueeze(-1), float("nan"))
    assert torch.equal(head(batch).logits, before)


def test_the_page_names_what_there_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    head = heads.load_head("itin")
    for name in re.findall(r"^\| `(\w+)(?:\(.*?\))?` \|", page, flags=re.MULTILINE):
        assert hasattr(head, name), name
