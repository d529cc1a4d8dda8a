"""A benchmark folder of 12 images in the exact layout, and miniature models to ask about them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sentifuse.data.files import digest
from sentifuse.extract.encoder import describe_encoder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.weights import locate
from sentifuse.extract.profile import EncoderEntry
from sentifuse.extract.seen_images import SeenImage
from sentifuse.extract.student_base import copy_base, describe_base
from sentifuse.extract.students import StudentConfig, StudentParts, head_shapes, write_student

FOLDERS = {
    "5agree": ("Twitter Testing Dataset I", "5agree.csv", "1"),
    "4agree": ("Twitter Testing Dataset I", "4agree.csv", "1"),
    "3agree": ("Twitter Testing Dataset I", "3agree.csv", "1"),
    "twitter_testing_2": ("Twitter Testing Dataset II", "twitter_testing_2.csv", "1"),
    "emotion_ROI_test": ("EmotionROI", "emotion_ROI_test.csv", "1"),
    "FI_complete": ("FI", "FI_complete.csv", "2"),
}
COLOURS = ((30, 30, 120), (230, 200, 40))  # negative, positive


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def warm_optimiser() -> None:
    """torch imports a great deal on the first step of an optimiser; that is no test's time."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = torch.optim.RAdam([weight])
    weight.grad = torch.ones(2)
    optimiser.step()


@pytest.fixture
def write_images() -> Callable[..., list[str]]:
    """Writes JPEGs below a folder, one for each class given (0 or 1), in its colour; gives their names."""

    def write(folder: Path, classes: Sequence[int], prefix: str = "") -> list[str]:
        rng = np.random.default_rng(0)
        names = []
        for i, k in enumerate(classes):
            name = f"{prefix}{i:04d}.jpg"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pixels = np.array(COLOURS[k]) + rng.integers(-15, 16, (36, 40 + i % 5, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
            names.append(name)
        return names

    return write


@pytest.fixture
def write_benchmark(write_images: Callable[..., list[str]]) -> Callable[..., Path]:
    """Writes a benchmark's list and images below a root; gives the list's path."""

    def write(root: Path, name: str, classes: Sequence[int], prefix: str = "") -> Path:
        folder, list_name, positive = FOLDERS[name]
        paths = write_images(root / folder / "images", classes, prefix)
        lines = ["path,class", *(f"{p},{positive if k else '0'}" for p, k in zip(paths, classes, strict=True))]
        file = root / folder / list_name
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return write


@pytest.fixture
def write_fi_splits(write_images: Callable[..., list[str]]) -> Callable[[Path], None]:
    """Five splits of the same 20 images of FI: 12 to learn from, 4 to choose by, 4 to answer."""

    def write(root: Path) -> None:
        classes = [i % 2 for i in range(20)]
        paths = write_images(root / "FI" / "images", classes, "awe/")
        rows = [f"{path},{2 * k}" for path, k in zip(paths, classes, strict=True)]
        for k in range(1, 6):
            turned = rows[4 * (k - 1) :] + rows[: 4 * (k - 1)]
            folder = root / "FI" / f"split_{k}"
            folder.mkdir(parents=True)
            for part, lines in (("test", turned[:4]), ("val", turned[4:8]), ("train", turned[8:])):
                (folder / f"FI_{part}.csv").write_text("\n".join(["path,class", *lines]) + "\n", encoding="utf-8")

    return write


@pytest.fixture(scope="session")
def vit_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded ViT of three classes as transformers saves it, its outputs in an order of its own."""
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("models") / "tiny-classifier"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32,
            patch_size=8, layer_norm_eps=1e-6, initializer_range=0.2,
            id2label={0: "positive", 1: "negative", 2: "neutral"},
            label2id={"positive": 0, "negative": 1, "neutral": 2},
        )  # fmt: skip
        ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    """A student of kind probe over the miniature image network: its folds take milliseconds."""
    source = ModelSource(kind="tiny", name="image", architecture="tiny_conv", seed=3)
    model = locate(source, search=(), is_offline=True)
    entry = EncoderEntry(name="context", model=source, where="test")
    plan = describe_encoder(entry, model, precision="exact", device="cpu")
    head = {"kind": "linear", "in": plan.build(device="cpu", share={}).fields[0].shape[0]}
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=shape, scale=0.1).astype(np.float32) for name, shape in head_shapes(head).items()}
    parts = StudentParts(config=StudentConfig(kind="probe", head=head, base=describe_base(plan)), tensors=tensors)
    seen = [SeenImage(image_digest=digest(b"none"), id="x", dataset="t4sa")]
    return write_student(tmp_path / "probe", parts, base=lambda folder: copy_base(model, folder), seen=seen)
