"""The page stands alone, escapes whatever comes from data, and has the explanation's own numbers."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

from sentifuse.fuse.explain.explain import explain_pairs
from sentifuse.fuse.explain.explanation import PairExplanation, Reasons, Region
from sentifuse.fuse.explain.page import render_page
from sentifuse.fuse.run import RunDirectory

Make = Callable[..., PairExplanation]


class Parsed(HTMLParser):
    """Tags with their attributes, and what is said in spans of a text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.shaded: list[tuple[str, str | None]] = []  # (text, weight as it stands in the page)
        self._open: dict[str, Any] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._open = found if tag == "span" and found.get("class") in ("read", "unread", "chip") else None

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.shaded.append((data, self._open.get("title")))

    def of(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_nothing_is_fetched_and_nothing_runs(make_explanation: Make, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (20, 10)).save(file)
    page = render_page([make_explanation(image_file=file, image_problem="")], "Title")
    parsed = Parsed(page)
    assert {name for name, _ in parsed.tags} & {"script", "link", "iframe", "object"} == set()
    assert [image["src"][:23] for image in parsed.of("img")] == ["data:image/jpeg;base64,"]
    assert not re.search(r"(src|href|url\()\s*=?\s*[\"']?(https?:|//|file:)", page)
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in parsed.of("meta"))


def test_texts_ids_and_notes_are_escaped(make_explanation: Make) -> None:
    page = render_page([make_explanation(id="<i>7</i>", notes=("<u>odd</u>",))], "<h1>T", ["<s>"])
    for raw in ("<b>", "<i>", "<u>", "<s>", "<this>", "<h1>T"):
        assert raw not in page.replace("<h1>&lt;", "")
    text = "".join(part for part, _ in Parsed(page).shaded)
    assert "so <b>happy</b>" in text


def test_every_shade_carries_its_weight_as_it_is(run_of: Callable[..., RunDirectory]) -> None:
    (found,) = explain_pairs(run_of("rnn_ca_embedding"), ["p3"])
    shaded = Parsed(render_page([found], "Title")).shaded
    weights = [float(weight) for _, weight in shaded if weight is not None]
    assert weights == list(found.reasons.words[0].values)
    letters = "".join(part for part, _ in shaded if part not in ("[image]", "[start]", "[end]"))
    assert letters == found.text


def test_bars_carry_their_numbers_as_they_are(make_explanation: Make) -> None:
    explanation = make_explanation()
    titles = {one.get("title") for one in Parsed(render_page([explanation], "T")).of("span")}
    assert {str(value) for value in explanation.probabilities} <= titles
    assert "0.375" in titles


def test_boxes_lie_where_the_regions_are(make_explanation: Make) -> None:
    boxes = [
        tuple(float(one[key]) for key in ("x", "y"))
        for one in Parsed(render_page([make_explanation()], "T")).of("rect")
    ]
    assert set(boxes) == {(0.1, 0.2), (0.4, 0.4)}


def test_all_regions_are_listed_where_only_some_are_in_colour(make_explanation: Make) -> None:
    regions = tuple(Region(number=i + 1, box=None) for i in range(6))
    reasons = make_explanation().reasons
    six = Reasons(
        region_weights=tuple(
            type(one)(name=one.name, title=one.title, over=one.over, values=(0.1, 0.2, 0.3, 0.1, 0.2, 0.1))
            for one in reasons.region_weights
        )
    )
    parsed = Parsed(render_page([make_explanation(regions=regions, reasons=six)], "T"))
    assert len(parsed.of("tr")) == 6
    assert parsed.of("rect") == []
    assert Parsed(render_page([make_explanation()], "T")).of("tr") == []


def test_a_pair_without_image_or_text_is_a_pair_still(make_explanation: Make) -> None:
    bare = make_explanation(text=None, pieces=(), regions=(), reasons=Reasons(notes=("Nothing.",)))
    page = render_page([bare, make_explanation()], "T", ["the test part was opened once"])
    assert "image missing" in page
    assert "the test part was opened once" in page
    assert len(Parsed(page).of("article")) == 2
