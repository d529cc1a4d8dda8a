"""A picture is hashed once per content, whatever happens in between, and never under another file's name."""

from collections.abc import Callable
from pathlib import Path

import imagehash
import pytest
from PIL import Image

from sentifuse.data import image_hashes
from sentifuse.data.image_hashes import ensure_image_hashes, read_image_hashes
from sentifuse.data.images import read_image
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import prepare

ROWS = {str(n): "positive,positive" for n in range(1, 8)}


@pytest.fixture
def root(make_mvsa: Callable[..., Path]) -> Path:
    """Seven pairs; 2 has the file of 1, 3 a broken one, 4 none."""
    root = make_mvsa(ROWS)
    data = root / "data"
    for n in range(1, 8):
        Image.linear_gradient("L").rotate(40 * n).save(data / f"{n}.jpg")
    (data / "2.jpg").write_bytes((data / "1.jpg").read_bytes())
    (data / "3.jpg").write_bytes(b"no image")
    (data / "4.jpg").unlink()
    return root


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """The dataset prepared, its hashes forgotten."""
    prepare("mvsa_single", artifacts=tmp_path, root=root)
    folder = tmp_path / "datasets" / "mvsa_single"
    (folder / image_hashes.FILE_NAME).unlink()
    return folder


def test_hash_is_that_of_imagehash_and_a_broken_image_has_none(folder: Path) -> None:
    manifest = read_manifest(folder)
    steps: list[tuple[int, int]] = []
    hashes = ensure_image_hashes(folder, manifest, lambda done, total: steps.append((done, total)))
    pairs = manifest.by_id()
    assert steps == [(n, 5) for n in range(1, 6)]  # 1 and 2 are one content, 4 has none
    assert hashes[pairs["3"].image_digest] is None
    image = read_image(manifest.image_file(pairs["5"]))
    assert hashes[pairs["5"].image_digest] == int(str(imagehash.phash(image)), 16)
    assert read_image_hashes(folder) == hashes


def test_an_interrupted_call_keeps_what_it_has(folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_image_hashes(folder, read_manifest(folder), stop)
    assert len(read_image_hashes(folder)) == 3
    steps: list[int] = []
    ensure_image_hashes(folder, read_manifest(folder), lambda done, total: steps.append(total))
    assert steps == [2, 2]


def test_a_file_that_changed_since_prepare_is_not_hashed_under_its_old_digest(folder: Path, root: Path) -> None:
    Image.new("RGB", (9, 9)).save(root / "data" / "5.jpg")
    manifest = read_manifest(folder)
    assert manifest.by_id()["5"].image_digest not in ensure_image_hashes(folder, manifest)


def test_a_changed_image_replaces_its_hash(folder: Path, root: Path, tmp_path: Path) -> None:
    old = read_manifest(folder).by_id()["5"].image_digest
    ensure_image_hashes(folder, read_manifest(folder))
    Image.new("RGB", (9, 9)).save(root / "data" / "5.jpg")
    prepare("mvsa_single", artifacts=tmp_path)
    new = read_manifest(folder).by_id()["5"].image_digest
    hashes = read_image_hashes(folder)
    assert new in hashes
    assert old not in hashes
