"""Fixtures shared by all rooms' tests."""

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from PIL import Image

# The same examples in every run and on every machine, however slow; `--hypothesis-profile long` draws new ones.
settings.register_profile("fixed", derandomize=True, max_examples=50, deadline=None)
settings.register_profile("long", max_examples=1000, deadline=None)
settings.load_profile("fixed")

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach a hub; set before huggingface_hub is imported

# A shell starts its background jobs with Ctrl-C ignored, and every child inherits that: tests that interrupt a process
# of theirs would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

WORDS = ("positive", "neutral", "negative")
COLOURS = {"positive": (240, 200, 40), "neutral": (140, 140, 140), "negative": (30, 30, 90)}
TEXTS = {"positive": "what a lovely day", "neutral": "a box on the street", "negative": "this is awful and sad"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """How often the stress tests repeat a fault (`make stress` asks for more), and where a real detectron2 lies."""
    group = parser.getgroup("stress")
    group.addoption("--kills", type=int, default=20, help="writers killed at random moments")
    group.addoption("--flips", type=int, default=60, help="bits flipped in stores, each found and mended")
    group.addoption("--pages", type=int, default=20, help="pages zeroed or cut off, each found and mended")
    parser.getgroup("backends").addoption("--detectron2", metavar="DIR", help="a checkout of it, compiled or not")


def pytest_collection_finish() -> None:
    """What importing and collecting left stays until the end: no collection of garbage has to look at it again."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show what stress tests counted (`record_property`); a number in a report is worth more than a dot."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {name}: {value}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the full data, which lies beside the project on some machines and is never part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "mvsa_single" / "labelResultAll.txt").is_file():
        pytest.skip(f"full data not there: {folder}")
    return folder


@pytest.fixture(scope="session")
def write_small_mvsa() -> Callable[..., Path]:
    """Writes, or adds to, a small dataset in MVSA-Single's own layout: plain coloured pictures, one-line tweets."""
    return _write_small_mvsa


def _write_small_mvsa(root: Path, count: int, *, first: int = 1) -> Path:
    """`count` pairs with ids from `first`; every seventh pair that is not neutral contradicts itself."""
    data = root / "data"
    data.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(first, first + count):
        text_word = WORDS[i % 3]
        opposite = {"positive": "negative", "negative": "positive", "neutral": "neutral"}[text_word]
        image_word = opposite if i % 7 == 0 else text_word
        red, green, blue = COLOURS[image_word]
        Image.new("RGB", (24, 24 + i % 5), (red, green, (blue + i) % 256)).save(data / f"{i}.jpg")
        (data / f"{i}.txt").write_bytes(f"{TEXTS[text_word]} number {i}\n".encode("gb18030"))
        rows.append(f"{i}\t{text_word},{image_word}")
    label_file = root / "labelResultAll.txt"
    old = label_file.read_text("ascii").splitlines() if label_file.exists() else ["ID\ttext,image"]
    label_file.write_bytes(("\r\n".join([*old, *rows]) + "\r\n").encode("ascii"))
    return root
