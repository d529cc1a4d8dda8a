"""A page escapes what it is given, shows what cannot be seen, and overwrites nothing but pages."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from sentifuse import ConfigError
from sentifuse.fuse.report.page import MARK, check_out, is_number, render, visible, write_page


def test_a_name_that_the_view_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="headline"):
        render("run.html", {"title": "t", "version": "1", "created": "now"})


def test_control_characters_are_shown_and_line_breaks_kept() -> None:
    assert visible("a\x00b\x1b[31m\n\tü😀\x7f") == "a␀b␛[31m\n\tü😀␡"


@pytest.mark.parametrize(
    "cell", ["0.7", "1,204", "< 0.001", "−0.2", "+1.2 [−0.3, 2.7]", "44 (11.1%)", "52.0†", "–", "47.7 ± 6.6 [-19, 114]"]
)
def test_numbers_are_set_to_the_right(cell: str) -> None:
    assert is_number(cell)


@pytest.mark.parametrize("cell", ["", "2 thirds", "itin: 71.4", "not opened", "p1"])
def test_words_are_not(cell: str) -> None:
    assert not is_number(cell)


def test_half_a_surrogate_pair_does_not_stop_a_page(tmp_path: Path) -> None:
    size = write_page(tmp_path / "page.html", "a name: \udce4, and ä")
    content = (tmp_path / "page.html").read_bytes()
    assert content.decode("utf-8") == "a name: \\udce4, and ä"
    assert size == len(content)


def test_an_earlier_report_may_be_overwritten_and_nothing_else(tmp_path: Path) -> None:
    check_out(tmp_path / "new.html")
    report, thesis = tmp_path / "report.html", tmp_path / "thesis.html"
    report.write_text(f"<!doctype html><head>{MARK} 0.1.0", encoding="utf-8")
    check_out(report)
    thesis.write_text("<!doctype html>", encoding="utf-8")
    with pytest.raises(ConfigError, match="found another file"):
        check_out(thesis)
    with pytest.raises(ConfigError, match="found a folder"):
        check_out(tmp_path)
