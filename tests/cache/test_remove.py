"""Laws of removal: all of it goes or nothing, and never from under a writer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse.cache.errors import Locked, NoFeatures
from sentifuse.cache.featureset import FeatureSet, list_feature_sets
from sentifuse.cache.remove import remove_set
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


def test_a_set_that_is_being_written_stays(feature_set: FeatureSet) -> None:
    with FeatureWriter(feature_set), pytest.raises(Locked):
        remove_set(feature_set.directory)
    assert (feature_set.directory / "recipe.json").is_file()


def test_a_folder_that_is_no_set_stays(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(NoFeatures, match="no feature set there"):
        remove_set(tmp_path / "photos")
    assert (tmp_path / "photos").is_dir()
