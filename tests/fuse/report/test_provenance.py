"""Where the numbers come from: every setting with its origin, the split with its leak, nothing left out."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sentifuse.fuse.report.provenance import command_line, data_card, feature_sets, making, parts_of_split, recipe
from sentifuse.fuse.report.recorded import Recorded, read_recorded
from sentifuse.fuse.run import RunDirectory


@pytest.fixture(scope="module")
def recorded(odd_run: RunDirectory) -> Recorded:
    """What the run has recorded on test."""
    return read_recorded(odd_run, "test")


def test_every_setting_has_its_value_origin_and_meaning(recorded: Recorded) -> None:
    config = recorded.run.document["config"]
    head, train = recipe(recorded)
    assert {row[0] for row in head.rows} == set(config["head"])
    assert {row[0] for row in train.rows} == set(config["train"])
    for name, value, origin, meaning in (*head.rows, *train.rows):
        assert origin == config["origins"][name]
        assert meaning, name
        setting = (config["head"] | config["train"])[name]
        assert value == ("none" if setting is None else setting if isinstance(setting, str) else json.dumps(setting))
    by_name = {row[0]: row for row in train.rows}
    assert by_name["epochs"][1:3] == ("2", "--set")
    assert [row[2] for row in train.rows] == sorted(
        (row[2] for row in train.rows), key=lambda origin: ("--set", "preset default", "default").index(origin)
    )


def test_the_card_names_root_counts_rule_protocol_and_digest(recorded: Recorded) -> None:
    rows = dict(data_card(recorded).rows)
    assert rows["root of the images"] == recorded.card.root
    assert rows["pairs"] == "90"
    assert rows["classes"] == "negative 30, neutral 30, positive 30"
    assert rows["label rule"] == "given, target label"
    assert rows["protocol"] == "random, seed 0"
    assert recorded.facts.digest.startswith(rows["digest of the split"])


def test_a_fold_missing_ids_and_uncompared_images_are_said(recorded: Recorded) -> None:
    facts = replace(recorded.facts, fold=3, k=10, missing=511, n_hashed=80, n_pairs=90)
    grid = data_card(replace(recorded, facts=facts))
    assert dict(grid.rows)["protocol"] == "random, fold 3 of 10, seed 0"
    assert grid.notes[0].startswith("511 listed ids are not here")
    assert grid.notes[1].startswith("Only 80 of 90 images")


def test_parts_have_their_sizes_classes_and_leak(recorded: Recorded) -> None:
    leak = {"val": {"n": 9, "group": 2, "text": 1, "image": 2}, "test": {"n": 0, "group": 0, "text": 0, "image": 0}}
    grid = parts_of_split(replace(recorded, facts=replace(recorded.facts, leak=leak)))
    rows = {row[0]: row[1:] for row in grid.rows}
    assert [rows[part][0] for part in ("train", "val", "test")] == ["72", "9", "9"]
    assert rows["val"][-3:] == ("2 (22.2%)", "1 (11.1%)", "2 (22.2%)")
    assert rows["test"][-3:] == rows["train"][-3:] == ("–", "–", "–")
    assert sum(int(n) for n in rows["test"][2:5]) == 9


def test_a_part_that_nobody_opened_says_so(recorded: Recorded) -> None:
    rows = {row[0]: row for row in parts_of_split(replace(recorded, split="val")).rows}
    assert rows["test"][2] == "not opened"


def test_pairs_that_were_left_out_are_counted_by_reason(recorded: Recorded) -> None:
    metrics = dict(recorded.metrics) | {"excluded": {"p1": "regions: failed: x", "p2": "regions: failed: x"}}
    assert "Left out of test: 2 for regions: failed: x" in parts_of_split(replace(recorded, metrics=metrics)).notes


def test_features_have_model_and_fingerprint(recorded: Recorded) -> None:
    rows = {row[0]: row for row in feature_sets(recorded).rows}
    assert set(rows) == {"tokens", "context", "regions"}
    assert rows["tokens"][1] == "a"
    assert recorded.run.document["feature_sets"]["tokens"]["fingerprint"].startswith(rows["tokens"][-1])


def test_versions_device_and_time_are_there(recorded: Recorded) -> None:
    rows = dict(making(recorded).rows)
    document: Any = recorded.run.document
    assert all(version in rows["versions"] for version in document["versions"].values())
    assert rows["trained"].startswith(document["created"])
    assert f"accuracy {document['best']['val_accuracy']:.4f}" in rows["chosen on validation"]


def test_a_command_can_be_typed_again() -> None:
    assert command_line(["sentifuse", "train", "--set", "a b=1"]) == "sentifuse train --set 'a b=1'"
    assert command_line([]) == ""
