"""Published numbers: every one with its source, complete, and never without what differs."""

import pytest

from sentifuse.fuse.comparison.choices import ABLATIONS
from sentifuse.fuse.comparison.published import published_points, published_rows, read_published
from sentifuse.fuse.config import resolve
from sentifuse.fuse.heads import load_head

HERE = {"profile": "paper", "protocol": "random", "rule": "multisentinet", "n_pairs": 4511}


def numbers(table: str, dataset: str) -> dict[str, tuple[float | None, float | None]]:
    found = [one for one in published_rows(dataset, HERE) if one["table"] == table]
    return {one["system"]: (one["accuracy"], one["f1"]) for one in found}


def test_itins_tables_are_complete() -> None:
    second, third = numbers("itin-II", "mvsa_single"), numbers("itin-III", "mvsa_multiple")
    assert (len(second), second["ITIN"], second["HSAN"]) == (8, (0.7519, 0.7497), (None, 0.6690))
    assert (len(third), third["ITIN without gating"]) == (5, (0.7205, 0.7197))
    assert numbers("mdse", "mvsa_single")["CLMLF"] == (0.7533, 0.7346)


def test_f1_follows_from_precision_and_recall_where_all_are_given() -> None:
    rows = [row for table in read_published()["table"] for row in table["rows"] if "precision" in row]
    assert len(rows) == 16
    for row in rows:
        f1 = 2 * row["precision"] * row["recall"] / (row["precision"] + row["recall"])
        assert row["f1"] == pytest.approx(f1, abs=2e-3), row


def test_every_table_names_its_source_and_every_row_is_a_share() -> None:
    for table in read_published()["table"]:
        assert len(table["source"]) > 20
        for row in table["rows"]:
            assert {"accuracy", "f1"} & set(row)
            assert all(0.4 < row[name] < 1 for name in ("accuracy", "f1", "precision", "recall") if name in row)


def test_rows_beside_ours_name_heads_that_there_are() -> None:
    ours = {row["ours"] for table in read_published()["table"] for row in table["rows"] if "ours" in row}
    assert {*ABLATIONS, "rnn_ca", "rnn_embedding", "clmlf_like"} <= ours
    for name in ours:
        head, _, preset = name.partition(":")
        cls = load_head(head)
        assert resolve(head, cls.Config, cls.PRESETS, preset=preset or "default")


def test_what_differs_is_always_said_and_equal_pairs_are_not() -> None:
    for one in published_rows("mvsa_single", HERE):
        assert one["differs"][0].startswith("encoders: ")
        assert any(part.startswith("protocol: ") for part in one["differs"])
    itin = next(one for one in published_rows("mvsa_single", HERE) if one["system"] == "ITIN")
    assert not any(part.startswith(("pairs", "label rule")) for part in itin["differs"])
    fewer = next(one for one in published_rows("mvsa_single", HERE | {"n_pairs": 4000}) if one["system"] == "ITIN")
    assert "pairs: 4,511; here 4,000" in fewer["differs"]


def test_a_dataset_without_published_numbers_has_none() -> None:
    assert published_rows("sample", HERE) == []


def test_known_points_of_figures_are_the_best_values() -> None:
    assert published_points("itin", "region_count", "mvsa_single")["points"] == [(2, 0.7519)]
    assert published_points("itin", "visual_weight", "mvsa_multiple")["points"] == [(0.2, 0.7352)]
    assert published_points("itin", "width", "mvsa_single") is None
