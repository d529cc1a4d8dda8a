"""docs/heads.md says what is: every head, its fields, its parameters, its presets."""

import re
from pathlib import Path

import pytest
import torch

from sentifuse.fuse.config import resolve
from sentifuse.fuse.heads import HEADS, load_head
from sentifuse.fuse.heads.head import Head

PAGE = (Path(__file__).parents[2] / "docs" / "heads.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`"): cells
    for cells in ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in PAGE.splitlines())
    if len(cells) == 6 and cells[0].startswith("`")
}
PAPER = {"states": 768, "features": 2048, "vector": 512, "boxes_normalised": 4, "embedding": 768, "probabilities": 3}


def learned(head: Head) -> int:
    """Parameters, or weights and biases of a head whose fit has a closed form."""
    if not head.has_closed_fit:
        return sum(parameter.numel() for parameter in head.parameters())
    return sum(buffer.numel() for name, buffer in head.named_buffers() if name.endswith(("weight", "bias")))


def test_the_page_has_every_head_in_the_order_of_the_table() -> None:
    assert list(ROWS) == list(HEADS)


@pytest.mark.parametrize("name", HEADS)
def test_the_page_states_fields_and_parameters(name: str) -> None:
    head_class = load_head(name)
    _, _, fields, parameters, _, _ = ROWS[name]
    assert set(re.findall(r"tokens|regions|context|crowd", fields)) == {request.encoder for request in head_class.needs}
    config = resolve(name, head_class.Config, head_class.PRESETS).head
    widths = {request.key: PAPER[request.field] for request in head_class.requests(config)}
    with torch.device("meta"):
        assert f"{learned(head_class(config, widths, 3)):,}" == parameters


def test_the_presets_it_names_exist() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert len(rows) == 5
    assert all(preset in load_head(head).PRESETS for preset, head in rows)
