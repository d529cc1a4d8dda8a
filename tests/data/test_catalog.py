"""The list of prepared datasets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse import DataError
from sentifuse.data.catalog import list_datasets
from sentifuse.data.prepare import prepare


def test_prepared_datasets_are_listed_by_name(make_mvsa: Callable[..., Path], tmp_path: Path) -> None:
    assert list_datasets(tmp_path) == []
    root = make_mvsa({"1": "neutral,neutral"})
    cards = [prepare(name, artifacts=tmp_path, reader="mvsa_single", root=root) for name in ("b", "a")]
    (tmp_path / "datasets" / "unfinished").mkdir()
    assert list_datasets(tmp_path) == cards[::-1]


def test_damaged_card_and_damaged_folder_are_named(tmp_path: Path) -> None:
    card = tmp_path / "datasets" / "shop" / "card.json"
    card.parent.mkdir(parents=True)
    card.write_text('{"name": "shop"}')
    with pytest.raises(DataError, match=r"card\.json: expected the keys .*sentifuse data prepare shop"):
        list_datasets(tmp_path)
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "datasets").write_text("")
    with pytest.raises(DataError, match="cannot be read"):
        list_datasets(tmp_path / "file")
