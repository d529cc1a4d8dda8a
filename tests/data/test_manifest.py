"""The manifest keeps its order and loses nobody."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse import DataError
from sentifuse.data.manifest import Manifest, Pair, merge_manifest, read_manifest, write_manifest


def pair(id_: str, text: str = "hi \n") -> Pair:
    return Pair(
        id=id_,
        image_path=f"data/{id_}.jpg",
        text=text,
        text_encoding="utf-8",
        image_digest="0" * 64,
        text_digest="1" * 64,
        image_status="ok",
        text_status="ok",
    )


def manifest(*ids: str) -> Manifest:
    return Manifest(Path("/photos"), tuple(pair(id_) for id_ in ids))


def test_manifest_comes_back_as_written(tmp_path: Path) -> None:
    whole = Manifest(
        tmp_path / "photos", (pair("10", " a\x00b … \r\n"), replace(pair("9"), text="", text_status="missing"))
    )
    write_manifest(tmp_path / "set", whole)
    assert read_manifest(tmp_path / "set") == whole
    assert not write_manifest(tmp_path / "set", whole)


def test_root_inside_the_dataset_moves_with_it(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a", Manifest(tmp_path / "a" / "source", (pair("1"),)))
    (tmp_path / "a").rename(tmp_path / "b")
    found = read_manifest(tmp_path / "b")
    assert found.image_file(found.pairs[0]) == tmp_path / "b" / "source" / "data" / "1.jpg"


def test_unprepared_dataset_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sentifuse data prepare mvsa_single"):
        read_manifest(tmp_path / "mvsa_single")


def test_damaged_manifest_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest("1"))
    raw = (tmp_path / "manifest.parquet").read_bytes()
    (tmp_path / "manifest.parquet").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_manifest(tmp_path)


def test_id_twice_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest("1", "2", "1"))
    with pytest.raises(DataError, match="'1' twice"):
        read_manifest(tmp_path)


ids = st.lists(st.sampled_from("abcdefgh"), unique=True)


@settings(derandomize=True, max_examples=50)
@given(ids, ids)
def test_merging_appends_and_never_reorders_or_loses(old: list[str], new: list[str]) -> None:
    merged = merge_manifest(manifest(*old), manifest(*new))
    assert merged.ids[: len(old)] == tuple(old)
    assert merged.ids[len(old) :] == tuple(id_ for id_ in new if id_ not in old)
    gone = {one.id for one in merged.pairs if one.image_status == one.text_status == "withdrawn"}
    assert gone == set(old) - set(new)
    assert merge_manifest(merged, manifest(*new)) == merged


def test_withdrawn_pair_comes_back_whole() -> None:
    gone = merge_manifest(manifest("1", "2"), manifest("2"))
    assert gone.by_id()["1"].text == "hi \n"
    assert merge_manifest(gone, manifest("1", "2")) == manifest("1", "2")
