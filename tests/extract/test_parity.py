"""Parity: rows are matched by their boxes, every kind of difference is found and said, and equal is equal."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sentifuse import ConfigError, DataError
from sentifuse.extract.encoder import EncoderPlan, describe_encoder
from sentifuse.extract.models.located import read_tiny
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.parity import compare_rows, list_images, match_boxes, run_parity, summarise
from sentifuse.extract.profile import EncoderEntry

SIZE = {"resize": [96, 96], "crop": 0, "mean": [0.5] * 3, "std": [0.5] * 3}


def rows(count: int = 6, **changed: Any) -> dict[str, Any]:
    """Regions side by side, 10 pixels wide."""
    left = 20.0 * np.arange(count)
    made = {
        "features": np.eye(8, dtype=np.float32)[:count],
        "boxes": np.stack([left, 0 * left, left + 10, 0 * left + 10], axis=1).astype(np.float32),
        "scores": np.linspace(0.9, 0.1, count, dtype=np.float32),
        "object_ids": np.arange(count, dtype=np.int32),
        "object_scores": np.linspace(0.9, 0.1, count, dtype=np.float32),
        "attribute_ids": np.arange(count, dtype=np.int32),
    }
    return made | changed


def plan(backend: str, **settings: Any) -> EncoderPlan:
    model = read_tiny(ModelSource(kind="tiny", name="image" if backend == "grid" else "detector"))
    one = EncoderEntry(name="regions", model=model.source, settings={"backend": backend, **settings})
    return describe_encoder(one, model, precision="exact", device="cpu")


@pytest.fixture
def files(tmp_path: Path, photo: Any) -> list[Path]:
    made = []
    for size in ((90, 60), (64, 64)):
        made.append(tmp_path / f"{size[0]}.png")
        photo(*size).save(made[-1])
    return made


def test_equal_rows_have_no_differences_in_any_order() -> None:
    order = np.random.default_rng(0).permutation(6)
    shuffled = {name: value[order] for name, value in rows().items()}
    total = summarise([compare_rows(rows(), shuffled)])
    assert total.differences == []
    assert (total.matched, total.iou_min, total.cosine_min, total.objects_equal) == (6, 1.0, 1.0, 1.0)
    assert (total.box_px_max, total.feature_max, total.score_max) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"boxes": rows()["boxes"] + np.float32([0, 0, 0.5, 0])},
            r"boxes overlap by 0.95\d\d somewhere, expected 0.99",
        ),
        ({"object_ids": np.int32([0, 1, 2, 3, 4, 9])}, r"16.7 % of the objects are others"),
        ({"attribute_ids": np.int32([9, 9, 9, 3, 4, 5])}, r"50 % of the attributes are others"),
        ({"features": rows()["features"] + np.float32(0.01)}, r"features have cosine 0.9996\d\d somewhere"),
        ({"features": np.zeros((6, 8), np.float32)}, r"features have cosine 0.000000 somewhere"),
    ],
)
def test_each_difference_is_said(changed: dict[str, Any], expected: str) -> None:
    found = summarise([compare_rows(rows(), rows(**changed))]).differences
    assert len(found) == 1
    assert re.match(expected, found[0])


def test_rows_without_a_partner_are_counted_on_their_side() -> None:
    fewer = {name: value[:4] for name, value in rows().items()}
    total = summarise([compare_rows(rows(), fewer)])
    assert total.rows == (6, 4)
    assert total.differences == ["2 and 0 rows have no partner"]


def test_partners_are_those_that_overlap_most_in_all() -> None:
    # The first of `a` overlaps both of `b`, its best one is the only one the second can have.
    a = np.array([[0.0, 0, 10, 10], [3, 0, 13, 10]])
    b = np.array([[2.0, 0, 12, 10], [-3, 0, 7, 10]])
    first, second, iou = match_boxes(a, b)
    assert list(zip(first, second, strict=True)) == [(0, 1), (1, 0)]
    np.testing.assert_allclose(iou, [7 / 13, 9 / 11])
    assert len(match_boxes(a, b + 100)[0]) == 0


def test_no_rows_on_either_side_are_the_same_and_on_one_side_are_not() -> None:
    none = {name: value[:0] for name, value in rows().items()}
    assert summarise([compare_rows(none, none)]).differences == []
    assert summarise([compare_rows(rows(1), none)]).differences == ["1 and 0 rows have no partner"]
    flat = np.array([[3.0, 3, 3, 9]])  # a box without an area is itself
    assert match_boxes(flat, flat)[2].tolist() == [1.0]


def test_what_one_side_does_not_have_is_not_compared() -> None:
    other = rows(features=np.ones((6, 3), np.float32))
    del other["object_ids"], other["object_scores"], other["attribute_ids"]
    total = summarise([compare_rows(rows(), other)])
    assert total.matched == 6
    missing = total.cosine_min, total.feature_max, total.objects_equal, total.attributes_equal, total.score_max
    assert missing == (None,) * 5
    assert total.differences == [
        "features are 8 and 3 wide: they have no cosine",
        "only one of the two knows objects",
        "only one of the two knows attributes",
    ]


@pytest.mark.parametrize("lacking", ["object_ids", "attribute_ids"])
@pytest.mark.parametrize("count", [0, 6])
def test_what_only_one_side_stores_is_a_difference_even_without_rows(lacking: str, count: int) -> None:
    fewer = rows(count)
    del fewer[lacking]
    word = lacking.removesuffix("_ids")
    for a, b in ((rows(count), fewer), (fewer, rows(count))):
        assert summarise([compare_rows(a, b)]).differences == [f"only one of the two knows {word}s"]


def test_features_of_another_width_are_a_difference_though_all_else_agrees() -> None:
    wider = rows(features=np.eye(9, dtype=np.float32)[:6])
    total = summarise([compare_rows(rows(), rows()), compare_rows(rows(), wider)])
    assert (total.matched, total.cosine_min) == (12, 1.0)
    assert total.differences == ["features are 8 and 9 wide: they have no cosine"]


def test_a_summary_over_images_weighs_rows_and_keeps_the_worst() -> None:
    one = compare_rows(rows(2), rows(2, object_ids=np.int32([5, 5])))
    total = summarise([compare_rows(rows(6), rows(6)), one])
    assert total.rows == (8, 8)
    assert total.objects_equal == 0.75


def test_a_backend_is_the_same_as_itself(files: list[Path]) -> None:
    done: list[int] = []
    found = run_parity({"a": plan("torchvision"), "b": plan("torchvision")}, files, progress=done.append)
    assert found.is_same
    assert (
        found.verdict == f"the same regions of 2 images: all {found.total.matched} rows have their partner, and agree"
    )
    assert sum(done) == 4
    document = json.loads(json.dumps(found.to_json()))
    assert document["is_same"] is True
    assert [one["image"] for one in document["images"]] == [str(file) for file in files]
    assert [side["backend"] for side in document["sides"]] == ["torchvision"] * 2
    assert all(side["seconds_per_image"] > 0 for side in document["sides"])


def test_two_backends_are_told_apart_and_what_cannot_be_compared_is_said(files: list[Path]) -> None:
    found = run_parity({"a": plan("grid", **SIZE), "b": plan("torchvision")}, files)
    assert not found.is_same
    assert found.verdict.startswith(
        "not the same regions of 2 images: features are 64 and 32 wide: they have no cosine; "
        "only one of the two knows objects; "
    )
    assert found.notes == ("scores of one are probabilities, of the other not: they are not compared",)


def test_an_image_that_one_side_alone_can_use_is_a_difference(files: list[Path], tmp_path: Path) -> None:
    strip = tmp_path / "strip.png"
    Image.new("RGB", (5000, 20)).save(strip)
    wide = plan("torchvision", max_size=4096)  # the same for the other images, which reach neither bound
    found = run_parity({"a": plan("torchvision"), "b": wide}, [*files, strip])
    assert (found.one_sided, found.total.differences) == ((str(strip),), [])
    assert not found.is_same
    assert found.verdict == "not the same regions of 2 images: 1 image can be used by one of the two only"


def test_an_image_that_neither_can_use_is_said_and_is_no_difference(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes(files[0].read_bytes()[:50])
    found = run_parity({"a": plan("torchvision"), "b": plan("torchvision")}, [*files, tmp_path / "torn.jpg"])
    assert (found.is_same, found.one_sided) == (True, ())
    assert found.verdict.endswith("and agree; 1 image can be used by neither")


def test_images_that_cannot_be_used_are_named_and_the_others_compared(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes(files[0].read_bytes()[:50])
    Image.new("RGB", (5000, 20)).save(tmp_path / "strip.png")
    images = [*files, tmp_path / "torn.jpg", tmp_path / "strip.png"]
    found = run_parity({"a": plan("grid", **SIZE), "b": plan("torchvision")}, images)
    assert len(found.images) == 2
    assert "too thin" in found.failed[str(tmp_path / "strip.png")]
    assert found.failed[str(tmp_path / "strip.png")].startswith("b: ")
    assert "a: " in found.failed[str(tmp_path / "torn.jpg")]
    assert "; b: " in found.failed[str(tmp_path / "torn.jpg")]
    with pytest.raises(DataError, match=r"none of 1 images can be used by both; .*torn.jpg: a: "):
        run_parity({"a": plan("grid", **SIZE), "b": plan("torchvision")}, images[2:3])


def test_only_two_encoders_of_regions_are_compared() -> None:
    one = plan("torchvision")
    with pytest.raises(ConfigError, match="found a, expected two encoders of regions"):
        run_parity({"a": one}, [])
    with pytest.raises(ConfigError, match="expected two encoders of regions"):
        run_parity({"a": one, "b": replace(one, name="context")}, [])


def test_folders_are_searched_in_order_and_named_files_are_taken_as_they_are(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "deep/c.webp", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = list_images([tmp_path, tmp_path / "a.txt"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.png", "b.JPG", "deep/c.webp", "a.txt"]
    assert list_images([tmp_path], limit=1) == [tmp_path / "a.png"]
    with pytest.raises(DataError, match="no such file or folder"):
        list_images([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image there, expected files such as"):
        list_images([tmp_path / "empty"])
