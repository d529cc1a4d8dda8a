"""regions, torchvision: its own numbers, its files under their older names, and what is no detector refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sentifuse import ConfigError, DataError
from sentifuse.extract.backbones.detected import regions_of_proposals
from sentifuse.extract.backbones.regions_torchvision import load_detector
from sentifuse.extract.encoder import Encoder, describe_encoder
from sentifuse.extract.encoders.context import published_preprocessing
from sentifuse.extract.encoders.regions_torchvision import TorchvisionRegions, TorchvisionSettings
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import LocatedModel, read_tiny
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.tiny import write_tiny
from sentifuse.extract.profile import EncoderEntry

MAPS = {"net_hw": (80, 100), "size": (200, 160)}


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny("detector", 0, tmp_path_factory.mktemp("rcnn"))


@pytest.fixture(scope="module")
def encoder(tiny_file: Path, build: Any) -> Encoder:
    return build("regions", tiny_file, architecture="tiny_rcnn", backend="torchvision", count=20)


def published(architecture: str, weights: str = "COCO_V1", digest: str = "0" * 64, kind: str = "torchvision") -> Any:
    source = ModelSource(kind=kind, name=architecture, architecture=architecture, weights=weights)
    return LocatedModel(source=source, path=Path("x.pth"), architecture=architecture, digest=digest, files={})


def test_the_best_region_is_the_first_of_torchvisions_own_detections(encoder: Encoder, photo: Any) -> None:
    image = photo(200, 150)
    net = encoder.backbone.net
    heads = net.roi_heads
    kept = heads.score_thresh, heads.nms_thresh, heads.detections_per_img
    heads.score_thresh, heads.nms_thresh, heads.detections_per_img = 0.0, 1.0, 100_000
    try:
        with torch.inference_mode():
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
            own = net([pixels])[0]
    finally:
        heads.score_thresh, heads.nms_thresh, heads.detections_per_img = kept
    prepared = encoder.backbone.prepare(image, None)
    row: Any = encoder.read(encoder.backbone.forward([prepared]), [prepared])[0]
    np.testing.assert_allclose(row["boxes"][0], own["boxes"][0].numpy(), atol=1e-4)
    assert row["object_ids"][0] == own["labels"][0] - 1
    np.testing.assert_allclose(row["scores"][0], own["scores"][0], atol=1e-6)
    rows = {
        (tuple(np.round(box, 2)), int(label)) for box, label in zip(own["boxes"].numpy(), own["labels"], strict=True)
    }
    for box, class_id in zip(row["boxes"], row["object_ids"], strict=True):
        assert (tuple(np.round(box, 2)), class_id + 1) in rows


def test_features_are_those_of_the_proposals_and_as_wide_as_the_box_head(encoder: Encoder, photo: Any) -> None:
    prepared = encoder.backbone.prepare(photo(200, 150), None)
    row: Any = encoder.read(encoder.backbone.forward([prepared]), [prepared])[0]
    predictor = encoder.backbone.net.roi_heads.box_predictor
    with torch.inference_mode():
        logits, _ = predictor(torch.from_numpy(row["features"]))
    probabilities = torch.softmax(logits, dim=1)[:, 1:]
    np.testing.assert_allclose(probabilities.max(dim=1).values.numpy(), row["object_scores"], atol=1e-6)
    assert row["features"].shape == (20, 32)


def test_a_proposal_is_a_region_once_with_the_box_of_its_best_class() -> None:
    probabilities = torch.tensor([[0.2, 0.7], [0.6, 0.1]])
    moved = torch.tensor([[[0, 0, 1, 1], [0, 0, 10, 10]], [[50, 0, 150, 20], [0, 0, 1, 1]]], dtype=torch.float32)
    found = regions_of_proposals(torch.eye(2), probabilities, moved, count=5, overlap=0.5, **MAPS)
    assert found.object_ids.tolist() == [1, 0]
    assert found.features.tolist() == [[1, 0], [0, 1]]
    assert found.boxes.tolist() == [[0, 0, 20, 20], [100, 0, 200, 40]]  # twice as large, and clipped at the edge
    np.testing.assert_allclose(found.scores, [0.7, 0.6])


def test_of_overlapping_regions_the_most_probable_stays_whatever_its_class() -> None:
    probabilities = torch.tensor([[0.3, 0.0], [0.0, 0.8], [0.4, 0.0]])
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [40, 40, 50, 50]], dtype=torch.float32)[:, None]
    found = regions_of_proposals(torch.eye(3), probabilities, boxes, count=5, overlap=0.5, **MAPS)
    assert found.features.argmax(axis=1).tolist() == [1, 2]


def test_boxes_moved_out_of_the_image_and_no_proposals_at_all_are_no_regions() -> None:
    out = torch.tensor([[[-30.0, 5.0, -10.0, 20.0]]])
    assert len(regions_of_proposals(torch.eye(1), torch.ones(1, 1), out, count=5, overlap=0.5, **MAPS).boxes) == 0
    none = regions_of_proposals(torch.zeros(0, 7), torch.zeros(0, 3), torch.zeros(0, 3, 4), count=5, overlap=1, **MAPS)
    assert none.features.shape == (0, 7)
    assert none.boxes.shape == (0, 4)


def test_images_without_proposals_have_no_rows(tiny_file: Path, build: Any, photo: Any) -> None:
    strict = build("regions", tiny_file, architecture="tiny_rcnn", backend="torchvision", count=20)
    strict.backbone.net.rpn.score_thresh = 2.0
    prepared = strict.backbone.prepare(photo(60, 60), None)
    row = strict.read(strict.backbone.forward([prepared]), [prepared])[0]
    assert row["features"].shape == (0, 32)
    assert row["image_size"].tolist() == [60, 60]


def test_the_network_resizes_and_normalises_as_torchvision_does(encoder: Encoder, photo: Any) -> None:
    image = photo(333, 222)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    meant, _ = encoder.backbone.net.transform([pixels])
    (height, width) = meant.image_sizes[0]
    prepared: Any = encoder.backbone.prepare(image, None)
    np.testing.assert_array_equal(prepared.pixels, meant.tensors[0, :, :height, :width].numpy())


def test_sizes_can_be_set(tiny_file: Path, build: Any, photo: Any) -> None:
    sizes = {"min_size": 64, "max_size": 70}
    made = build("regions", tiny_file, architecture="tiny_rcnn", backend="torchvision", **sizes)
    assert made.backbone.prepare(photo(300, 200), None).pixels.shape == (3, 46, 70)
    assert made.recipe["settings"] == {"backend": "torchvision", **sizes}


def test_a_strip_of_which_nothing_is_left_is_refused(encoder: Encoder) -> None:
    with pytest.raises(DataError, match="5000x20 pixels: too thin, nothing is left when its long side is made 160"):
        encoder.backbone.prepare(Image.new("RGB", (5000, 20)), None)


def test_older_files_with_older_names_are_the_same_network(tiny_file: Path, tmp_path: Path) -> None:
    state = load_file(tiny_file)
    older = {name.replace("rpn.head.conv.0.0.", "rpn.head.conv."): value for name, value in state.items()}
    assert older.keys() != state.keys()
    save_file(older, tmp_path / "older.safetensors")
    loaded = load_detector("tiny_rcnn", tmp_path / "older.safetensors", norm_eps=1e-5)
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_a_file_may_have_other_classes(tiny_file: Path, tmp_path: Path) -> None:
    state = load_file(tiny_file)
    for part in ("weight", "bias"):
        state[f"roi_heads.box_predictor.cls_score.{part}"] = state[f"roi_heads.box_predictor.cls_score.{part}"][
            :4
        ].clone()
        state[f"roi_heads.box_predictor.bbox_pred.{part}"] = state[f"roi_heads.box_predictor.bbox_pred.{part}"][
            :16
        ].clone()
    save_file(state, tmp_path / "three.safetensors")
    net: Any = load_detector("tiny_rcnn", tmp_path / "three.safetensors", norm_eps=1e-5)
    assert net.roi_heads.box_predictor.cls_score.out_features == 4


@pytest.mark.slow
def test_a_file_that_does_not_fit_is_refused_with_what_is_wrong(tiny_file: Path, tmp_path: Path) -> None:
    state = load_file(tiny_file)
    del state["rpn.head.cls_logits.bias"]
    state["more"] = torch.zeros(1)
    save_file(state, tmp_path / "torn.safetensors")
    with pytest.raises(ModelMismatch, match=r"1 tensors missing \(rpn.head.cls_logits.bias\); 1 tensors unexpected"):
        load_detector("tiny_rcnn", tmp_path / "torn.safetensors", norm_eps=1e-5)


@pytest.mark.slow
def test_a_file_of_another_detector_names_it(tiny_file: Path) -> None:
    with pytest.raises(ModelMismatch, match=r"not the weights of fasterrcnn_resnet50_fpn: .* It does fit tiny_rcnn"):
        load_detector("fasterrcnn_resnet50_fpn", tiny_file, norm_eps=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_resnet50_fpn"])
def test_torchvisions_own_architectures_run(
    architecture: str, tmp_path: Path, build: Any, encode: Any, photo: Any
) -> None:
    from torchvision.models import get_model
    from torchvision.models.detection._utils import overwrite_eps
    from torchvision.ops.misc import FrozenBatchNorm2d

    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = get_model(architecture, weights=None, weights_backbone=None, min_size=128, max_size=200).eval()
    published_names = {name: value for name, value in net.state_dict().items() if "num_batches" not in name}
    file = tmp_path / "detector.safetensors"
    save_file(published_names, file)  # as published: the norms are frozen, so no counters
    settings = {"backend": "torchvision", "min_size": 128, "max_size": 200, "norm_eps": 0.0}
    made = build("regions", file, architecture=architecture, **settings)
    for name, module in list(net.backbone.body.named_modules()):
        if isinstance(module, torch.nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(module.num_features)
            frozen.load_state_dict(module.state_dict())
            net.backbone.body.set_submodule(name, frozen)
    overwrite_eps(net, 0.0)
    row = encode(made, [(photo(150, 100), None)])[0]
    net.roi_heads.score_thresh, net.roi_heads.nms_thresh, net.roi_heads.detections_per_img = 0.0, 1.0, 10**6
    with torch.inference_mode():
        own = net([torch.from_numpy(np.array(photo(150, 100))).permute(2, 0, 1) / 255])[0]
    assert row["features"].shape[1] == 1024
    norms = [module for module in made.backbone.net.backbone.body.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {0.0}
    np.testing.assert_allclose(row["scores"][0], own["scores"][0], atol=1e-5)
    for box, class_id, score in zip(row["boxes"][:5], row["object_ids"], row["scores"], strict=False):
        near = (own["boxes"] - torch.from_numpy(box)).abs().amax(dim=1) + 1e3 * (own["labels"] != class_id + 1)
        assert near.min() < 0.02
        assert abs(own["scores"][near.argmin()] - score) < 1e-5


def test_published_weights_bring_their_epsilon_wherever_they_lie() -> None:
    plain = TorchvisionSettings(backend="torchvision")
    names = ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2")
    assert [TorchvisionRegions.resolve(plain, published(name), frozenset()).norm_eps for name in names] == [0.0, 1e-5]
    moved = published("fasterrcnn_resnet50_fpn", digest="258fb6c6" + "0" * 56, kind="path")
    assert TorchvisionRegions.resolve(plain, moved, frozenset()).norm_eps == 0.0
    given = TorchvisionSettings(backend="torchvision", norm_eps=0.001)
    assert TorchvisionRegions.resolve(given, moved, frozenset({"norm_eps"})).norm_eps == 0.001
    other = published("fasterrcnn_resnet50_fpn", digest="f37072fd" + "0" * 56, kind="path")  # a classifier's digest
    assert TorchvisionRegions.resolve(plain, other, frozenset()) == plain


def test_a_classifier_is_no_detector_and_a_detector_no_classifier() -> None:
    plain = TorchvisionSettings(backend="torchvision")
    with pytest.raises(ConfigError, match=r"no detector\. There are: fasterrcnn_mobilenet"):
        TorchvisionRegions.resolve(plain, published("resnet18", "IMAGENET1K_V1"), frozenset())
    with pytest.raises(ConfigError, match="a detector, expected an image classifier"):
        published_preprocessing(plain, published("fasterrcnn_resnet50_fpn"), frozenset())
    with pytest.raises(ConfigError, match="unknown detector 'resnet18'"):
        TorchvisionRegions.backbone_spec(plain, published("resnet18", kind="path"), "float32")


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"overlap": 1.5}, {"min_size": 8}, {"norm_eps": -1.0}, {"features": "float64"}, {"mode": "fixed36"}],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], tiny_file: Path, build: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build("regions", tiny_file, architecture="tiny_rcnn", backend="torchvision", **wrong)


def test_half_precision_leaves_boxes_in_full(monkeypatch: pytest.MonkeyPatch, photo: Any) -> None:
    from sentifuse.extract import precision

    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    model = read_tiny(ModelSource(kind="tiny", name="detector"))
    entry = EncoderEntry(name="regions", model=model.source, settings={"backend": "torchvision", "count": 100})
    rows = []
    for asked, dtype in (("exact", "float32"), ("fastest", "bfloat16")):
        plan = describe_encoder(entry, model, precision=asked, device="cpu")
        assert plan.recipe["precision"] == dtype
        made = plan.build(device="cpu", share={})
        prepared = made.backbone.prepare(photo(150, 100), None)
        rows.append(made.read(made.backbone.forward([prepared]), [prepared])[0])
    exact, fastest = rows
    assert not np.array_equal(exact["features"], fastest["features"])
    assert (fastest["boxes"] != fastest["boxes"].astype(np.float16)).any()
    assert fastest["features"].dtype == np.float32
