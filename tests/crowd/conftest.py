"""Fixtures of the crowd's tests: a miniature ViT in a folder, images whose colour is their class, small tweets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sentifuse.cache.featureset import create_feature_set, write_current
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter
from sentifuse.crowd.finetune.recipe import FinetuneRecipe, FinetuneRequest, ImageRow
from sentifuse.crowd.labels.kept import Kept, write_kept
from sentifuse.crowd.labels.pseudo_labels import PseudoLabels, write_pseudo_labels
from sentifuse.data.card import Card, write_card
from sentifuse.data.files import digest
from sentifuse.data.labels import write_annotations
from sentifuse.data.manifest import Manifest, Pair, write_manifest
from sentifuse.data.source import SENTIMENT, Annotation

COLOURS = ((30, 30, 120), (130, 130, 130), (230, 200, 40))  # negative, neutral, positive


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transformers: hidden 32, 2 layers, 32 px in patches of 8, with its image processor."""
    import torch
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("tiny-vit")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=32,
            patch_size=8,
            layer_norm_eps=1e-6,
        )
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def coloured_images(tmp_path: Path) -> Callable[[Sequence[int]], list[ImageRow]]:
    """Writes one PNG for each class given, in its colour with some noise, and gives their rows."""

    def write(classes: Sequence[int]) -> list[ImageRow]:
        rng = np.random.default_rng(0)
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        rows = []
        for i, k in enumerate(classes):
            path = folder / f"{i}.png"
            pixels = np.array(COLOURS[k]) + rng.integers(-15, 16, (36, 40 + i % 5, 3))  # noise: crops differ
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
            rows.append(ImageRow(id=f"t{i}-1", path=path, digest=digest(path.read_bytes())))
        return rows

    return write


@pytest.fixture
def finetune_request(
    tmp_path: Path, tiny_vit: Path, coloured_images: Callable[[Sequence[int]], list[ImageRow]]
) -> Callable[..., FinetuneRequest]:
    """A request over 18 training and 6 validation images; `recipe` is a dict over small defaults."""

    def build(recipe: dict[str, Any] | None = None, **changes: Any) -> FinetuneRequest:
        classes = changes.pop("classes", [i % 3 for i in range(24)])
        images = coloured_images(classes)
        small: dict[str, Any] = {"batch_size": 4, "epochs": 2, "learning_rate": 1e-3, "head_learning_rate": 1e-2}
        values: dict[str, Any] = {
            "base": tiny_vit,
            "kind": "full",
            "images": images,
            "classes": np.array(classes, dtype=np.int64),
            "train_rows": np.arange(len(images) - 6),
            "val_rows": np.arange(len(images) - 6, len(images)),
            "out": tmp_path / "work",
            "loader_threads": 2,
            "log_every": 1,
        }
        return FinetuneRequest(recipe=FinetuneRecipe(**(small | (recipe or {}))), **(values | changes))

    return build


@dataclass(frozen=True, kw_only=True)
class Tweet:
    """One pair of a small dataset: a text, an image, what a teacher says, what people say."""

    id: str
    probabilities: tuple[float, float, float] | None = (0.95, 0.03, 0.02)  # None: the row failed
    picture: int | str | None = None  # a seed; "html": a page named .jpg; "gone": no file; None: one of its own
    text: str | None = "own"  # "own": unlike all others; None: missing
    text_label: str | None = None
    image_label: str | None = None


@pytest.fixture
def make_tweet() -> type[Tweet]:
    """The class itself: test modules cannot import from here."""
    return Tweet


@pytest.fixture
def write_tweets(tmp_path: Path) -> Callable[..., Path]:
    """Writes a prepared dataset `tweets` with features of `teacher` and `context`; gives the artefacts folder."""

    def write(tweets: Sequence[Tweet], *, with_teacher: bool = True) -> Path:
        artifacts = tmp_path / "artifacts"
        dataset = artifacts / "datasets" / "tweets"
        pairs = tuple(_pair(dataset, place, tweet) for place, tweet in enumerate(tweets))
        said = [Annotation(one.id, "text", 0, one.text_label) for one in tweets if one.text_label]
        said += [Annotation(one.id, "image", 0, one.image_label) for one in tweets if one.image_label]
        write_manifest(dataset, Manifest(dataset, pairs))
        write_annotations(dataset, said)
        card = {"reader": "pairs", "source": "test", "root": str(dataset), "encoding": "utf-8", "seed": 0, "counts": {}}
        write_card(dataset, Card(name="tweets", classes=SENTIMENT, rule="multisentinet", protocol="random", **card))
        rng = np.random.default_rng(0)
        folders = {}
        for encoder, name in (("teacher", "probabilities"), ("context", "vector"))[not with_teacher :]:
            width = 3 if encoder == "teacher" else 16
            feature_set = create_feature_set(
                artifacts / "cache" / "tweets",
                encoder=encoder,
                recipe={"encoder": encoder, "settings": {"clean": "teacher"}},
                fields=(Field(name=name, dtype="float32", shape=(width,)),),
            )
            rows = []
            for tweet, pair in zip(tweets, pairs, strict=True):
                digest_ = pair.text_digest if encoder == "teacher" else pair.image_digest
                values = tweet.probabilities if encoder == "teacher" else rng.normal(size=width)
                if not digest_ or values is None:
                    status = "missing" if not digest_ else "failed: too long"
                    rows.append(Row(id=tweet.id, digest=digest_, status=status))
                    continue
                value = np.array(values, dtype=np.float32)
                rows.append(Row(id=tweet.id, digest=digest_, status="ok", values={name: value}))
            with FeatureWriter(feature_set) as writer:
                writer.commit(writer.stage(0, rows[:5]))
                if rows[5:]:
                    writer.commit(writer.stage(1, rows[5:]))
            folders[encoder] = feature_set.directory.name
        write_current(artifacts / "cache" / "tweets", folders, "test")
        return artifacts

    return write


def _pair(dataset: Path, place: int, tweet: Tweet) -> Pair:
    path = dataset / f"{tweet.id}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    if tweet.picture == "html":
        path.write_bytes(b"<html><body>404</body></html>")
    elif tweet.picture != "gone":
        rng = np.random.default_rng([7, place + 1000 if tweet.picture is None else int(tweet.picture)])
        pixels = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)  # coarse: perceptual hashes see it
        Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(path, quality=90 - place % 7)
    text = f"words number {place} of {tweet.id}" if tweet.text == "own" else tweet.text
    return Pair(
        id=tweet.id,
        image_path=path.name,
        text=text or "",
        text_encoding="utf-8",
        image_digest=digest(path.read_bytes()) if path.exists() else "",
        text_digest="" if text is None else digest(text.encode()),
        image_status="ok" if path.exists() else "missing",
        text_status="missing" if text is None else "ok",
    )


@dataclass(kw_only=True)
class CrowdWorld:
    """A dataset whose image vectors carry the class, with noisy pseudo-labels, kept; `write` puts it on disk.

    Every fifth tweet has two images; pairs 7 and 8 show one picture, so do 20 and 21 (other tweets); the image of pair
    3 is missing, and the vector of pair 5 failed.
    """

    artifacts: Path
    n: int = 60
    noise: float = 0.2
    signal: float = 1.5
    seed: int = 0
    flipped: frozenset[int] = frozenset()  # pairs whose pseudo-label is another one
    gold_seen: frozenset[int] = frozenset()
    gold_pairs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # that the teacher was trained on
    details: Mapping[str, Any] = field(default_factory=dict)  # of the feature set
    extra: int = 0  # pairs of the dataset that are not kept
    name: str = "crowd"
    reader: str = "pairs"
    width: int = 6

    @property
    def ids(self) -> list[str]:
        return [f"{i - 1}-2" if i % 5 == 1 else f"{i}-1" for i in range(self.n + self.extra)]

    @property
    def cache_dir(self) -> Path:
        return self.artifacts / "cache" / self.name

    def truth(self, i: int) -> int:
        return (i + i // 3) % 3  # not the parity of anything else here

    def write(self) -> "CrowdWorld":
        dataset = self.artifacts / "datasets" / self.name
        pairs = tuple(self._pair(dataset, i) for i in range(len(self.ids)))
        write_manifest(dataset, Manifest(dataset, pairs))
        said = [Annotation(id_, "image", 0, SENTIMENT[self.truth(i)]) for i, id_ in enumerate(self.ids)]
        said += [Annotation(id_, "text", 0, SENTIMENT[self.truth(i)]) for i, id_ in enumerate(self.ids)]
        write_annotations(dataset, said)
        card = {"reader": self.reader, "source": "test", "root": str(dataset), "encoding": "utf-8", "seed": 0}
        labelled = {"rule": "multisentinet", "protocol": "random", "counts": {}}
        write_card(dataset, Card(name=self.name, classes=SENTIMENT, **card, **labelled))
        self._write_features(pairs)
        self.write_kept()
        return self

    def _pair(self, dataset: Path, i: int) -> Pair:
        picture: int | str = {8: 7, 21: 20, 3: "gone"}.get(i, i)
        return _pair(dataset, i, Tweet(id=self.ids[i], picture=picture if picture == "gone" else int(picture) + 500))

    def _write_features(self, pairs: Sequence[Pair]) -> None:
        feature_set = create_feature_set(
            self.cache_dir,
            encoder="context",
            recipe={"encoder": "context", "version": 1},
            fields=(Field(name="vector", dtype="float32", shape=(self.width,)),),
            details=self.details,
        )
        rows = []
        for i, pair in enumerate(pairs):
            vector = np.random.default_rng([self.seed, i]).normal(size=self.width).astype(np.float32)
            vector[self.truth(i)] += self.signal
            status = "missing" if not pair.image_digest else "failed: broken" if i == 5 else "ok"
            values = {"vector": vector} if status == "ok" else None
            rows.append(Row(id=pair.id, digest=pair.image_digest, status=status, values=values))
        with FeatureWriter(feature_set) as writer:
            writer.commit(writer.stage(0, rows[:25]))
            writer.commit(writer.stage(1, rows[25:]))
        write_current(self.cache_dir, {"context": feature_set.directory.name}, "test")

    def classes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """What the teacher says of each pair."""
        rng = np.random.default_rng([self.seed, 99])
        wrong = rng.random(len(self.ids)) < self.noise
        said = [(self.truth(i) + int(wrong[i]) * (1 + i % 2) + (i in self.flipped)) % 3 for i in range(len(self.ids))]
        return np.array(said, dtype=np.int64)

    def write_kept(self) -> None:
        classes = self.classes()
        shares = np.full((len(classes), 3), 0.02, dtype=np.float32)
        shares[np.arange(len(classes)), classes] = 0.96
        seen = np.array([i in self.gold_seen for i in range(len(classes))])
        labels = PseudoLabels(
            ids=tuple(self.ids),
            probabilities=shares,
            gold_seen=seen,
            provenance={"teacher": "test"},
            gold_pairs=self.gold_pairs,
        )
        write_pseudo_labels(self.artifacts, self.name, "default", labels, overwrite=True)
        kept = Kept(
            ids=tuple(self.ids[: self.n]),
            tweets=tuple(id_.partition("-")[0] for id_ in self.ids[: self.n]),
            classes=classes[: self.n],
            probabilities=shares[: self.n],
            gold_seen=seen[: self.n],
            split=tuple("val" if i // 5 % 4 == 3 else "train" for i in range(self.n)),  # by tweet
            metadata={"labels": {"name": "default", "digest": labels.digest}, "report": {"long": "story"}},
        )
        write_kept(self.artifacts, self.name, "default", kept, overwrite=True)


@pytest.fixture
def crowd_world(tmp_path: Path) -> Callable[..., CrowdWorld]:
    """Writes a `CrowdWorld`; keyword arguments are its fields."""
    return lambda **settings: CrowdWorld(**({"artifacts": tmp_path / "artifacts"} | settings)).write()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> CrowdWorld:
    """A `CrowdWorld` that the tests of a module share; they may train on it, and change nothing of it."""
    return CrowdWorld(artifacts=tmp_path_factory.mktemp("crowd") / "artifacts").write()
