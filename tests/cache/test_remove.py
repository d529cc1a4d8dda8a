"""Laws of removal: all of it goes or nothing, and never from under a writer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse.cache.errors import CorruptIndex, Locked, NoFeatures, Unwritable
from sentifuse.cache.featureset import FeatureSet, create_feature_set, list_feature_sets, write_current
from sentifuse.cache.remove import prunable, remove_set
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter


def test_a_set_goes_and_its_neighbours_stay(feature_set: FeatureSet, make_rows: Callable[..., list[Row]]) -> None:
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, make_rows(0, 5)))
    neighbour = feature_set.directory.parent / "notes.txt"
    neighbour.write_text("mine", encoding="utf-8")
    remove_set(feature_set.directory)
    assert list_feature_sets(feature_set.directory.parent) == []
    assert list(feature_set.directory.parent.iterdir()) == [neighbour]


def test_what_parts_are_still_making_is_never_pruned(
    feature_set: FeatureSet, make_rows: Callable[..., list[Row]]
) -> None:
    cache_dir = feature_set.directory.parent
    write_current(cache_dir, {"context": "context-000000000000"}, "mine")
    with FeatureWriter(feature_set, part=(0, 2)) as part:
        part.commit(part.stage(0, make_rows(0, 10)))
    assert prunable(cache_dir, [], also_unfinished=True) == ([], 0)


def test_a_set_that_is_being_written_stays(feature_set: FeatureSet) -> None:
    with FeatureWriter(feature_set), pytest.raises(Locked):
        remove_set(feature_set.directory)
    assert (feature_set.directory / "recipe.json").is_file()


def test_a_set_on_which_a_part_is_at_work_stays(feature_set: FeatureSet, make_rows: Callable[..., list[Row]]) -> None:
    with FeatureWriter(feature_set, part=(1, 2)) as part:
        with pytest.raises(Locked):
            remove_set(feature_set.directory)
        part.commit(part.stage(1, make_rows(0, 5)))
    remove_set(feature_set.directory)
    assert not feature_set.directory.exists()


def test_a_link_to_a_set_is_refused_and_stays(feature_set: FeatureSet, tmp_path: Path) -> None:
    link = tmp_path / feature_set.directory.name
    link.symlink_to(feature_set.directory)
    with pytest.raises(Unwritable, match="a link to"):
        remove_set(link)
    assert link.is_symlink()
    assert (feature_set.directory / "recipe.json").is_file()


def another_set(feature_set: FeatureSet, rows: list[Row], **settings: object) -> FeatureSet:
    made = create_feature_set(
        feature_set.directory.parent, encoder="tokens", recipe={**settings}, fields=feature_set.fields
    )
    with FeatureWriter(made) as writer:
        writer.commit(writer.stage(0, rows))
    return made


def test_what_is_used_half_made_or_not_known_to_be_unused_stays(
    feature_set: FeatureSet, make_rows: Callable[..., list[Row]]
) -> None:
    cache_dir = feature_set.directory.parent
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, make_rows(0, 10)))
    unused = another_set(feature_set, make_rows(0, 10), a=1)
    of_a_run = another_set(feature_set, make_rows(0, 10), a=2)
    half = another_set(feature_set, make_rows(0, 5), a=3)
    used = {of_a_run.fingerprint}
    assert prunable(cache_dir, used) == ([], 3)  # no extraction has finished
    write_current(cache_dir, {"tokens": feature_set.directory.name}, "mine")
    found, kept = prunable(cache_dir, used)
    assert ([one.fingerprint for one in found], kept) == ([unused.fingerprint], 1)
    found, kept = prunable(cache_dir, used, also_unfinished=True)
    assert ({one.fingerprint for one in found}, kept) == ({unused.fingerprint, half.fingerprint}, 0)
    (cache_dir / "current.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CorruptIndex):
        prunable(cache_dir, used)


def test_a_folder_that_is_no_set_stays(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(NoFeatures, match="no feature set there"):
        remove_set(tmp_path / "photos")
    assert (tmp_path / "photos").is_dir()
