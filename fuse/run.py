"""A run directory: everything needed to repeat, evaluate and explain one training. It appears whole or not at all.

Knows files and how to rebuild the head from them; trains and evaluates nothing.
"""

import csv
import io
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from sentifuse import CacheError, ConfigError, DataError
from sentifuse.cache.current import read_current
from sentifuse.cache.errors import Unwritable
from sentifuse.cache.featureset import FeatureSet, differing_keys, open_feature_set
from sentifuse.cache.lock import WriterLock
from sentifuse.cache.reader import FeatureReader
from sentifuse.data import files
from sentifuse.fuse.features.batches import FieldRequest, find_field, width_of
from sentifuse.fuse.features.samples import OpenReader
from sentifuse.fuse.heads import load_head
from sentifuse.fuse.heads.head import Head

FORMAT_VERSION = 1
RUN_FILE, HISTORY_FILE, MODEL_FILE = "run.json", "history.csv", "model.safetensors"
HINT = "Train again: sentifuse train --head HEAD"
SHOWN_DIFFERENCES = 6
LOCK_S = 30.0  # to wait for another process that counts a look at the same run; it takes milliseconds
# What every reader of a run takes for granted.
KINDS: Mapping[str, type] = {
    **dict.fromkeys(("head", "preset", "dataset", "rule", "target", "protocol"), str),
    **dict.fromkeys(("config", "widths", "split", "feature_sets", "samples", "best", "timings"), dict),
    "seed": int,
    "classes": list,
}


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A finished training on disk; `document` is its run.json."""

    path: Path
    document: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """The run in a folder.

        Raises
        ------
        ConfigError
            No run is there.
        DataError
            Its run.json cannot be read, or was written by another version of the format.
        """
        path = Path(path)
        if not (path / RUN_FILE).is_file():
            raise ConfigError(f"{path}: expected a run directory with {RUN_FILE}, found none. {HINT}")
        document = files.read_json(path / RUN_FILE, hint=HINT)
        if document.get("format") != FORMAT_VERSION:
            raise DataError(
                f"{path / RUN_FILE}: expected format {FORMAT_VERSION}, found {document.get('format')!r}. {HINT}"
            )
        inside = document["config"] if isinstance(document.get("config"), dict) else {}
        odd = [name for name, kind in KINDS.items() if not isinstance(document.get(name), kind)]
        odd += [f"config.{name}" for name in ("head", "train") if not isinstance(inside.get(name), dict)]
        if odd:
            raise DataError(
                f"{path / RUN_FILE}: expected what a training writes, found {', '.join(odd)} missing or damaged. {HINT}"
            )
        return cls(path, document)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def artifacts(self) -> Path:
        """The artefacts folder that the run lies in, as `artifacts/runs/<name>`."""
        return self.path.resolve().parents[1]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.document["classes"])

    def requests(self) -> tuple[FieldRequest, ...]:
        """The fields that the head reads under the run's config."""
        head = load_head(self.document["head"])
        return head.requests(head.Config(**self.document["config"]["head"]))

    def load_head(self) -> Head:
        """The trained head on the CPU, in evaluation mode.

        Raises
        ------
        DataError
            model.safetensors does not hold what this head needs.
        """
        head_class = load_head(self.document["head"])
        config = head_class.Config(**self.document["config"]["head"])
        head = head_class(config, self.document["widths"], len(self.classes))
        path = self.path / MODEL_FILE
        try:
            state = safetensors.torch.load(files.read_bytes(path, hint=HINT))
        except safetensors.SafetensorError as error:
            raise DataError(f"{path}: not a readable safetensors file ({error}). {HINT}") from error
        expected = {name: tuple(value.shape) for name, value in head.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in state.items()}
        if found != expected:
            odd = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
            first = odd[0]
            raise DataError(
                f"{path}: {first} has shape {found.get(first)}, expected {expected.get(first)} "
                f"({len(odd)} tensors differ). Made by another version of this head? {HINT}"
            )
        head.load_state_dict(state)
        return head.eval()

    def open_features(
        self, artifacts: Path | None = None, *, reader: str = "mmap", open_reader: OpenReader = FeatureReader
    ) -> dict[str, FeatureReader]:
        """Readers of the very feature sets that the run was trained on, by encoder; see `samples.open_features`.

        Raises
        ------
        CacheError
            They are gone, or what lies there was made by another recipe; the message names the differing settings.
        """
        cache_dir = (artifacts or self.artifacts) / "cache" / self.document["dataset"]
        readers = {
            encoder: open_reader(_find_feature_set(cache_dir, encoder, recorded, self.name), reader=reader)
            for encoder, recorded in self.document["feature_sets"].items()
        }
        for request in self.requests():
            width = width_of(find_field(readers, request))
            if width != self.document["widths"][request.key]:
                raise CacheError(
                    f"{cache_dir}: {request.key} has width {width}, expected {self.document['widths'][request.key]} "
                    f"as in run {self.name}. {HINT}"
                )
        return readers

    def count_evaluation(self, split: str) -> int:
        """Note in run.json that a part was opened; how often it was so far.

        Raises
        ------
        Locked
            Another process has been at the run's count for half a minute.
        """
        lock = WriterLock(self.path / ".lock")
        # Where the file system has no locks a count may be lost; that is no reason to measure nothing there.
        with suppress(Unwritable):
            lock.acquire(LOCK_S)
        try:
            document = files.read_json(self.path / RUN_FILE, hint=HINT)
            counts = dict(document.get("evaluations", {}))
            counts[split] = counts.get(split, 0) + 1
            files.write_json(self.path / RUN_FILE, document | {"evaluations": counts})
        finally:
            if (
                lock.is_held
            ):  # removed by its owner alone; who waits for it sees that the name is gone and makes a new one
                with suppress(OSError):
                    lock.path.unlink()
            lock.release()
        return int(counts[split])


def run_name(started: datetime, *, head: str, dataset: str, protocol: str, seed: int, fold: int | None = None) -> str:
    """`<utc>-<head>-<dataset>-<protocol>-s<seed>[-f<fold>]-<4 hex digits>`; digits keep runs of one second apart."""
    fold_part = "" if fold is None else f"-f{fold}"
    return f"{started:%Y%m%dT%H%M%SZ}-{head}-{dataset}-{protocol}-s{seed}{fold_part}-{secrets.token_hex(2)}"


def check_runs_folder(artifacts: Path) -> Path:
    """The folder for runs, made if need be; refused now if nothing can be written there later."""
    runs = artifacts / "runs"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        probe = runs / f".probe-{os.getpid()}-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"{runs}: cannot be written: {error.strerror or error}. Mend the permissions or free some space, or choose "
            "another folder with --artifacts"
        ) from error
    return runs


def write_run(
    runs: Path,
    name: str,
    *,
    document: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    head: Head,
    predictions: "Predictions",
    metrics: Mapping[str, Any],
) -> RunDirectory:
    """Write a run under a temporary name and rename it; an interrupted call leaves no run."""
    temporary = runs / f".tmp-{name}"
    try:
        temporary.mkdir()
        state = {key: value.detach().cpu().contiguous() for key, value in head.state_dict().items()}
        files.write_bytes(temporary / MODEL_FILE, safetensors.torch.save(state))
        files.write_bytes(temporary / HISTORY_FILE, _csv(history).encode())
        predictions.write(temporary, "val")
        write_metrics(temporary, "val", metrics)
        files.write_json(temporary / RUN_FILE, dict(document))
        temporary.replace(runs / name)
    except OSError as error:
        raise DataError(f"{temporary}: cannot be written: {error.strerror or error}. Free some space") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return RunDirectory.open(runs / name)


def write_metrics(folder: Path, split: str, metrics: Mapping[str, Any]) -> Path:
    """`metrics-<split>.json`."""
    path = folder / f"metrics-{split}.json"
    files.write_json(path, dict(metrics))
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a head said about pairs whose label is known."""

    ids: tuple[str, ...]
    labels: np.ndarray[Any, np.dtype[np.int64]]  # (N,)
    probabilities: np.ndarray[Any, np.dtype[Any]]  # (N, K) float64, rows add up to 1
    classes: tuple[str, ...]

    @property
    def predicted(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(N,) the most probable class; the first one of equal ones."""
        predicted: np.ndarray[Any, np.dtype[np.int64]] = self.probabilities.argmax(1).astype(np.int64)
        return predicted

    def write(self, folder: Path, split: str) -> Path:
        """`predictions-<split>.parquet`: id, label, predicted, and p_<class> for every class."""
        path = folder / f"predictions-{split}.parquet"
        columns: dict[str, tuple[str, list[Any]]] = {
            "id": ("string", list(self.ids)),
            "label": ("string", [self.classes[i] for i in self.labels]),
            "predicted": ("string", [self.classes[i] for i in self.predicted]),
        }
        for i, name in enumerate(self.classes):
            columns[f"p_{name}"] = ("float64", self.probabilities[:, i].tolist())
        files.write_table(path, columns, {"split": split, "classes": list(self.classes)})
        return path


def read_predictions(run: RunDirectory, split: str) -> Predictions:
    """What `Predictions.write` wrote."""
    classes = run.classes
    path = run.path / f"predictions-{split}.parquet"
    names = ["id", "label", *(f"p_{name}" for name in classes)]
    columns, _ = files.read_table(path, names, hint=f"Run: sentifuse evaluate --run {run.name} --split {split}")
    positions = {name: i for i, name in enumerate(classes)}
    return Predictions(
        ids=tuple(columns["id"]),
        labels=np.array([positions[name] for name in columns["label"]], dtype=np.int64),
        probabilities=np.array([columns[f"p_{name}"] for name in classes], dtype=np.float64).T.reshape(
            -1, len(classes)
        ),
        classes=classes,
    )


def describe_feature_set(reader: FeatureReader) -> dict[str, Any]:
    """What a run remembers of a feature set."""
    return {
        "directory": f"{reader.encoder}-{reader.fingerprint[:12]}",
        "fingerprint": reader.fingerprint,
        "recipe": reader.recipe,
    }


def used_fingerprints(runs: Path) -> dict[str, tuple[str, ...]]:
    """Fingerprint of a feature set -> names of the runs in this folder that were trained on it.

    Raises
    ------
    DataError
        A run that cannot be read: nobody knows what it uses.
    """
    used: dict[str, tuple[str, ...]] = {}
    for folder in sorted(runs.iterdir()) if runs.is_dir() else []:
        if (folder / RUN_FILE).is_file():
            for recorded in RunDirectory.open(folder).document["feature_sets"].values():
                used[recorded["fingerprint"]] = (*used.get(recorded["fingerprint"], ()), folder.name)
    return used


def count_parameters(head: Head) -> int:
    """Learned numbers: parameters, or the buffers of a head with a closed fit."""
    tensors: list[torch.Tensor] = list(head.buffers()) if head.has_closed_fit else list(head.parameters())
    return sum(tensor.numel() for tensor in tensors)


def _find_feature_set(cache_dir: Path, encoder: str, recorded: Mapping[str, Any], run: str) -> FeatureSet:
    directory = cache_dir / recorded["directory"]
    if not (directory / "recipe.json").is_file():
        current = read_current(cache_dir)  # refuses with the command to type when nothing was extracted
        if encoder not in current.encoders:
            raise CacheError(
                f"{directory}: the features that run {run} was trained on are not there. "
                f"Run: sentifuse extract --dataset {cache_dir.name} --encoders {encoder}"
            )
        directory = current.directory(encoder)
    found = open_feature_set(directory)
    if found.fingerprint != recorded["fingerprint"]:
        differences = differing_keys(recorded["recipe"], found.recipe)
        shown = "; ".join(
            f"{key}: {_short(ours)} in the run, {_short(theirs)} in the cache"
            for key, ours, theirs in differences[:SHOWN_DIFFERENCES]
        )
        raise CacheError(
            f"{directory}: run {run} was trained on {encoder} features {recorded['fingerprint'][:12]}, found "
            f"{found.fingerprint[:12]} ({shown}). Extract with the profile of the run, or train again on these features"
        )
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
