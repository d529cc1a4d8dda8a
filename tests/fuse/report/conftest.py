"""A world with odd texts and some images, a run on it that was evaluated, and a reader of pages."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.run import RunDirectory
from sentifuse.fuse.train import TrainRequest, train

ODD = "Grüße aus München 😀👩‍👧 שלום <script>alert('x')</script> &amp; a\x00b \u202eright to left"
SMALL = {"epochs": 2, "batch_size": 16, "width": 8, "align_width": 8, "mlp_width": 8, "learning_rate": 1e-9}
VOID = {"meta", "link", "img", "br", "hr"}


@dataclass
class Page(HTMLParser):
    """What stands on a page, for tests."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    open_tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag  # closed in the order they were opened

    def handle_data(self, data: str) -> None:
        if self.open_tags and self.open_tags[-1] != "style":
            self.text += data

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    def refuse_what_others_cannot_read(self) -> None:
        """Structure, alternatives of pictures, heads of tables, and nothing that is fetched or executed."""
        assert not self.open_tags
        assert not self.all("script")
        assert all(image["src"].startswith("data:image/") for image in self.all("img"))
        assert all(len(image["alt"]) > 5 for image in self.all("img"))
        assert all(link["href"].startswith(("data:", "#")) for link in self.all("link") + self.all("a"))
        assert len(self.all("caption")) == len(self.all("table")) > 0
        assert all(head.get("scope") in ("row", "col") for head in self.all("th"))
        levels = [int(tag[1]) for tag, _ in self.tags if tag in ("h1", "h2", "h3", "h4")]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(ids) == len({*ids})
        assert {link["href"][1:] for link in self.all("a")} == {*ids}
        assert all(attributes["aria-labelledby"] in ids for attributes in self.all("section"))


@pytest.fixture(scope="session")
def read_page() -> Callable[[Path], Page]:
    """Parses a page, checking that tags close in order."""

    def read(path: Path) -> Page:
        page = Page()
        page.feed(path.read_text(encoding="utf-8"))
        page.close()
        return page

    return read


@pytest.fixture(scope="session")
def odd_world(tmp_path_factory: pytest.TempPathFactory, write_world: Callable[..., Any]) -> Any:
    """90 pairs with odd texts; every image is a file but those of every fourth pair. Nobody changes it."""
    ids = [f"p{i}" for i in range(90)]
    sides = {id_: ("negative", "neutral", "positive")[i // 3 % 3] for i, id_ in enumerate(ids)}
    world = write_world(
        artifacts=tmp_path_factory.mktemp("odd") / "artifacts",
        texts={id_: f"{ODD} {id_}" for id_ in ids},
        text_labels=sides,
        image_labels=dict.fromkeys(ids, "positive"),
    )
    for i, id_ in enumerate(ids):
        if i % 4:
            Image.new("RGB", (400, 300), (i, 90, 160)).save(world.dataset_dir / f"{id_}.png")
    return world


@pytest.fixture(scope="session")
def odd_run(odd_world: Any) -> RunDirectory:
    """A head that learnt nothing, evaluated on test."""
    run = train(
        TrainRequest(
            artifacts=odd_world.artifacts,
            dataset=odd_world.name,
            head="itin",
            overrides=SMALL,
            command=("sentifuse", "train", "--set", "note=<b>"),
        )
    )
    evaluate(run)
    return RunDirectory.open(run.path)


@pytest.fixture
def own_run(odd_run: RunDirectory, tmp_path: Path) -> RunDirectory:
    """The same with artefacts of its own, to be changed or damaged."""
    shutil.copytree(odd_run.artifacts, tmp_path / "artifacts")
    return RunDirectory.open(tmp_path / "artifacts" / "runs" / odd_run.name)
