"""Groups are those that comparing every pair with every other would find, and follow pairs and images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sentifuse.data import groups, image_hashes
from sentifuse.data.card import read_card, write_card
from sentifuse.data.groups import (
    ensure_groups,
    joins_tweets,
    name_components,
    near_hashes,
    near_values,
    read_groups,
    same_keys,
)
from sentifuse.data.manifest import read_manifest, write_manifest
from sentifuse.data.prepare import prepare

Make = Callable[..., Path]


def components_by_brute_force(ids: list[str], near: Callable[[int, int], bool]) -> list[str]:
    """Names as `name_components` gives them, by spreading the smallest id until nothing moves."""
    names = list(ids)
    moved = True
    while moved:
        moved = False
        for a in range(len(ids)):
            for b in range(len(ids)):
                if near(a, b) and names[b] < names[a]:
                    names[a], moved = names[b], True
    return names


def planted_hashes(seed: int, n: int) -> list[int | None]:
    """Random hashes, some of them others with up to six bits changed, some missing."""
    rng = np.random.default_rng(seed)
    values: list[int | None] = [int(value) for value in rng.integers(0, 2**64, n // 2, dtype=np.uint64)]
    for _ in range(n - n // 2):
        source = values[int(rng.integers(0, len(values)))]
        bits = rng.choice(64, int(rng.integers(0, 7)), replace=False)
        values.append(None if source is None or rng.random() < 0.1 else source ^ sum(1 << int(bit) for bit in bits))
    return values


@pytest.mark.parametrize("max_bits", [0, 1, 4, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_near_hashes_are_those_of_brute_force(max_bits: int, seed: int) -> None:
    values = planted_hashes(seed, 80)
    ids = [f"{place:03}" for place in range(len(values))]

    def near(a: int, b: int) -> bool:
        one, other = values[a], values[b]
        return one is not None and other is not None and (one ^ other).bit_count() <= max_bits

    assert name_components(ids, [near_hashes(values, max_bits)]) == components_by_brute_force(ids, near)
    assert any(near(a, b) for a in range(80) for b in range(a))


@settings(derandomize=True, max_examples=50)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 15), st.integers(2**64 - 9, 2**64 - 1)), max_size=25),
    st.sampled_from([0, 5, groups.MANY_EDGES]),
)
def test_every_edge_is_near_and_crowded_bands_lose_none(values: list[int | None], many: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "MANY_EDGES", many)  # thinned out at every step, now and then, at the end
        edges = near_hashes(values, 4)
    ids = [f"{place:02}" for place in range(len(values))]

    def near(a: int, b: int) -> bool:
        one, other = values[a], values[b]
        return one is not None and other is not None and (one ^ other).bit_count() <= 4

    assert all(near(a, b) for a, b in edges.tolist())
    assert name_components(ids, [edges]) == components_by_brute_force(ids, near)


def test_near_values_are_all_near_pairs() -> None:
    values = np.unique(np.array([value for value in planted_hashes(3, 90) if value is not None], dtype=np.uint64))
    found = {tuple(sorted(pair)) for pairs in near_values(values, 5) for pair in pairs.tolist()}
    n = range(len(values))
    assert found == {(a, b) for b in n for a in range(b) if (int(values[a]) ^ int(values[b])).bit_count() <= 5}
    assert len(found) > 20


def test_a_family_of_a_thousand_hashes_has_fewer_edges_than_hashes() -> None:
    one = 0x0123456789ABCDEF
    family = [one ^ (1 << a) ^ (1 << b) for a in range(64) for b in range(a)][:1000]  # all within 4 bits of each other
    edges = near_hashes([*family, one ^ (0xFFFF << 8)], 4)
    assert len(edges) == 999
    assert len(set(name_components([f"{place:04}" for place in range(1001)], [edges]))) == 2


@settings(derandomize=True, max_examples=50)
@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=20))
def test_equal_keys_are_joined_and_empty_ones_are_not(keys: list[str]) -> None:
    ids = [f"{place:02}" for place in range(len(keys))]
    found = name_components(ids, [same_keys(keys)])
    assert found == components_by_brute_force(ids, lambda a, b: keys[a] == keys[b] != "")


def test_text_and_image_join_over_several_steps() -> None:
    text, image = same_keys(["x", "x", "y", "z"]), near_hashes([None, 0, 1, 7 << 40], 1)
    assert name_components(["d", "c", "b", "a"], [text, image]) == ["b", "b", "b", "a"]
    assert name_components([], [text[:0]]) == []


@pytest.mark.slow
def test_half_a_million_hashes_take_seconds_and_no_square_of_memory() -> None:
    values = planted_hashes(0, 2_000)
    rng = np.random.default_rng(1)
    values += [int(value) for value in rng.integers(0, 2**64, 498_000, dtype=np.uint64)]
    edges = near_hashes(values, 4)
    assert len(edges) > 500
    assert {tuple(edge) for edge in near_hashes(values[:2_000], 4).tolist()} <= {tuple(edge) for edge in edges.tolist()}


def pattern(seed: int) -> Image.Image:
    """A picture unlike any of another seed: its coarse shapes are random."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)


@pytest.fixture
def pictures(make_mvsa: Make, tmp_path: Path) -> Path:
    """1 and 2 have one picture in two sizes, 2 and 3 one text; 4 has no image, 5 a broken one, 6 and 7 no word."""
    texts = {str(n): f"tweet {n}".encode() for n in range(1, 9)}
    texts |= {"2": b"RT @a: so COLD! http://t.co/x", "3": b"so cold htt\xa1\xad", "6": b"...", "7": b"http://t.co/y"}
    root = make_mvsa({str(n): "positive,positive" for n in range(1, 9)}, texts=texts)
    for n in range(1, 9):
        pattern(n).save(root / "data" / f"{n}.jpg", quality=95)
    pattern(1).resize((80, 80)).save(root / "data" / "2.jpg", quality=80)
    (root / "data" / "4.jpg").unlink()
    (root / "data" / "5.jpg").write_bytes(b"\xff\xd8\xff broken")
    prepare("mvsa_single", artifacts=tmp_path / "a", root=root)
    return tmp_path / "a" / "datasets" / "mvsa_single"


def test_same_text_or_same_picture_makes_a_group_and_nothing_missing_does(pictures: Path) -> None:
    assert read_groups(pictures) == {"1": "1", "2": "1", "3": "1"} | {str(n): str(n) for n in range(4, 9)}
    groups = ensure_groups(pictures)
    assert groups.by_id("text_group")["3"] == "2"
    assert groups.by_id("image_group")["2"] == "1"
    assert groups.by_id("image_group")["3"] == "3"
    assert groups.n_hashed == 6


def test_a_second_look_computes_nothing(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in pictures.rglob("*")}

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"hashed again: {arguments}")

    monkeypatch.setattr(image_hashes, "read_image", refuse)
    ensure_groups(pictures)
    assert {path: path.stat().st_mtime_ns for path in pictures.rglob("*")} == before


def test_groups_outlive_the_images(pictures: Path, tmp_path: Path) -> None:
    before = read_groups(pictures)
    for image in (tmp_path / "mvsa" / "data").glob("*.jpg"):
        image.unlink()
    (pictures / "groups.parquet").unlink()
    assert read_groups(pictures) == before


def test_only_the_ids_of_tweets_join_pairs(pictures: Path) -> None:
    """12-1 and 12-2 are pairs like others, unless the reader says that they are of one tweet."""
    manifest = read_manifest(pictures)
    renamed = [replace(pair, id={"4": "12-1", "8": "12-2"}.get(pair.id, pair.id)) for pair in manifest.pairs]
    write_manifest(pictures, replace(manifest, pairs=tuple(renamed)))
    plain = ensure_groups(pictures)
    file = (pictures / "groups.parquet").read_bytes()
    assert plain.by_id()["12-2"] == "12-2"
    assert not joins_tweets(pictures)
    write_card(pictures, replace(read_card(pictures), reader="t4sa"))
    joined = ensure_groups(pictures)
    assert joined.by_id() == plain.by_id() | {"12-2": "12-1"}
    assert (joined.text_group, joined.image_group) == (plain.text_group, plain.image_group)
    assert joins_tweets(pictures)
    write_card(pictures, replace(read_card(pictures), reader="mvsa"))
    assert ensure_groups(pictures) == plain
    assert (pictures / "groups.parquet").read_bytes() == file
