"""A report in a real browser: no word on the console, something to see, and paper that is printed on."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sentifuse.fuse.report.run_report import report_run
from sentifuse.fuse.run import RunDirectory

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TIMEOUT_S = 120

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser; skips, and says so, where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"NO CHROMIUM: none of {', '.join(NAMES)} is installed, so no report was looked at in a browser")
    return found


@pytest.fixture(scope="module")
def page_file(odd_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report."""
    artifacts = tmp_path_factory.mktemp("browser") / "artifacts"
    shutil.copytree(odd_run.artifacts, artifacts)
    return Path(report_run(artifacts / "runs" / odd_run.name, device="cpu")["html"])


def browse(chromium: str, page: Path, home: Path, *options: str) -> str:
    """What the browser writes to its log."""
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
        f"--user-data-dir={home / 'profile'}", *options, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return done.stderr


def console(log: str) -> list[str]:
    return [line for line in log.splitlines() if "CONSOLE" in line]


def test_it_opens_without_a_word_on_the_console(chromium: str, page_file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "screen.png"
    log = browse(chromium, page_file, tmp_path, "--window-size=1200,2400", f"--screenshot={picture}")
    assert console(log) == []
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape == (2400, 1200)
    is_blank = (pixels > 250).all(1)
    assert is_blank[:60].any()
    assert is_blank.mean() < 0.95  # words and pictures
    runs = np.diff(np.flatnonzero(np.concatenate([[True], ~is_blank, [True]])))
    assert runs.max() < 600  # no picture is missing


def test_an_error_on_a_page_would_be_found(chromium: str, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<!doctype html><script>console.error('seen')</script>", encoding="utf-8")
    log = browse(chromium, page, tmp_path, "--window-size=300,300", f"--screenshot={tmp_path / 'bad.png'}")
    assert any("seen" in line for line in console(log))


def test_it_prints_on_several_pages(chromium: str, page_file: Path, tmp_path: Path) -> None:
    paper = tmp_path / "paper.pdf"
    log = browse(chromium, page_file, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    assert console(log) == []
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())) <= 20
