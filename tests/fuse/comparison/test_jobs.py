"""Jobs in several processes give what one process gives; a feature set is opened once per process."""

from pathlib import Path
from typing import Any

import pytest

from sentifuse import DataError
from sentifuse.fuse.comparison.jobs import Job, SharedReaders, default_workers, do_job, run_jobs
from sentifuse.fuse.run import RunDirectory


def job(world: Any, number: int, **options: Any) -> Job:
    plain = {
        "name": f"job {number}",
        "artifacts": world.artifacts,
        "dataset": world.name,
        "head": "ccr_like",
        "preset": "default",
        "overrides": {"epochs": "1"},
        "seed": number,
        "fold": 0,
        "protocol": "random",
        "rule": "given",
        "target": "label",
    }
    return Job(number=number, **(plain | options))


def test_a_feature_set_is_opened_once(world: Any) -> None:
    readers = SharedReaders()
    for number in (0, 1):
        outcome = do_job(job(world, number), "cpu", readers)
        assert outcome.error == ""
        assert (Path(outcome.run) / "predictions-test.parquet").is_file()
    assert sorted(Path(folder).name.partition("-")[0] for folder, _, _ in readers._readers) == ["context", "tokens"]


def test_a_finished_run_is_measured_and_not_trained(world: Any) -> None:
    first = do_job(job(world, 0, measure=False), "cpu", SharedReaders())
    run = Path(first.run)
    assert first.trained
    assert not (run / "metrics-test.json").exists()
    second = do_job(job(world, 0, run=run), "cpu", SharedReaders())
    assert (second.trained, second.run) == (False, str(run))
    assert RunDirectory.open(run).document["evaluations"] == {"test": 1}


def test_a_bug_in_one_training_is_told_with_its_place(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sentifuse.fuse import train

    def break_down(*arguments: Any, **options: Any) -> Any:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(train, "train", break_down)
    heard = []
    found = run_jobs([job(world, 0), job(world, 1)], workers=1, device="cpu", report=heard.append)
    assert [found[i].error.splitlines()[-1] for i in (0, 1)] == ["ZeroDivisionError: odd"] * 2
    assert len(heard) == 2


def test_a_run_that_cannot_be_measured_with_gaps_is_good_all_the_same(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentifuse.fuse.comparison import gaps

    for error, said in ((DataError("regions: torn"), "regions: torn"), (ZeroDivisionError("odd"), "odd")):
        monkeypatch.setattr(gaps, "evaluate_missing", failing(error))
        outcome = do_job(job(world, 0, gaps_on="digest"), "cpu", SharedReaders())
        assert (outcome.error, outcome.trained) == ("", True)
        assert outcome.gaps_error.splitlines()[-1].endswith(said)
        assert (Path(outcome.run) / "metrics-test.json").is_file()
        assert not (Path(outcome.run) / gaps.FILE).exists()


def failing(error: Exception) -> Any:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    return fail


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(world: Any) -> None:
    alone = run_jobs([job(world, i) for i in range(3)], workers=1, device="cpu")
    shared = run_jobs([job(world, i) for i in range(3)], workers=2, device="cpu")
    for number in range(3):
        models = [Path(found[number].run) / "model.safetensors" for found in (alone, shared)]
        assert models[0].read_bytes() == models[1].read_bytes()
        assert RunDirectory.open(Path(shared[number].run)).document["threads"] == 1


def test_on_a_processor_every_core_gets_a_process() -> None:
    assert default_workers("cpu") >= 1
