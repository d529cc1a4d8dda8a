"""The card comes back as written, or is refused by name."""

import json
from pathlib import Path

import pytest

from sentifuse import ConfigError, DataError
from sentifuse.data.card import Card, read_card, write_card
from sentifuse.data.readers import READERS, load_reader

CARD = Card(
    name="shop",
    reader="pairs",
    source="/data/pairs.csv",
    root="/data",
    encoding="utf-8",
    classes=("calm", "happy"),
    rule="given",
    protocol="random",
    seed=3,
    counts={"pairs": 2, "classes": {"calm": 1, "happy": 1}},
    problems=({"where": "row 3", "what": "…"},),
)


def test_card_comes_back_as_written_and_is_written_once(tmp_path: Path) -> None:
    assert write_card(tmp_path, CARD)
    assert read_card(tmp_path) == CARD
    assert not write_card(tmp_path, CARD)


def test_card_of_another_version_is_refused_by_its_keys(tmp_path: Path) -> None:
    write_card(tmp_path, CARD)
    path = tmp_path / "card.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"seed"', '"seeds"'), encoding="utf-8")
    with pytest.raises(DataError, match=r"missing or unknown: \['seed', 'seeds'\]"):
        read_card(tmp_path)


def test_card_from_before_the_protocols_is_read(tmp_path: Path) -> None:
    older = {name: value for name, value in CARD.to_json().items() if name not in ("folds", "protocols")}
    (tmp_path / "card.json").write_text(json.dumps(older), encoding="utf-8")
    assert read_card(tmp_path) == CARD
    assert (CARD.folds, CARD.protocols) == (10, {})


@pytest.mark.parametrize("name", READERS)
def test_every_reader_of_the_table_can_be_loaded(name: str) -> None:
    assert callable(load_reader(name).read)


def test_unknown_reader_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mvsa_single'"):
        load_reader("mvsa_singel")
