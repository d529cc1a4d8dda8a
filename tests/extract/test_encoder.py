"""Encoders as the runner sees them: recipes say what changes numbers and nothing else; rows are what fields promise."""

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import DataError
from sentifuse.cache.fingerprint import fingerprint
from sentifuse.extract.encoder import Encoder, EncoderPlan, check_values, describe_encoder
from sentifuse.extract.encoders import ENCODERS
from sentifuse.extract.models.located import read_folder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.weights import find_models
from sentifuse.extract.profile import EncoderEntry, load_profile


def plans(precision: str = "exact") -> dict[str, EncoderPlan]:
    profile = load_profile("tiny")
    entries = profile.choose(tuple(profile.encoders))
    found = find_models(profile, entries, search=[], is_offline=True)
    return {
        entry.name: describe_encoder(entry, found.models[entry.name], precision=precision, device="cpu")
        for entry in entries
    }


@pytest.fixture(scope="module")
def encoders() -> dict[str, Encoder]:
    share: dict[str, Any] = {}
    return {name: plan.build(device="cpu", share=share) for name, plan in plans().items()}


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_rows_are_what_the_fields_promise(name: str, encoders: dict[str, Encoder], photo: Any) -> None:
    encoder = encoders[name]
    inputs = encoder.inputs
    rows = [(photo(50 + i, 40), text) for i, text in enumerate(("a happy day", "", "rain " * 300))]
    prepared = [
        encoder.backbone.prepare(image if "image" in inputs else None, text if "text" in inputs else None)
        for image, text in rows
    ]
    groups: dict[Any, list[Any]] = {}
    for row in prepared:
        groups.setdefault(encoder.backbone.batch_key(row), []).append(row)
    assert encoder.backbone.inputs == inputs
    for batch in groups.values():
        for values in encoder.read(encoder.backbone.forward(batch), batch):
            assert not isinstance(values, DataError)
            assert list(values) == [field.name for field in encoder.fields]
            for field in encoder.fields:
                shape = values[field.name].shape
                assert values[field.name].dtype == np.dtype(field.dtype)
                assert (shape[1:] if field.is_ragged else shape) == field.shape
    assert {field.name: field.dtype for field in encoder.fields} == encoder.recipe["dtypes"]


def test_a_run_is_planned_without_torch() -> None:
    code = """
import sys
from sentifuse.extract.profile import load_profile
from sentifuse.extract.models.weights import find_models
from sentifuse.extract.encoder import describe_encoder
profile = load_profile("tiny")
entries = profile.choose(tuple(profile.encoders))
found = find_models(profile, entries, search=[], is_offline=True)
for entry in entries:
    describe_encoder(entry, found.models[entry.name], precision="fast", device="cpu").recipe
print(sorted({"torch", "torchvision", "transformers", "safetensors"} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_recipe_is_plain_json_with_only_the_changed_settings() -> None:
    recipe = plans()["tokens"].recipe
    assert json.loads(json.dumps(recipe)) == recipe
    assert set(recipe) == {"encoder", "version", "model", "settings", "precision", "dtypes"}
    assert recipe["settings"] == {"clean": "tweet", "max_length": 64}
    assert set(recipe["model"]) == {"architecture", "digest"}


def test_the_fingerprints_of_features_that_exist_stay() -> None:
    # Another one here and everybody computes everything again. If that is meant, raise the encoder's version.
    assert {name: fingerprint(plan.recipe)[:12] for name, plan in plans().items()} == {
        "tokens": "bfcd79c34daa",
        "context": "aabcac45eaa0",
        "regions": "24ef9bc193f6",
        "crowd": "71980ee7aecb",
        "teacher": "0b2240d8ac4f",
        "clip": "b4af41d43d60",
    }


def test_path_and_hub_id_are_details_and_not_in_the_recipe(tmp_path: Path, bert_folder: Path) -> None:
    entry = EncoderEntry(name="tokens", model=ModelSource(kind="path", name="x"))
    shutil.copytree(bert_folder, tmp_path / "moved")
    here = describe_encoder(entry, read_folder(entry.model, bert_folder), precision="exact", device="cpu")
    hub = ModelSource(kind="hub", name="a/bert")
    there = describe_encoder(entry, read_folder(hub, tmp_path / "moved"), precision="exact", device="cuda:1")
    assert here.recipe == there.recipe
    assert here.backbone_key == there.backbone_key
    assert there.details["model"]["path"] == str(tmp_path / "moved")
    assert there.details["settings"]["max_length"] == 128


def test_a_setting_given_at_its_default_leaves_the_fingerprint() -> None:
    entry = load_profile("tiny").encoders["tokens"]
    model = find_models(load_profile("tiny"), [entry], search=[]).models["tokens"]
    plain = describe_encoder(entry, model, precision="exact", device="cpu")
    same = replace(entry, settings={**entry.settings, "last_layers": 1, "keep_special": True})
    other = replace(entry, settings={**entry.settings, "last_layers": 2})
    again, changed = (describe_encoder(one, model, precision="exact", device="cpu") for one in (same, other))
    assert fingerprint(plain.recipe) == fingerprint(again.recipe) != fingerprint(changed.recipe)


def test_the_grid_of_context_changes_its_fingerprint_only_if_stored() -> None:
    entry = load_profile("tiny").encoders["context"]
    model = find_models(load_profile("tiny"), [entry], search=[]).models["context"]
    recipes = [
        describe_encoder(
            replace(entry, settings={**entry.settings, **more}), model, precision="exact", device="cpu"
        ).recipe
        for more in ({}, {"grid": False}, {"grid": True})
    ]
    assert recipes[0] == recipes[1] != recipes[2]
    assert recipes[0]["dtypes"] == {"vector": "float32"}


def test_fast_equals_exact_on_a_cpu_also_in_the_fingerprint() -> None:
    exact, fast = plans("exact"), plans("fast")
    assert {name: plan.recipe for name, plan in exact.items()} == {name: plan.recipe for name, plan in fast.items()}
    assert all(plan.note for plan in fast.values())


def test_plans_travel_to_other_processes(encoders: dict[str, Encoder], photo: Any) -> None:
    plan: EncoderPlan = pickle.loads(pickle.dumps(plans()["context"]))  # our own object, for a spawned worker
    again = plan.build(device="cpu", share={})
    prepared = again.backbone.prepare(photo(50, 40), None)
    there = again.read(again.backbone.forward([prepared]), [prepared])[0]
    here = encoders["context"].read(encoders["context"].backbone.forward([prepared]), [prepared])[0]
    assert isinstance(there, dict)
    assert isinstance(here, dict)
    np.testing.assert_array_equal(there["vector"], here["vector"])


def test_two_encoders_of_the_tiny_profile_share_their_network(encoders: dict[str, Encoder]) -> None:
    assert encoders["context"].backbone is encoders["regions"].backbone
    assert len({id(encoder.backbone) for encoder in encoders.values()}) == 5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_make_their_row_fail(value: float) -> None:
    found = check_values({"good": np.zeros(2, np.float32), "bad": np.array([0, value], np.float16)})
    assert isinstance(found, DataError)
    assert "bad is not finite (or beyond 65504" in str(found)


@pytest.mark.slow
def test_half_precision_gives_nearly_the_same_features(photo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sentifuse.extract import precision

    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    exact, fastest = plans("exact"), plans("fastest")
    for name in ("tokens", "context", "crowd", "teacher", "clip"):
        assert fastest[name].recipe["precision"] == "bfloat16"
        values = []
        for plan in (exact[name], fastest[name]):
            made = plan.build(device="cpu", share={})
            row = made.backbone.prepare(photo(50, 40), "a happy day")
            values.append(made.read(made.backbone.forward([row]), [row])[0])
        for field in exact[name].recipe["dtypes"]:
            one, other = (np.asarray(value[field], dtype=np.float64).ravel() for value in values)
            assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.99, (name, field)
