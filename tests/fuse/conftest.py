"""A small dataset and its cache, written through the rooms' own functions; sentiment is planted in text and image."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse.cache.featureset import create_feature_set, write_current
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter
from sentifuse.data.card import Card, write_card
from sentifuse.data.labels import write_annotations
from sentifuse.data.manifest import Manifest, Pair, write_manifest
from sentifuse.data.source import Annotation
from sentifuse.data.splits import write_given
from sentifuse.fuse.features.batches import Batch

CLASSES = ("negative", "neutral", "positive")
FIELDS = {
    "tokens": (Field(name="states", dtype="float16", shape=(12,), is_ragged=True),),
    "context": (Field(name="vector", dtype="float32", shape=(7,)),),
    "crowd": (
        Field(name="probabilities", dtype="float32", shape=(3,)),
        Field(name="embedding", dtype="float32", shape=(8,)),
    ),
    "regions": (
        Field(name="features", dtype="float16", shape=(3, 9)),
        Field(name="boxes_normalised", dtype="float32", shape=(3, 4)),
        Field(name="count", dtype="int32", shape=()),
    ),
}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(kw_only=True)
class World:
    """What a test dataset is made of; `write` puts it on disk."""

    artifacts: Path
    name: str = "pairs"
    n: int = 90
    classes: tuple[str, ...] = CLASSES
    statuses: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # encoder -> id -> status
    not_stored: Mapping[str, frozenset[str]] = field(default_factory=dict)  # encoder -> ids without a row
    recipe: Mapping[str, Any] = field(default_factory=lambda: {"model": "a", "layer": {"depth": 1}})
    encoders: tuple[str, ...] = ("tokens", "context", "regions", "crowd")
    labels: Mapping[str, str] | None = None  # id -> class; None: by turns
    texts: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    text_labels: Mapping[str, str] = field(default_factory=dict)
    image_labels: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # encoder -> its feature set's details
    seed: int = 0

    @property
    def ids(self) -> list[str]:
        return [f"p{i}" for i in range(self.n)]

    @property
    def dataset_dir(self) -> Path:
        return self.artifacts / "datasets" / self.name

    @property
    def cache_dir(self) -> Path:
        return self.artifacts / "cache" / self.name

    def label(self, id_: str) -> str:
        return self.labels[id_] if self.labels else self.classes[int(id_[1:]) % len(self.classes)]

    def write(self) -> "World":
        self.write_dataset()
        self.write_cache()
        return self

    def write_dataset(self) -> None:
        pairs = tuple(self._pair(id_) for id_ in self.ids)
        labelled = [id_ for id_ in self.ids if self.labels is None or id_ in self.labels]
        said = [Annotation(id_, "pair", 0, self.label(id_)) for id_ in labelled]
        said += [Annotation(id_, "text", 0, label) for id_, label in self.text_labels.items()]
        said += [Annotation(id_, "image", 0, label) for id_, label in self.image_labels.items()]
        write_manifest(self.dataset_dir, Manifest(self.dataset_dir, pairs))
        write_annotations(self.dataset_dir, said)
        if self.given:
            write_given(self.dataset_dir, self.given)
        card = Card(
            name=self.name,
            reader="pairs",
            source="test",
            root=str(self.dataset_dir),
            encoding="utf-8",
            classes=self.classes,
            rule="given",
            protocol="given" if self.given else "random",
            seed=0,
            counts={},
        )
        write_card(self.dataset_dir, card)

    def _pair(self, id_: str) -> Pair:
        text = self.texts.get(id_, id_)
        no_text = self._is_missing("tokens", id_)
        no_image = self._is_missing("context", id_) or self._is_missing("regions", id_)
        return Pair(
            id=id_,
            image_path=f"{id_}.png",
            text="" if no_text else text,
            text_encoding="utf-8",
            image_digest="" if no_image else digest(f"image {id_}"),
            text_digest="" if no_text else digest(text),
            image_status="missing" if no_image else "ok",
            text_status="missing" if no_text else "ok",
        )

    def _is_missing(self, encoder: str, id_: str) -> bool:
        return self.statuses.get(encoder, {}).get(id_) == "missing"

    def write_cache(self) -> None:
        folders = {}
        for encoder in self.encoders:
            recipe = {"encoder": encoder, **self.recipe}
            feature_set = create_feature_set(
                self.cache_dir,
                encoder=encoder,
                recipe=recipe,
                fields=FIELDS[encoder],
                details=self.details.get(encoder, {}),
            )
            rows = [self._row(encoder, id_) for id_ in self.ids if id_ not in self.not_stored.get(encoder, ())]
            with FeatureWriter(feature_set) as writer:
                writer.commit(writer.stage(0, rows[:40]))
                writer.commit(writer.stage(1, rows[40:]))
            folders[encoder] = feature_set.directory.name
        write_current(self.cache_dir, folders, "test")

    def _row(self, encoder: str, id_: str) -> Row:
        status = self.statuses.get(encoder, {}).get(id_, "ok")
        source = self.texts.get(id_, id_) if encoder == "tokens" else f"image {id_}"
        if status != "ok":
            return Row(id=id_, digest="" if status == "missing" else digest(source), status=status)
        return Row(id=id_, digest=digest(source), status="ok", values=self._values(encoder, id_))

    def _values(self, encoder: str, id_: str) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, int(id_[1:]), len(encoder)])
        signal = self.classes.index(self.label(id_)) if not self.labels or id_ in self.labels else 0
        if encoder == "tokens":
            states = rng.normal(size=(int(rng.integers(0, 9)), 12))
            states[:, signal] += 2.0
            return {"states": states.astype(np.float16)}
        if encoder == "crowd":
            embedding = rng.normal(size=8)
            embedding[signal] += 2.0
            shares = rng.dirichlet(np.ones(3))
            return {"probabilities": shares.astype(np.float32), "embedding": embedding.astype(np.float32)}
        if encoder == "context":
            vector = rng.normal(size=7)
            vector[signal] += 2.0
            return {"vector": vector.astype(np.float32)}
        features = rng.normal(size=(3, 9))
        features[:, signal] += 2.0
        count = np.array(rng.integers(0, 4), dtype=np.int32)
        boxes = np.sort(rng.random((3, 2, 2)), axis=1).reshape(3, 4)
        return {"features": features.astype(np.float16), "boxes_normalised": boxes.astype(np.float32), "count": count}


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[..., World]:
    """Writes a world; keyword arguments are those of `World`."""

    def make(**settings: Any) -> World:
        return World(**({"artifacts": tmp_path / "artifacts"} | settings)).write()

    return make


@pytest.fixture(scope="session")
def write_world() -> Callable[..., World]:
    """Writes a world where its `artifacts` say, for fixtures that outlive a test."""
    return lambda **settings: World(**settings).write()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world that the tests of a module share and do not change (they may add runs)."""
    return World(artifacts=tmp_path_factory.mktemp("world")).write()


def random_batch(
    widths: Mapping[str, int],
    *,
    lengths: tuple[int, ...] = (5, 1, 3, 0),
    regions: tuple[int, ...] = (2, 3, 0, 1),
    has_context: tuple[bool, ...] = (True, True, False, True),
    class_count: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Batch:
    """Random features with these many words and regions per pair; what is masked holds numbers too, on purpose."""
    generator = torch.Generator().manual_seed(seed)
    counts = {"tokens": lengths, "regions": regions}  # every field of these encoders is a sequence
    values, masks = {}, {}
    for key, width in widths.items():
        if key.partition(".")[0] in counts:
            n = torch.tensor(counts[key.partition(".")[0]])
            longest = max(1, int(n.max()))
            masks[key] = torch.arange(longest)[None] < n[:, None]
            values[key] = torch.randn(len(n), longest, width, generator=generator, dtype=torch.float64).to(dtype)
        else:
            masks[key] = torch.tensor(has_context)
            values[key] = torch.randn(len(has_context), width, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, class_count, (len(lengths),), generator=generator)
    return Batch(ids=tuple(f"p{i}" for i in range(len(lengths))), values=values, masks=masks, labels=labels)


@pytest.fixture(scope="session")
def loops() -> Any:
    """The module `loops.py` beside this file: parts of heads written as slow loops."""
    spec = spec_from_file_location("loops", Path(__file__).with_name("loops.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """`random_batch`, since test modules cannot import each other."""
    return random_batch
