"""A small world whose texts have spans and whose images are files, runs of heads on it, explanations by hand."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sentifuse.cache.featureset import create_feature_set, write_current
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter
from sentifuse.data.manifest import Pair
from sentifuse.data.text import clean
from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.explain.explanation import (
    Alignment,
    PairExplanation,
    Piece,
    Quantity,
    Reasons,
    Region,
    Voice,
    Weights,
)
from sentifuse.fuse.run import RunDirectory
from sentifuse.fuse.train import TrainRequest, train

CLASSES = ("negative", "neutral", "positive")
TEXT = "RT @ann: such a lovely day &amp; more http://t.co/x…"
NO_IMAGE, NO_TEXT, NO_LABEL = "p57", "p58", "p59"
FIELDS = {
    "tokens": (
        Field(name="states", dtype="float16", shape=(12,), is_ragged=True),
        Field(name="piece_ids", dtype="int32", shape=(), is_ragged=True),
        Field(name="spans", dtype="int32", shape=(2,), is_ragged=True),
    ),
    "context": (Field(name="vector", dtype="float32", shape=(7,)),),
    "crowd": (
        Field(name="probabilities", dtype="float32", shape=(3,)),
        Field(name="embedding", dtype="float32", shape=(5,)),
    ),
    "regions": (
        Field(name="features", dtype="float16", shape=(9,), is_ragged=True),
        Field(name="boxes_normalised", dtype="float32", shape=(4,), is_ragged=True),
    ),
}
SMALL = {
    "itin": {"width": 8, "align_width": 8, "mlp_width": 8, "region_count": 4, "gate": "scalar"},
    "rnn_ca_embedding": {"hidden": 4, "attention_width": 4},
    "ctmwa": {"embedding_width": 8, "weight_net_width": 4},
    "comn_like": {"width": 8},
    "cross_attention": {"width": 8, "heads": 2},
}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def spans_of(text: str) -> list[tuple[int, int]]:
    """Words and signs of a cleaned text, between two special pieces."""
    return [(0, 0), *(found.span() for found in re.finditer(r"\w+|[^\w\s]", text)), (0, 0)]


@pytest.fixture(scope="session")
def write_seen_world(write_world: Callable[..., Any]) -> Callable[[Path], Any]:
    """Writes 60 pairs with spans, boxes and image files; the last three lack image, text and label."""

    def write(artifacts: Path) -> Any:
        base = type(write_world(artifacts=artifacts / "unused", n=3, encoders=()))

        class SeenWorld(base):  # type: ignore[misc, valid-type]  # the class of a fixture
            def _pair(self, id_: str) -> Pair:
                file = self.dataset_dir / f"{id_}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 30), (int(id_[1:]) * 4, 90, 160)).save(file)
                has_image, has_text = id_ != NO_IMAGE, id_ != NO_TEXT
                text = self.text(id_)
                return Pair(
                    id=id_,
                    image_path=file.name if has_image else "",
                    text=text if has_text else "",
                    text_encoding="utf-8",
                    image_digest=digest(file.read_bytes()) if has_image else "",
                    text_digest=digest(text.encode()) if has_text else "",
                    image_status="ok" if has_image else "missing",
                    text_status="ok" if has_text else "missing",
                )

            def text(self, id_: str) -> str:
                return TEXT.replace("lovely", {"p57": "sad"}.get(id_, f"lovely{int(id_[1:]) % 5}"))

            def write_cache(self) -> None:
                folders = {}
                for encoder, fields in FIELDS.items():
                    settings = {"clean": "tweet"} if encoder == "tokens" else {}
                    made = create_feature_set(
                        self.cache_dir,
                        encoder=encoder,
                        recipe={"encoder": encoder},
                        fields=fields,
                        details={"settings": settings},
                    )
                    with FeatureWriter(made) as writer:
                        writer.commit(writer.stage(0, [self._row(encoder, id_) for id_ in self.ids]))
                    folders[encoder] = made.directory.name
                write_current(self.cache_dir, folders, "test")

            def _row(self, encoder: str, id_: str) -> Row:
                pair = self._pair(id_)
                source = pair.text_digest if encoder == "tokens" else pair.image_digest
                if not source:
                    return Row(id=id_, digest="", status="missing")
                return Row(id=id_, digest=source, status="ok", values=self._values(encoder, id_))

            def _values(self, encoder: str, id_: str) -> dict[str, np.ndarray]:
                rng = np.random.default_rng([int(id_[1:]), len(encoder)])
                if encoder == "crowd":
                    shares, embedding = rng.dirichlet(np.ones(3)), rng.normal(size=5)
                    return {"probabilities": shares.astype(np.float32), "embedding": embedding.astype(np.float32)}
                if encoder == "context":
                    return {"vector": rng.normal(size=7).astype(np.float32)}
                if encoder == "regions":
                    count = 2 + int(id_[1:]) % 5
                    boxes = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4)
                    features = rng.normal(size=(count, 9))
                    return {"features": features.astype(np.float16), "boxes_normalised": boxes.astype(np.float32)}
                spans = np.array(spans_of(clean(self.text(id_), "tweet")), dtype=np.int32)
                states = rng.normal(size=(len(spans), 12))
                return {
                    "states": states.astype(np.float16),
                    "piece_ids": np.arange(len(spans), dtype=np.int32),
                    "spans": spans,
                }

        labels = {f"p{i}": CLASSES[i % 3] for i in range(60) if f"p{i}" != NO_LABEL}
        return SeenWorld(artifacts=artifacts, n=60, labels=labels, text_labels=labels, image_labels=labels).write()

    return write


@pytest.fixture(scope="session")
def seen(write_seen_world: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The world that the tests share and do not change (they may add runs)."""
    return write_seen_world(tmp_path_factory.mktemp("seen") / "artifacts")


@pytest.fixture(scope="session")
def run_of(seen: Any) -> Callable[..., RunDirectory]:
    """A quickly trained and evaluated run of a head, the same one every time."""
    runs: dict[str, RunDirectory] = {}

    def find(head: str, **overrides: Any) -> RunDirectory:
        key = f"{head} {sorted(overrides.items())}"
        if key not in runs:
            recipe = {} if head == "logreg" else {"epochs": 1, "batch_size": 16, **SMALL.get(head, {}), **overrides}
            request = TrainRequest(artifacts=seen.artifacts, dataset=seen.name, head=head, overrides=recipe)
            runs[key] = train(request)
            evaluate(runs[key])
        return RunDirectory.open(runs[key].path)

    for head in ("itin", "rnn_ca_embedding", "ctmwa"):  # here, so that no test's own time holds their training
        find(head)
    return find


@pytest.fixture
def make_explanation() -> Callable[..., PairExplanation]:
    """An explanation by hand: seven pieces of "so <b>happy</b>" between two special ones, two regions."""

    def make(**changes: Any) -> PairExplanation:
        text = changes.pop("text", "so <b>happy</b>")
        spans = [(0, 2), (3, 6), (6, 11), (11, 15)]
        places = [(0, 0), *(span for span in spans if span[1] <= len(text or "")), (0, 0)]
        pieces = tuple(Piece(start=a, end=b, is_special=a == b) for a, b in places)
        n = len(changes.setdefault("pieces", pieces))
        rows = tuple(tuple((j + 1 + 3 * i) / 100 for j in range(n)) for i in range(2))
        reasons = Reasons(
            words=(Weights(name="word_weights", title="word weights", over="words", values=rows[0]),),
            region_weights=(
                Weights(name="gate", title="gate", over="regions", values=(0.25, 0.75)),
                Weights(name="pool_weights", title="weight", over="regions", values=(0.9, 0.1)),
            ),
            alignment=Alignment(name="alignment", title="which words each region reads", values=rows),
            voices=(Voice(name="text_logits", title="text alone", probabilities=(0.2, 0.3, 0.5)),),
            quantities=(Quantity(name="image_share", title="image share", kind="share", value=0.375),),
            notes=("A note on <this>.",),
        )
        settings: dict[str, Any] = {
            "id": "a/b $x$",
            "run": "run-1",
            "head": "itin",
            "dataset": "pairs",
            "part": "test",
            "part_opened": 1,
            "classes": CLASSES,
            "label": "negative",
            "logits": (0.0, 1.0, 2.0),
            "probabilities": (0.09, 0.245, 0.665),
            "text": text,
            "regions": (
                Region(number=1, box=(0.1, 0.2, 0.5, 0.9)),
                Region(number=2, box=(0.4, 0.4, 0.8, 0.8)),
            ),
            "image_file": None,
            "image_problem": "image missing",
            "reasons": reasons,
            "notes": (),
        }
        return PairExplanation(**(settings | changes))

    return make
