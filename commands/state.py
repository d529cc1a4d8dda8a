"""What was last extracted, last trained and chosen: the defaults of the commands, kept in `artifacts/state.json`.

Each default that is used is said aloud in the first line of output. Knows nothing of the rooms.
"""

import json
import os
from pathlib import Path

from sentifuse import ConfigError, DataError

KEYS = ("dataset", "run", "profile")


def read_state(artifacts: Path) -> dict[str, str]:
    """The remembered names; empty where nothing was done yet.

    Raises
    ------
    DataError
        The artefacts folder or its state file cannot be read.
    """
    path = artifacts / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); expected a small JSON object. Remove the file, or point --artifacts "
            "to another folder"
        ) from error
    if not isinstance(state, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(state).__name__}. Remove the file")
    return {key: str(state[key]) for key in KEYS if key in state}


def remember(artifacts: Path, **names: str) -> None:
    """Keep `dataset`, `run` or `profile` for the next command; the file is replaced as a whole."""
    state = read_state(artifacts) | names
    path = artifacts / "state.json"
    temporary = artifacts / f".state.{os.getpid()}.tmp"
    try:
        artifacts.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error}). Choose a writable folder with --artifacts") from error


def dataset_or_last(artifacts: Path, dataset: str | None) -> tuple[str, str]:
    """The dataset to work on, and where the choice comes from."""
    if dataset:
        return dataset, "--dataset"
    last = read_state(artifacts).get("dataset")
    if not last:
        raise ConfigError(
            f"--dataset: not given, and nothing was extracted yet in {artifacts}. Type: sentifuse data prepare NAME, "
            "then sentifuse extract --dataset NAME"
        )
    return last, "last extracted"


def run_or_last(artifacts: Path, run: Path | None) -> tuple[Path, str]:
    """The run directory to work on, and where the choice comes from; a bare name is looked up under `runs/`."""
    if run:
        return (run if run.exists() else artifacts / "runs" / run), "--run"
    last = read_state(artifacts).get("run")
    if not last:
        raise ConfigError(
            f"--run: not given, and nothing was trained yet in {artifacts}. Type: sentifuse train --head itin"
        )
    return artifacts / "runs" / last, "last trained"


def profile_or_chosen(artifacts: Path, profile: str | None) -> tuple[str, str]:
    """The profile to use, and where the choice comes from."""
    if profile:
        return profile, "--profile"
    chosen = read_state(artifacts).get("profile")
    return (chosen, "chosen by `profiles use`") if chosen else ("paper", "the default")
