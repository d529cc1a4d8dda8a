"""May these runs stand in one table? Never two datasets, label rules, targets, protocols, id lists or feature sets.

Compares what run.json says; opens nothing else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sentifuse import ConfigError
from sentifuse.fuse.run import RunDirectory

SHOWN_RUNS = 2
FACTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "dataset": lambda document: document["dataset"],
    "label rule": lambda document: document["rule"],
    "target": lambda document: document["target"],
    "classes": lambda document: ", ".join(document["classes"]),
    "protocol": lambda document: document["protocol"],
}


def check_comparable(runs: Sequence[RunDirectory]) -> None:
    """Refuse runs whose numbers do not belong into one table.

    Raises
    ------
    ConfigError
        Names everything that differs, and runs with either value.
    """
    if not runs:
        raise ConfigError("comparison: expected runs, found none. Name heads with --heads, or run folders with --runs")
    problems = []
    for what, read in FACTS.items():
        problems += _differing(what, {run.name: read(run.document) for run in runs})
    encoders = sorted({name for run in runs for name in run.document["feature_sets"]})
    for encoder in encoders:
        having = {run.name: run.document["feature_sets"].get(encoder) for run in runs}
        found = {name: recorded["fingerprint"][:12] for name, recorded in having.items() if recorded}
        problems += _differing(f"{encoder} features", found)
    if not problems:  # under two protocols every id list differs, which would say nothing
        for (seed, fold), group in _by_split(runs).items():
            where = f"seed {seed}" + (f", fold {fold}" if fold else "")
            problems += _differing(f"id lists of {where}", {run.name: _lists(run.document) for run in group})
            problems += _differing_inputs(where, group)
    if problems:
        raise ConfigError(
            f"comparison: expected runs of one dataset, rule, target, protocol and feature set, found "
            f"{'; '.join(problems)}. Compare each kind on its own, or train the others again"
        )


def _differing_inputs(where: str, runs: Sequence[RunDirectory]) -> list[str]:
    """Labels and inputs of the training and validation parts; runs from before these were recorded are passed over."""
    recorded = {run.name: run.document["inputs"] for run in runs if run.document.get("inputs")}
    problems: list[str] = []
    for part in dict.fromkeys(part for inputs in recorded.values() for part in inputs):
        labels = {name: inputs[part]["labels"][:12] for name, inputs in recorded.items()}
        problems += _differing(f"labels of the {part} part of {where}", labels)
        for encoder in sorted({name for inputs in recorded.values() for name in inputs[part]["features"]}):
            having = {name: inputs[part]["features"].get(encoder) for name, inputs in recorded.items()}
            found = {name: digest[:12] for name, digest in having.items() if digest}
            problems += _differing(f"what {encoder} features of the {part} part of {where} were made from", found)
    return problems


def _by_split(runs: Sequence[RunDirectory]) -> dict[tuple[int, int], list[RunDirectory]]:
    groups: dict[tuple[int, int], list[RunDirectory]] = {}
    for run in runs:
        groups.setdefault((run.document["seed"], run.document.get("fold", 0)), []).append(run)
    return groups


def _lists(document: Mapping[str, Any]) -> str:
    """A digest of who is where; runs from before the whole split had one are known by the parts they were given."""
    parts = {part: recorded["digest"] for part, recorded in document["split"].items()}
    return str(document.get("split_digest") or json.dumps(parts, sort_keys=True))[:12]


def _differing(what: str, by_run: Mapping[str, Any]) -> list[str]:
    """["what a (run), b (run)"] where the runs do not say the same."""
    runs_of: dict[Any, list[str]] = {}
    for name, value in by_run.items():
        runs_of.setdefault(value, []).append(name)
    if len(runs_of) < 2:
        return []
    shown = [f"{value} ({_some(names)})" for value, names in runs_of.items()]
    return [f"{what}: {' and '.join(shown)}"]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN_RUNS]) + (f" and {len(names) - SHOWN_RUNS} more" if len(names) > SHOWN_RUNS else "")
