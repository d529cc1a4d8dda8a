"""Rows made of runs that were named one by one: those of the same head and settings are one row.

Reads run.json alone; whether the runs may stand in one table is for `comparable` to say.
"""

import json
from collections.abc import Sequence

from sentifuse import ConfigError
from sentifuse.fuse.comparison.choices import Choice
from sentifuse.fuse.run import RunDirectory


def rows_of_runs(runs: Sequence[RunDirectory]) -> dict[str, tuple[Choice, list[RunDirectory]]]:
    """Row → its choice and its runs. Settings given with `--set` are in the row's name, so that no two are alike.

    Raises
    ------
    ConfigError
        A run named twice, or two runs of one row with the same seed and fold.
    """
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"--runs: expected every run once, found {', '.join(twice)} several times")
    rows: dict[str, tuple[Choice, list[RunDirectory]]] = {}
    configs: dict[str, str] = {}
    for run in runs:
        choice = _choice(run)
        settings = "".join(f" {key}={value}" for key, value in choice.overrides.items())
        config = json.dumps([run.document["config"][part] for part in ("head", "train")], sort_keys=True)
        name, number = choice.name + settings, 2
        while configs.setdefault(name, config) != config:  # the same words at another version meant other settings
            name, number = f"{choice.name}{settings} ({number})", number + 1
        rows.setdefault(name, (choice, []))[1].append(run)
    for name, (_, members) in rows.items():
        places = [(run.document["seed"], run.document.get("fold", 0)) for run in members]
        if len({*places}) < len(places):
            again = [run.name for run, place in zip(members, places, strict=True) if places.count(place) > 1]
            raise ConfigError(
                f"--runs: row {name}: expected one run per seed and fold, found {', '.join(again)}. Name one of them"
            )
    return rows


def _choice(run: RunDirectory) -> Choice:
    config = run.document["config"]
    settings = {**config["head"], **config["train"]}
    overrides = {key: settings[key] for key, origin in config.get("origins", {}).items() if origin == "--set"}
    return Choice(head=run.document["head"], preset=run.document["preset"], overrides=overrides)
