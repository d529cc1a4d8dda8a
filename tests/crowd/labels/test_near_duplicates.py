"""Copies of a picture are found, other pictures are not; groups are the same as by comparing all with all."""

import re
import tracemalloc
from io import BytesIO

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sentifuse import ConfigError, DataError
from sentifuse.crowd.labels import near_duplicates
from sentifuse.crowd.labels.near_duplicates import by_cosine, by_hash, is_first


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize((240, 200), Image.Resampling.BICUBIC)


def hash_of(image: Image.Image) -> int:
    return int(str(imagehash.phash(image)), 16)


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    content = BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def slow_groups(is_near: np.ndarray, ids: list[str]) -> tuple[str, ...]:
    """Names by spreading the smallest id until nothing changes."""
    names = list(ids)
    changed = True
    while changed:
        changed = False
        for i in range(len(ids)):
            for j in range(len(ids)):
                if is_near[i, j] and names[j] < names[i]:
                    names[i], changed = names[j], True
    return tuple(names)


def test_recompressed_and_resized_copies_are_found_and_other_pictures_are_not() -> None:
    ids, hashes = [], []
    for seed in range(12):
        original = picture(seed)
        copies = (original, recompressed(original, 40), original.resize((96, 80)), original.resize((480, 400)))
        ids += [f"{seed:02d}-{k}" for k in range(1, 5)]
        hashes += [hash_of(image) for image in copies]
    assert by_hash(hashes, ids) == tuple(f"{id_[:2]}-1" for id_ in ids)


def test_an_image_without_a_hash_is_like_no_other() -> None:
    assert by_hash([None, None, 5, 5], ["a", "b", "c", "d"]) == ("a", "b", "c", "c")


@given(st.integers(0, 1000), st.integers(0, 14), st.sampled_from([0.5, 0.8, 1.0]), st.sampled_from([1, 7, 1 << 20]))
@settings(max_examples=60)
def test_cosine_groups_are_those_of_comparing_all_with_all(seed: int, n: int, threshold: float, numbers: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (n, 3)).astype(np.float32)  # few directions: equal, opposite and zero vectors too
    ids = [f"{i:02d}" for i in rng.permutation(n)]
    norms = np.linalg.norm(vectors, axis=1)
    cosines = vectors @ vectors.T / np.maximum(norms[:, None] * norms[None], 1e-9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "BLOCK_NUMBERS", numbers)  # blocks of one row, of some, of all
        assert by_cosine(vectors.copy(), ids, threshold) == slow_groups(cosines >= threshold - 1e-5, ids)


def test_scaled_copies_are_duplicates_at_cosine_1_and_zeros_are_like_nothing() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    both = np.concatenate([vectors, 3 * vectors, np.zeros((2, 64), np.float32)])
    ids = [f"{i:03d}" for i in range(82)]
    assert by_cosine(both, ids, 1.0) == (*ids[:40], *ids[:40], "080", "081")


def test_many_equal_images_take_no_more_edges_than_images(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    plain = near_duplicates.join_with_few

    def watched(edges: np.ndarray, n: int) -> np.ndarray:
        nonlocal most
        found = plain(edges, n)
        most = max(most, len(found))
        return found

    monkeypatch.setattr(near_duplicates, "join_with_few", watched)
    monkeypatch.setattr(near_duplicates, "BLOCK_NUMBERS", 3000)
    assert set(by_cosine(np.ones((300, 4), np.float32), [f"{i:03d}" for i in range(300)], 0.9)) == {"000"}
    assert most < 300


def test_cosines_need_no_second_array_and_progress_counts_every_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "BLOCK_NUMBERS", 100_000)
    vectors = np.random.default_rng(0).normal(size=(500, 2000)).astype(np.float32)
    told: list[tuple[int, int]] = []
    tracemalloc.start()
    try:
        by_cosine(vectors, [f"{i:03d}" for i in range(500)], 0.9, lambda *done: told.append(done))
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < vectors.nbytes / 2
    done = {n: sum(499 - i for i in range(n)) for n in (200, 400, 500)}  # blocks of 200 rows
    assert told == [(n, done[500]) for n in done.values()]


def test_the_first_of_each_group_stays() -> None:
    assert is_first(["a", "b", "a", "c", "b"]).tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("bits", [-1, 2.5, 32, 64])
def test_bits_that_a_hash_has_not_are_refused(bits: float) -> None:
    with pytest.raises(ConfigError, match="expected whole bits from 0 to 31"):
        by_hash([], [], bits)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_cosine_that_cannot_be_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="expected a cosine above 0, at most 1"):
        by_cosine(np.zeros((0, 2), np.float32), [], threshold)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match=re.escape("expected finite (2, D)")):
        by_cosine(np.array([[1.0, np.nan], [0.0, 1.0]], np.float32), ["a", "b"])
