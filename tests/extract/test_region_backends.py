"""One class of laws for every backend that finds regions: what is promised of the fields holds whoever computes them.

detectron2 is a stand-in with exactly the names that our adapter uses (tests/extract/fake_detectron2), and the real one
where a checkout is named: pytest -m "" --detectron2 DIR tests/extract/test_region_backends.py
"""

import importlib
import importlib.util
import pickle  # to write a file as the zoo's are
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sentifuse import DataError
from sentifuse.cache.fingerprint import fingerprint
from sentifuse.extract.detector import architecture
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.detector.golden.self_test import MINIATURE
from sentifuse.extract.encoder import Encoder, describe_encoder
from sentifuse.extract.models.detectron2_package import NEEDS
from sentifuse.extract.models.located import LocatedModel, read_file_model, read_tiny
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.parity import compare_rows, summarise
from sentifuse.extract.profile import EncoderEntry

FAKE = Path(__file__).parent / "fake_detectron2"
SIZES = replace(MINIATURE, class_count=12, attribute_count=6)
SEED = 102  # even: its anchors are not those of the formula
FEW = {"count": 12, "proposals": 40}
REAL = pytest.mark.slow
DETECTORS = [
    "torchvision",
    "vg",
    "detectron2",
    "detectron2 config",
    pytest.param("real detectron2", marks=REAL),
    pytest.param("real detectron2 config", marks=REAL),
]
CLASSES = {"torchvision": 7, "vg": 12, "detectron2": 12, "detectron2 config": 9, "real detectron2 config": 80}
PATCHED_NAME = "miniature"


@contextmanager
def detectron2_packages(folder: Path | None) -> Iterator[None]:
    """What detectron2 imports, as empty files where it is not installed; and no trace of detectron2 afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        if folder is not None:
            for name in NEEDS:
                if importlib.util.find_spec(name) is None:
                    (folder / f"{name}.py").touch()
            patch.syspath_prepend(str(folder))
        try:
            yield
        finally:
            for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
                del sys.modules[name]


def located(file: Path, network: str) -> LocatedModel:
    return read_file_model(ModelSource(kind="path", name=str(file), architecture=network), file)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Callable[..., Encoder]]:
    """make(backend, **settings) → its encoder with small weights; each is built once. None takes a setting away."""
    folder = tmp_path_factory.mktemp("backends")
    made: dict[str, Encoder] = {}

    def weights() -> LocatedModel:
        file = folder / "miniature.safetensors"
        if not file.exists():
            save_file({key: torch.from_numpy(value) for key, value in synthetic_weights(SEED, SIZES).items()}, file)
        return located(file, PATCHED_NAME)

    def real_folder() -> Path:
        given = request.config.getoption("--detectron2")
        if not given:
            pytest.skip("no real detectron2 at hand; --detectron2 DIR names a checkout, which need not be compiled")
        return Path(given).resolve()

    def prepare(backend: str) -> tuple[LocatedModel, dict[str, Any]]:
        if backend == "grid":
            size = {"resize": [96, 96], "crop": 0, "mean": [0.5] * 3, "std": [0.5] * 3}
            return read_tiny(ModelSource(kind="tiny", name="image")), {"count": 12, **size}
        if backend == "torchvision":
            return read_tiny(ModelSource(kind="tiny", name="detector")), {"count": 12}
        if backend == "vg":
            return weights(), dict(FEW)
        source = real_folder() if backend.startswith("real") else FAKE
        if not backend.endswith("config"):
            return weights(), {"source": str(source), **FEW}
        name = "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml" if backend.startswith("real") else "tiny.yaml"
        file = folder / f"{backend}.pkl"
        write_zoo_weights(file, source, name)
        return located(file, "generalized_rcnn"), {"source": str(source), "config": name, "count": 12}

    def build(backend: str, **settings: Any) -> Encoder:
        key = f"{backend} {settings}"
        if key in made:
            return made[key]
        with detectron2_packages(None if backend.startswith("real") else folder):
            model, own = prepare(backend)
            name = "detectron2" if "detectron2" in backend else backend
            chosen = {key: value for key, value in {**own, **settings}.items() if value is not None}
            entry = EncoderEntry(name="regions", model=model.source, settings={"backend": name, **chosen})
            plan = describe_encoder(entry, model, precision="exact", device="cpu")
            made[key] = plan.build(device="cpu", share={})
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architecture.ARCHITECTURES, PATCHED_NAME, SIZES)
        yield build


def write_zoo_weights(file: Path, source: Path, config: str) -> None:
    """Seeded random weights of a configuration, in the zoo's layout."""
    from sentifuse.extract.backbones.detectron2_network import import_detectron2
    from sentifuse.extract.models.detectron2_package import find_detectron2

    package = find_detectron2(str(source))
    library = import_detectron2(package)
    settings = library.config.get_cfg()
    settings.merge_from_file(str(package.config_file(config)), allow_unsafe=False)
    settings.MODEL.WEIGHTS, settings.MODEL.DEVICE = "", "cpu"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = library.modeling.build_model(settings).state_dict()
    # Untrained, a deep network's maps grow from block to block, and scores hardly differ.
    factors = {"conv3.norm.weight": 0.2, "cls_score.weight": 10.0}
    model = {
        name: value.numpy() * next((factor for end, factor in factors.items() if name.endswith(end)), 1.0)
        for name, value in state.items()
    }
    file.write_bytes(pickle.dumps({"model": model, "__author__": "a test"}))


@pytest.fixture(scope="module")
def pictures(photo: Callable[[int, int], Image.Image]) -> list[Image.Image]:
    """Strips, for networks that enlarge the shorter side to 600 or 800 pixels; two of them of one size."""
    strip = photo(120, 8)
    return [strip, photo(7, 90), strip.transpose(Image.Transpose.ROTATE_180), photo(100, 7)]


@pytest.fixture(scope="module")
def rows_of(make: Any, pictures: list[Image.Image]) -> Callable[[str], list[Any]]:
    """rows_of(backend) → the rows of the pictures, computed once in one go."""
    known: dict[str, list[Any]] = {}

    def get(backend: str) -> list[Any]:
        if backend not in known:
            known[backend] = encode(make(backend), pictures)
        return known[backend]

    return get


def encode(encoder: Encoder, images: list[Image.Image]) -> list[Any]:
    """Rows in the order of the images, in batches of equal keys."""
    prepared = [encoder.backbone.prepare(image, None) for image in images]
    groups: dict[Any, list[int]] = {}
    for position, one in enumerate(prepared):
        groups.setdefault(encoder.backbone.batch_key(one), []).append(position)
    rows: dict[int, Any] = {}
    for positions in groups.values():
        batch = [prepared[position] for position in positions]
        rows.update(zip(positions, encoder.read(encoder.backbone.forward(batch), batch), strict=True))
    return [rows[position] for position in range(len(images))]


def encode_or_reason(encoder: Encoder, image: Image.Image) -> Any:
    """The rows of one image, or the error that makes it fail."""
    try:
        return encode(encoder, [image])[0]
    except DataError as error:
        return error


@pytest.mark.parametrize("backend", ["grid", *DETECTORS])
class TestEveryBackend:
    """What stage 2 relies on."""

    def test_rows_are_what_the_fields_promise(self, backend: str, make: Any, rows_of: Any) -> None:
        row, encoder = rows_of(backend)[0], make(backend)
        assert list(row) == [field.name for field in encoder.fields]
        assert {field.name: field.dtype for field in encoder.fields} == encoder.recipe["dtypes"]
        count = len(row["boxes"])
        assert 0 < count <= 12
        for field in encoder.fields:
            value = row[field.name]
            assert value.dtype == np.dtype(field.dtype)
            assert value.shape == ((count, *field.shape) if field.is_ragged else field.shape)
        assert {"features", "boxes", "boxes_normalised", "scores", "image_size"} <= set(row)
        assert row["image_size"].tolist() == [120, 8]

    def test_rows_fall_by_score(self, backend: str, rows_of: Any) -> None:
        for row in rows_of(backend):
            assert (np.diff(row["scores"]) <= 0).all()

    def test_boxes_lie_in_the_image_and_are_normalised_by_it(self, backend: str, rows_of: Any, pictures: Any) -> None:
        for image, row in zip(pictures, rows_of(backend), strict=True):
            boxes, size = row["boxes"], np.array(image.size * 2)
            assert (boxes >= 0).all()
            assert (boxes <= size * (1 + 1e-6)).all()
            assert (boxes[:, :2] <= boxes[:, 2:]).all()
            np.testing.assert_allclose(row["boxes_normalised"] * size, boxes, atol=1e-4)

    def test_other_images_of_the_batch_change_nothing(
        self, backend: str, make: Any, rows_of: Any, pictures: Any
    ) -> None:
        encoder, together = make(backend), rows_of(backend)
        reversed_order = encode(encoder, pictures[::-1])[::-1]
        alone = [encode(encoder, [image])[0] for image in pictures[:2]]
        for one, other in [*zip(together, reversed_order, strict=True), *zip(together[:2], alone, strict=True)]:
            for name, value in one.items():
                np.testing.assert_allclose(other[name], value, atol=1e-5, err_msg=name)

    def test_images_differ_in_their_rows(self, backend: str, rows_of: Any) -> None:
        first, _, turned, _ = rows_of(backend)
        assert np.abs(first["features"][:1] - turned["features"][:1]).max() > 1e-4

    def test_the_same_image_gives_the_same_rows_again(
        self, backend: str, make: Any, rows_of: Any, pictures: Any
    ) -> None:
        again = encode(make(backend), pictures[:1])[0]
        for name, value in rows_of(backend)[0].items():
            np.testing.assert_array_equal(again[name], value)

    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 5), (1, 5000), (2000, 8)])
    def test_images_of_odd_sizes_have_rows_or_a_reason(self, backend: str, size: Any, make: Any, photo: Any) -> None:
        if backend.startswith("real"):  # where squares become 800 x 800
            size = {(1, 1): (9, 1), (3, 5): (3, 25)}.get(size, size)
        row = encode_or_reason(make(backend), photo(*size))
        if isinstance(row, DataError):
            assert re.search("too thin|too narrow|no cell of the grid", str(row))
            assert max(size) >= 40 * min(size)
            return
        assert np.isfinite(row["features"]).all()
        assert row["image_size"].tolist() == list(size)

    def test_a_recipe_names_its_backend_and_no_folder(self, backend: str, make: Any) -> None:
        recipe = make(backend).recipe
        assert recipe["settings"].get("backend", "vg") in {"vg", backend.removeprefix("real ").partition(" ")[0]}
        assert "/" not in str({**recipe["settings"], "config": ""})


@pytest.mark.parametrize("backend", DETECTORS)
class TestEveryDetector:
    """What cells of a grid have no use for."""

    def test_objects_are_counted_from_0_without_background(self, backend: str, rows_of: Any) -> None:
        for row in rows_of(backend):
            assert row["object_ids"].min() >= 0
            assert row["object_ids"].max() < CLASSES.get(backend, 12)
            assert ((row["object_scores"] > 0) & (row["object_scores"] <= 1)).all()

    def test_fewer_regions_are_the_first_ones(self, backend: str, make: Any, rows_of: Any, pictures: Any) -> None:
        many, few = rows_of(backend)[0], encode(make(backend, count=3), pictures[:1])[0]
        assert len(few["boxes"]) == 3
        for name in ("features", "boxes", "scores", "object_ids"):
            np.testing.assert_array_equal(few[name], many[name][:3])

    def test_half_floats_are_stored_on_demand(self, backend: str, make: Any, rows_of: Any, pictures: Any) -> None:
        full, half = rows_of(backend)[0], encode(make(backend, features="float16"), pictures[:1])[0]
        assert half["features"].dtype == np.float16
        np.testing.assert_allclose(half["features"], full["features"], rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(half["boxes"], full["boxes"])

    def test_an_image_without_anything_has_rows_or_none(self, backend: str, make: Any) -> None:
        row = encode(make(backend), [Image.new("RGB", (120, 8))])[0]
        assert len(row["features"]) == len(row["boxes"]) <= 12
        assert all(np.isfinite(value).all() for value in row.values())
        assert row["image_size"].tolist() == [120, 8]


@pytest.mark.parametrize("backend", ["detectron2", pytest.param("real detectron2", marks=REAL)])
@pytest.mark.parametrize("mode", ["fixed36", "caffe36", "adaptive"])
def test_detectron2_gives_what_vg_gives_for_the_same_weights(
    backend: str, mode: str, make: Any, pictures: list[Image.Image]
) -> None:
    settings = {"mode": mode, "count": None, "most": 20} if mode == "adaptive" else {"mode": mode}
    ours, theirs = (encode(make(name, **settings), pictures[:2]) for name in ("vg", backend))
    total = summarise([compare_rows(a, b) for a, b in zip(ours, theirs, strict=True)])
    assert total.differences == []
    assert min(total.rows) >= 20
    assert total.box_px_max < 1e-3
    assert total.feature_max < 1e-4
    assert total.score_max < 1e-5


@REAL
def test_regions_of_a_configuration_are_among_detectron2s_own_detections(
    make: Any, rows_of: Any, pictures: Any
) -> None:
    row, encoder, image = rows_of("real detectron2 config")[0], make("real detectron2 config"), pictures[0]
    prepared, net = encoder.backbone.prepare(image, None), encoder.backbone.net
    predictor = net.roi_heads.box_predictor
    kept = predictor.test_score_thresh, predictor.test_nms_thresh, predictor.test_topk_per_image
    predictor.test_score_thresh, predictor.test_nms_thresh, predictor.test_topk_per_image = 0.0, 1.0, -1  # all of them
    pixels = torch.from_numpy(prepared.pixels).permute(2, 0, 1).float()
    with torch.inference_mode():
        (own,) = net.inference([{"image": pixels, "width": image.width, "height": image.height}])
    predictor.test_score_thresh, predictor.test_nms_thresh, predictor.test_topk_per_image = kept
    found = own["instances"]
    np.testing.assert_allclose(row["scores"][0], found.scores.max(), atol=1e-6)
    for box, class_id, score in zip(row["boxes"], row["object_ids"], row["scores"], strict=True):
        far = (found.pred_boxes.tensor - torch.from_numpy(box)).abs().amax(dim=1) + 1e3 * (
            found.pred_classes != class_id
        )
        assert far.min() < 1e-3
        assert abs(found.scores[far.argmin()] - score) < 1e-6


def test_no_two_backends_share_a_fingerprint(make: Any) -> None:
    names = ["grid", "torchvision", "vg", "detectron2", "detectron2 config"]
    assert len({fingerprint(make(name).recipe) for name in names}) == len(names)
