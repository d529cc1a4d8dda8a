"""Near-duplicates among real photos, by real embeddings: copies are found, other photos are not."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sentifuse import cli
from sentifuse.cache.current import read_current
from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.labels.near_duplicates import by_cosine, by_hash
from sentifuse.crowd.vectors import gather
from sentifuse.data.image_hashes import read_image_hashes
from sentifuse.data.manifest import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.weights]
PHOTOS = 40
KINDS = ("1", "saved", "halved", "cut")  # the original first: groups are named by the smallest id


@pytest.fixture(scope="module")
def copies(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artefacts with photos and three copies of each, hashed, and encoded by MobileNetV2."""
    folder = tmp_path_factory.mktemp("copies")
    rows = []
    for path in sorted((shared / "mvsa_single/data").glob("*.jpg"))[: 2 * PHOTOS]:
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        width, height = photo.size
        if min(width, height) < 200 or len(rows) == PHOTOS * len(KINDS):
            continue
        inner = (width // 20, height // 20, width - width // 20, height - height // 20)
        made = (photo, photo, photo.resize((width // 2, height // 2)), photo.crop(inner))
        for kind, image, quality in zip(KINDS, made, (90, 40, 85, 85), strict=True):
            file = folder / f"{path.stem}-{kind}.jpg"
            image.save(file, quality=quality)
            rows.append((file.stem, str(file), "a text"))
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(("id", "image", "text"))
        writer.writerows(rows)
    here = ["--artifacts", str(folder / "artifacts")]
    prepare = ["data", "prepare", "pairs", "--name", "copies", "--table", str(folder / "pairs.csv")]
    extract = ["extract", "--dataset", "copies", "--profile", "offline", "--encoders", "context", "--device", "cpu"]
    assert cli.run([*prepare, *here]) == 0
    assert cli.run([*extract, "--weights", str(shared / "weights"), *here]) == 0
    return folder / "artifacts"


def found_shares(ids: tuple[str, ...], groups: tuple[str, ...]) -> dict[str, float]:
    """Of each kind of copy the share that is in the group of its original."""
    group_of = dict(zip(ids, groups, strict=True))
    pairs = [id_.rsplit("-", 1) for id_ in ids]
    return {
        kind: float(np.mean([group_of[f"{stem}-{kind}"] == group_of[f"{stem}-1"] for stem, k in pairs if k == kind]))
        for kind in KINDS[1:]
    }


def groups_of_originals(ids: tuple[str, ...], groups: tuple[str, ...]) -> int:
    return len({group for id_, group in zip(ids, groups, strict=True) if id_.endswith("-1")})


def test_hashes_find_copies_of_another_quality_or_size(copies: Path) -> None:
    folder = copies / "datasets/copies"
    manifest, hashes = read_manifest(folder), read_image_hashes(folder)
    groups = by_hash([hashes[pair.image_digest] for pair in manifest.pairs], manifest.ids)
    shares = found_shares(manifest.ids, groups)
    assert len(manifest) == PHOTOS * len(KINDS)
    assert shares["saved"] >= 0.95
    assert shares["halved"] >= 0.95
    assert shares["cut"] < 0.5  # what hashes are blind to
    assert groups_of_originals(manifest.ids, groups) == PHOTOS


def test_cosines_find_what_is_cut_too(copies: Path) -> None:
    reader = FeatureReader(read_current(copies / "cache/copies").directory("context"))
    ids = read_manifest(copies / "datasets/copies").ids
    groups = by_cosine(gather(reader, "vector", ids).astype(np.float32), ids)
    shares = found_shares(ids, groups)
    assert shares["saved"] >= 0.9
    assert shares["cut"] >= 0.75
    assert groups_of_originals(ids, groups) == PHOTOS
