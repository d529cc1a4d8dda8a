"""A comparison from request to document: what is there is used, what fails is told, nothing is trained twice."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from sentifuse import ConfigError, DataError, TrainingError
from sentifuse.fuse.comparison import compare as module
from sentifuse.fuse.comparison import gaps
from sentifuse.fuse.comparison.compare import compare, prepare
from sentifuse.fuse.comparison.grids import grids_of
from sentifuse.fuse.comparison.jobs import Outcome
from sentifuse.fuse.run import RunDirectory
from sentifuse.fuse.tables import to_markdown


def names(world: Any) -> set[str]:
    return {path.name for path in (world.artifacts / "runs").iterdir()}


def test_every_row_has_every_seed(compared: Any) -> None:
    found = [(run["row"], run["seed"]) for run in compared.document["runs"]]
    assert found == [(head, seed) for head in ("text_only", "image_only", "ccr_like") for seed in (0, 1)]
    assert compared.document["failed"] == {}
    assert compared.document["baseline"] == "text_only"  # no logreg here: the first


def test_the_same_comparison_again_trains_nothing_and_opens_no_test_part(compared: Any) -> None:
    before = names(compared.world)
    again = compare(compared.request())
    assert names(compared.world) == before
    assert again["rows"] == compared.document["rows"]
    assert all(run["evaluations"] == {"test": 1} for run in again["runs"])


def test_an_interrupted_comparison_goes_on_where_it_was(make_world: Callable[..., Any], request_for: Any) -> None:
    world = make_world()

    class Stop(KeyboardInterrupt):
        pass

    def interrupt(line: str) -> None:
        if line.startswith("2 of "):
            raise Stop

    request = request_for(world, heads=("text_only", "ccr_like"))
    with pytest.raises(Stop):
        compare(request, interrupt)
    kept = names(world)
    assert len(kept) == 2
    assert [entry.name for entry in prepare(request).missing] == ["text_only, seed 1", "ccr_like, seed 1"]
    document = compare(request)
    assert kept < names(world)
    assert len(names(world)) == 4
    assert {run["run"] for run in document["runs"]} == names(world)


def test_a_training_that_fails_is_told_and_the_table_made_without_it(
    compared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = module.run_jobs

    def fail_one(jobs: Any, **options: Any) -> dict[int, Outcome]:
        found = do([job for job in jobs if job.head != "gmu"], **options)
        return found | {job.number: Outcome(number=job.number, error="loss nan") for job in jobs if job.head == "gmu"}

    monkeypatch.setattr(module, "run_jobs", fail_one)
    document = compare(compared.request(heads=("text_only", "gmu")))
    assert document["failed"] == {"gmu, seed 0": "loss nan", "gmu, seed 1": "loss nan"}
    assert list(document["rows"]) == ["text_only"]
    assert "gmu, seed 0 is not in the table: loss nan" in document["notes"]
    claimed = compare(compared.request(heads=("text_only", "gmu"), claim="gmu"))
    assert claimed["claim"] is None
    assert "nothing was claimed: no run of gmu" in claimed["notes"]
    with pytest.raises(TrainingError, match="loss nan"):
        compare(compared.request(heads=("gmu",)))


def test_a_real_failure_of_a_training_is_an_outcome(compared: Any) -> None:
    wild = {"learning_rate": "1e30", "epochs": "1", "optimiser": "sgd"}
    with pytest.raises(TrainingError, match=r"text_only, seed 0: epoch 1, step \d+: the loss is"):
        compare(compared.request(heads=("text_only",), overrides=wild))


def test_explicit_runs_make_the_same_rows(compared: Any) -> None:
    folder = compared.world.artifacts / "runs"
    paths = tuple(folder / run["run"] for run in compared.document["runs"])
    document = compare(compared.request(heads=None, runs=paths))
    assert [row["accuracy"] for row in document["rows"].values()] == [
        row["accuracy"] for row in compared.document["rows"].values()
    ]
    assert all("epochs=1" in name for name in document["rows"])


def test_a_measured_run_of_another_split_is_refused(compared: Any, tmp_path: Path) -> None:
    """Its predictions are of these very test pairs; but who knows what it was trained on."""
    path = tmp_path / "artifacts" / "runs" / "other"
    copytree(compared.world.artifacts / "runs" / compared.document["runs"][0]["run"], path)
    document = json.loads((path / "run.json").read_text("utf-8"))
    document["split"]["train"]["digest"] = "0" * 64
    (path / "run.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match=r"the train part of split random-s0 .* not the .* that run other was trained"):
        compare(compared.request(heads=None, runs=(path,)))


def test_explicit_runs_of_two_protocols_are_refused(compared: Any) -> None:
    other = compare(compared.request(heads=("text_only",), seeds="1", protocol="grouped"))["runs"][0]["run"]
    folder = compared.world.artifacts / "runs"
    with pytest.raises(ConfigError, match=r"protocol: random .* and grouped"):
        compare(compared.request(heads=None, runs=(folder / compared.document["runs"][0]["run"], folder / other)))


def test_subsets_by_predicted_disagreement_need_both_unimodal_heads(compared: Any) -> None:
    families = {block["family"]: block for block in compared.document["subsets"]}
    assert set(families) == {"annotated", "duplicates", "predicted"}
    counts = [found["n"] for found in families["predicted"]["rows"]["ccr_like"].values()]
    assert sum(counts) == compared.document["rows"]["ccr_like"]["n_pairs"]
    alone = compare(compared.request(heads=("text_only", "ccr_like")))
    assert "predicted" not in {block["family"] for block in alone["subsets"]}


def test_missing_modalities_have_a_block_per_kind(compared: Any) -> None:
    document = compare(compared.request(heads=("ccr_like",), missing=True))
    assert [block["missing"] for block in document["missing"]] == ["text", "image", "random"]
    cells = document["missing"][0]["rows"]["ccr_like"]
    assert [cell["rate"] for cell in cells] == [i / 10 for i in range(10)]
    assert cells[0]["accuracy"] == pytest.approx(document["rows"]["ccr_like"]["accuracy"]["value"])
    runs = [RunDirectory.open(compared.world.artifacts / "runs" / one["run"]) for one in document["runs"]]
    looks = [run.document["evaluations"]["test"] for run in runs]
    again = compare(compared.request(heads=("ccr_like",), missing=True))
    assert again["missing"] == document["missing"]
    assert [RunDirectory.open(run.path).document["evaluations"]["test"] for run in runs] == looks


def test_a_run_that_fails_with_gaps_stays_in_the_table_and_is_told(
    make_world: Callable[..., Any], request_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    monkeypatch.setattr(gaps, "RATES", (0.0, 0.5))
    measure = gaps.evaluate_missing

    def fail_first(run: RunDirectory, **options: Any) -> Any:
        if run.document["seed"] == 0:
            raise DataError("tokens: 3 rows are torn. Run: sentifuse cache verify")
        return measure(run, **options)

    monkeypatch.setattr(gaps, "evaluate_missing", fail_first)
    heard: list[str] = []
    request = request_for(world, heads=("ccr_like",), missing=True)
    document = compare(request, heard.append)
    assert document["rows"]["ccr_like"]["n_runs"] == 2
    assert document["failed"] == {}
    assert document["missing_failed"] == {"ccr_like, seed 0": "tokens: 3 rows are torn. Run: sentifuse cache verify"}
    assert document["missing"][0]["rows"]["ccr_like"][0]["n_runs"] == 1
    said = "ccr_like, seed 0 was not measured with texts or images missing: tokens: 3 rows are torn"
    assert any(note.startswith(said) for note in document["notes"])
    assert said in to_markdown("", grids_of(document), []).replace("\\_", "_")
    assert any("trained in" in line and "not measured with texts" in line for line in heard)
    monkeypatch.setattr(gaps, "evaluate_missing", measure)
    kept = names(world)
    again = compare(request)
    assert names(world) == kept  # nothing is trained a second time
    assert again["missing_failed"] == {}
    assert again["missing"][0]["rows"]["ccr_like"][0]["n_runs"] == 2


def test_a_sweep_is_a_row_per_value_and_a_curve(compared: Any) -> None:
    small = {"epochs": "1", "width": "4", "align_width": "4"}
    document = compare(compared.request(heads=None, sweep="region_count=0..1", seeds="1", overrides=small))
    assert list(document["rows"]) == ["itin region_count=0", "itin region_count=1"]
    assert document["rows"]["itin region_count=0"]["set"]["sources"] == "context"
    points = document["sweep"]["curves"]["itin"]
    assert [point["value"] for point in points] == [0.0, 1.0]
    assert points[0]["mean"] == document["rows"]["itin region_count=0"]["accuracy"]["value"]
    assert document["differences"] == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"baseline": "x"}, "--baseline"),
        ({"claim": "x"}, "--claim"),
        ({"claim": "text_only"}, "another row than the baseline"),
        ({"heads": ("itni",)}, "did you mean 'itin'"),
        ({"overrides": {"epohcs": "1"}}, "did you mean 'epochs'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_training(compared: Any, options: Any, said: str) -> None:
    before = names(compared.world)
    with pytest.raises(ConfigError, match=said):
        compare(compared.request(**options))
    assert names(compared.world) == before


def test_changed_predictions_on_disk_are_measured_again(make_world: Callable[..., Any], request_for: Any) -> None:
    world = make_world()
    first = compare(request_for(world, heads=("ccr_like",), seeds="1"))
    metrics = world.artifacts / "runs" / first["runs"][0]["run"] / "metrics-test.json"
    metrics.write_text(json.dumps(json.loads(Path(metrics).read_text("utf-8")) | {"split_digest": "x"}), "utf-8")
    again = compare(request_for(world, heads=("ccr_like",), seeds="1"))
    assert again["runs"][0]["evaluations"] == {"test": 2}
    assert again["rows"] == first["rows"]


def test_folds_are_pooled(make_world: Callable[..., Any], request_for: Any) -> None:
    world = make_world()
    options = {"heads": ("ccr_like",), "seeds": None, "folds": "2,5"}
    document = compare(request_for(world, protocol="grouped-folds", **options))
    assert (document["seeds"], document["folds"]) == ([0], [2, 5])
    row = document["rows"]["ccr_like"]
    assert (row["n_pairs"], row["n_different"], row["unit"]) == (18, 18, "18 groups")
    assert row["accuracy"]["value"] == pytest.approx(sum(run["accuracy"] for run in document["runs"]) / 2)
