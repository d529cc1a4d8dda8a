"""The worked example of docs/new_encoder.md runs as it stands there, through a profile, like a built-in encoder."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sentifuse.extract.encoder import describe_encoder
from sentifuse.extract.encoders import ENCODERS
from sentifuse.extract.models.weights import find_models
from sentifuse.extract.profile import load_profile

PAGE = Path(__file__).parents[2] / "docs" / "new_encoder.md"


def block(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colour_example.py").write_text(block("python"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("colour_example", tmp_path / "colour_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "colour_example", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(ENCODERS, "colour", "colour_example:Colour")


@pytest.mark.usefixtures("listed")
def test_the_example_runs_through_a_profile(tmp_path: Path, encode: Any) -> None:
    (tmp_path / "mine.toml").write_text(block("toml"), encoding="utf-8")
    profile = load_profile(tmp_path / "mine.toml")
    (entry,) = profile.choose()
    model = find_models(profile, [entry], search=[]).models["colour"]
    plan = describe_encoder(entry, model, precision="exact", device="cpu")
    assert plan.recipe["settings"] == {"cells": 2}
    image = Image.new("RGB", (200, 100), "red")
    image.paste((0, 0, 255), (100, 0, 200, 100))
    row = encode(plan.build(device="cpu", share={}), [(image, None)])[0]
    np.testing.assert_allclose(row["colours"], [[1, 0, 0], [0, 0, 1]] * 2, atol=0.03)


def test_the_example_profile_page_reads_as_a_profile(tmp_path: Path) -> None:
    page = (PAGE.parent / "own_profile.md").read_text(encoding="utf-8")
    text = re.search(r"^```toml\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    assert text is not None
    (tmp_path / "mine.toml").write_text(text[1], encoding="utf-8")
    profile = load_profile(tmp_path / "mine.toml")
    assert profile.default == ("tokens", "context", "regions")
