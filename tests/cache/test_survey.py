"""Laws of the survey: counts add up, a damaged set is shown and not hidden, a name means one set or none."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse.cache.errors import NoFeatures
from sentifuse.cache.featureset import FeatureSet, create_feature_set, write_current
from sentifuse.cache.journal import read_index
from sentifuse.cache.spec import Row
from sentifuse.cache.survey import compare_sets, find_set, survey
from sentifuse.cache.writer import FeatureWriter

MakeRows = Callable[..., list[Row]]


def fill(feature_set: FeatureSet, *shards: list[Row]) -> None:
    with FeatureWriter(feature_set) as writer:
        for rows in shards:
            writer.commit(writer.stage(writer.next_number, rows))


def other_set(feature_set: FeatureSet, **changes: object) -> FeatureSet:
    return create_feature_set(
        feature_set.directory.parent,
        encoder=feature_set.encoder,
        recipe={**feature_set.recipe, **changes},
        fields=feature_set.fields,
    )


def test_a_set_at_a_glance(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    fill(feature_set, make_rows(0, 10), make_rows(0, 3, seed=5))
    write_current(feature_set.directory.parent, {"tokens": feature_set.directory.name}, "mine")
    (found,) = survey(feature_set.directory.parent)
    assert (found.dataset, found.encoder, found.is_current, found.problem) == ("mvsa_single", "tokens", True, "")
    assert (found.rows, found.superseded, found.shards, found.generation) == (10, 3, 2, 2)
    assert dict(found.counts) == {"ok": 6, "missing": 2, "unreadable": 2}
    assert found.values_bytes["grid"] == (6 + 3) * 3 * 4 * 2
    assert found.size_bytes == sum(p.stat().st_size for p in feature_set.directory.rglob("*") if p.is_file())
    assert found.to_json()["recipe"] == feature_set.recipe


def test_a_damaged_set_is_shown_with_what_is_wrong(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    fill(feature_set, make_rows(0, 10))
    (feature_set.directory / read_index(feature_set.index).shards[0].file).write_bytes(b"")
    (found,) = survey(feature_set.directory.parent)
    assert (found.encoder, found.fingerprint) == ("tokens", feature_set.fingerprint)
    assert "0 bytes, expected" in found.problem
    assert survey(feature_set.directory.parent.parent / "nothing") == []


def test_a_set_that_nobody_committed_yet_is_no_damaged_one(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    cache_dir = feature_set.directory.parent
    (found,) = survey(cache_dir)
    assert (found.problem, found.rows) == ("", 0)
    assert found.pending == "no index yet: nothing was extracted. Run: sentifuse extract --dataset mvsa_single"
    with FeatureWriter(feature_set, part=(0, 2)) as part:
        part.commit(part.stage(0, make_rows(0, 10)))
        (found,) = survey(cache_dir)
        assert found.problem == ""
        assert "parts 0 of 2 are at work or have finished, with 1 shards so far" in found.pending
        assert "sentifuse cache commit --dataset mvsa_single" in found.pending
        assert found.to_json()["pending"] == found.pending
    fill(feature_set)
    (found,) = survey(cache_dir)
    assert (found.pending, found.problem, found.rows) == ("", "", 10)
    feature_set.index.unlink()
    (found,) = survey(cache_dir)
    assert found.pending == ""
    assert "not there" in found.problem


def test_a_name_means_one_set(feature_set: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = feature_set.directory.parent.parent, feature_set.directory
    other = other_set(feature_set, dropout=0.5)
    for name in (str(folder), folder.name, folder.name[:9], f"mvsa_single/{folder.name}"):
        assert find_set(root, name).directory == folder
    assert find_set(root, other.directory.name[:10]).fingerprint == other.fingerprint
    with pytest.raises(NoFeatures, match=r"'tokens': expected one, it is the beginning of mvsa_single/tokens-.*, mvsa"):
        find_set(root, "tokens")
    with pytest.raises(NoFeatures, match=r"'regions-1': expected one feature set; .* there are: mvsa_single/tokens"):
        find_set(root, "regions-1")
    with pytest.raises(NoFeatures, match="there are: none"):
        find_set(tmp_path / "nothing", "tokens")


def test_two_sets_side_by_side(feature_set: FeatureSet, make_rows: MakeRows) -> None:
    other = other_set(feature_set, dropout=0.5, layer=None)
    fill(feature_set, make_rows(0, 10))
    rows = make_rows(2, 10)
    rows[0] = dataclasses.replace(rows[0], digest="ef" * 32)
    rows[3] = Row(id=rows[3].id, digest="", status="missing")
    fill(other, rows)
    found = compare_sets(feature_set, other)
    assert found.keys == (("recipe.dropout", 0.1, 0.5), ("recipe.layer", None, None))
    assert (found.shared, found.only_left, found.only_right) == (8, 2, 2)
    assert (found.other_input, found.other_status) == (2, 1)
    assert compare_sets(feature_set, feature_set).keys == ()
