"""Which of the wanted runs are there already, wherever they were trained. Reads run.json alone.

A run counts when everything that makes it what it is agrees, its folder's name and the machine apart. The version of
the software is not part of that; a difference is told. Whether labels and inputs are those of today is for `today`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sentifuse
from sentifuse import ConfigError, DataError
from sentifuse.fuse.comparison.plan import Identity, WantedRun, identify
from sentifuse.fuse.config import TrainConfig
from sentifuse.fuse.heads import HEADS, load_head
from sentifuse.fuse.run import RUN_FILE, RunDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Runs on disk by what makes them."""

    by_identity: Mapping[Identity, tuple[RunDirectory, ...]]  # by name, so the oldest first
    unreadable: Mapping[str, str]  # folder -> why
    seconds: Mapping[tuple[str, str], float]  # (head, dataset) -> mean time of a training

    def run_of(
        self, wanted: WantedRun, is_usable: Callable[[RunDirectory], bool] = lambda run: True
    ) -> RunDirectory | None:
        """The usable run that is exactly this: of several the newest of this version, else the newest."""
        runs = self.by_identity.get(wanted.identity, ()) if wanted.identity is not None else ()
        usable = [run for run in runs if is_usable(run)]
        ours = [run for run in usable if version_of(run) == sentifuse.__version__]
        return next(reversed(ours or usable), None)


def find_runs(folder: Path) -> Found:
    """All finished runs of a folder `artifacts/runs`; one that cannot be read is told, not used."""
    by_identity: dict[Identity, list[RunDirectory]] = {}
    unreadable: dict[str, str] = {}
    times: dict[tuple[str, str], list[float]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or not (path / RUN_FILE).is_file():
            continue
        try:
            run = RunDirectory.open(path)
            identity = identity_of(run.document)
            key = (str(run.document["head"]), str(run.document["dataset"]))
            times.setdefault(key, []).append(float(run.document["timings"]["fit_s"]))
        except (DataError, KeyError, TypeError, ValueError) as error:
            unreadable[path.name] = str(error) or type(error).__name__
            continue
        if identity is not None:
            by_identity.setdefault(identity, []).append(run)
    return Found(
        by_identity={identity: tuple(runs) for identity, runs in by_identity.items()},
        unreadable=unreadable,
        seconds={key: sum(values) / len(values) for key, values in times.items()},
    )


def identity_of(document: Mapping[str, Any]) -> Identity | None:
    """What makes this run; None where it cannot be known: an unknown head or setting, or no digest of its split."""
    if document["head"] not in HEADS or "split_digest" not in document:
        return None
    try:
        # Through the dataclasses: a setting that came later counts with its default.
        settings = asdict(load_head(document["head"]).Config(**document["config"]["head"]))
        recipe = asdict(TrainConfig(**document["config"]["train"]))
    except (TypeError, ConfigError):
        return None
    return identify(
        head=document["head"],
        config={"head": settings, "train": recipe},
        dataset=document["dataset"],
        rule=document["rule"],
        target=document["target"],
        protocol=document["protocol"],
        seed=document["seed"],
        fold=document.get("fold", 0),
        split_digest=document["split_digest"],
        features={name: recorded["fingerprint"] for name, recorded in document["feature_sets"].items()},
    )


def version_of(run: RunDirectory) -> str:
    return str(run.document["versions"]["sentifuse"])


def version_notes(runs: Sequence[RunDirectory]) -> list[str]:
    """What to say of runs that another version of the software trained."""
    others = Counter(version_of(run) for run in runs if version_of(run) != sentifuse.__version__)
    notes = [
        f"{n} of {len(runs)} runs were trained by version {version}, not by {sentifuse.__version__} as is at work here"
        for version, n in sorted(others.items())
    ]
    if n := sum("inputs" not in run.document for run in runs):
        notes.append(
            f"{n} of {len(runs)} runs do not say which labels and inputs they were trained on: split, recipes and "
            "settings are those of today, but a label that was changed since would not be noticed"
        )
    return notes
