"""Which runs a comparison is made of: every row with every seed and fold, each known by everything that makes it.

Reads the dataset, its splits and the names of its feature sets. Trains nothing, reads no pair of a test part.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import CacheError, ConfigError
from sentifuse.cache.current import read_current
from sentifuse.cache.featureset import open_feature_set
from sentifuse.data.card import read_card
from sentifuse.data.labels import TARGETS, read_labels
from sentifuse.data.protocols import FOLDED, PROTOCOLS, PUBLISHED
from sentifuse.data.published import read_lists
from sentifuse.data.splits import SplitFacts, read_split_facts
from sentifuse.fuse.comparison.choices import Choice, parse_folds
from sentifuse.fuse.config import ResolvedConfig, resolve
from sentifuse.fuse.features.samples import encoders_of
from sentifuse.fuse.heads import load_head

Identity = str  # canonical JSON of everything that makes a run what it is


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRun:
    """One training: a row of the table with one seed and one fold (0: a protocol without folds)."""

    choice: Choice
    seed: int
    fold: int
    identity: Identity | None  # None: the split was never made, so no run of it can exist

    @property
    def name(self) -> str:
        return f"{self.choice.name}, seed {self.seed}" + (f", fold {self.fold}" if self.fold else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is compared, and on what."""

    artifacts: Path
    dataset: str
    protocol: str
    rule: str
    target: str
    classes: tuple[str, ...]
    profile: str
    features: Mapping[str, str]  # encoder -> fingerprint, of all rows together
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    choices: tuple[Choice, ...]
    wanted: tuple[WantedRun, ...]  # seed by seed, so that an interrupted comparison has whole seeds
    left_out: Mapping[str, str]  # row -> why it is not compared
    stored_regions: int | None = None  # m of the feature set, to know what a larger region_count means

    @property
    def dataset_dir(self) -> Path:
        return self.artifacts / "datasets" / self.dataset


def make_plan(
    artifacts: Path,
    dataset: str,
    choices: Sequence[Choice],
    *,
    seeds: Sequence[int],
    folds: str | None = None,
    protocol: str | None = None,
    rule: str | None = None,
    target: str = "label",
    skip_lacking: bool = False,
    write_splits: bool = True,
) -> Plan:
    """All runs that the table needs.

    Parameters
    ----------
    protocol, rule
        None takes the dataset card's.
    folds
        None or "all": every fold; otherwise numbers, see `parse_folds`.
    skip_lacking
        Leave out rows whose features were not extracted, and say so; otherwise they are refused.
    write_splits
        False leaves the disk alone: a split that was never made has no digest, and so no runs.

    Raises
    ------
    ConfigError, DataError, CacheError
        Unknown names or settings; the dataset is not prepared; its features are not there.
    """
    dataset_dir = artifacts / "datasets" / dataset
    card = read_card(dataset_dir)
    protocol = card.protocol if protocol is None else protocol
    if protocol not in PROTOCOLS:
        raise ConfigError.unknown("protocol", protocol, PROTOCOLS, where="--protocol")
    if target not in TARGETS:
        raise ConfigError.unknown("target", target, TARGETS, where="--target")
    labels = read_labels(dataset_dir, rule)
    configs = {choice.name: _resolve(choice, dataset) for choice in choices}
    current = read_current(artifacts / "cache" / dataset)
    left_out: dict[str, str] = {}
    for choice in choices:
        needed = encoders_of(load_head(choice.head).requests(configs[choice.name].head))
        lacking = [encoder for encoder in needed if encoder not in current.encoders]
        if lacking and not skip_lacking:
            raise CacheError(
                f"{current.cache_dir}: row {choice.name} expects features of {', '.join(needed)}, found "
                f"{', '.join(sorted(current.encoders)) or 'none'}. "
                f"Run: sentifuse extract --dataset {dataset} --encoders {','.join(lacking)}"
            )
        if lacking:
            left_out[choice.name] = f"features of {', '.join(lacking)} were not extracted"
    kept = tuple(choice for choice in choices if choice.name not in left_out)
    if not kept:
        raise CacheError(
            f"{current.cache_dir}: no head can be trained on {', '.join(current.encoders) or 'no features'}"
        )
    encoders = {c.name: encoders_of(load_head(c.head).requests(configs[c.name].head)) for c in kept}
    sets = {name: open_feature_set(current.directory(name)) for names in encoders.values() for name in names}
    features = {name: found.fingerprint for name, found in sorted(sets.items())}
    regions = [f for f in sets["regions"].fields if f.name == "features"] if "regions" in sets else []
    numbers = parse_folds(folds, protocol, _fold_count(dataset_dir, protocol, card.folds))
    facts = _facts_reader(dataset_dir, protocol, labels.rule, write_splits)
    wanted = []
    for seed in seeds:
        for fold in numbers:
            split = facts(seed, fold)
            for choice in kept:
                identity = None
                if split is not None:
                    identity = identify(
                        head=choice.head,
                        config=configs[choice.name].to_json(),
                        dataset=dataset,
                        rule=labels.rule,
                        target=target,
                        protocol=protocol,
                        seed=seed,
                        fold=fold,
                        split_digest=split.digest,
                        features={name: features[name] for name in encoders[choice.name]},
                    )
                wanted.append(WantedRun(choice=choice, seed=seed, fold=fold, identity=identity))
    return Plan(
        artifacts=artifacts,
        dataset=dataset,
        protocol=protocol,
        rule=labels.rule,
        target=target,
        classes=labels.classes,
        profile=current.profile,
        features=features,
        seeds=tuple(seeds),
        folds=numbers,
        choices=kept,
        wanted=tuple(wanted),
        left_out=left_out,
        stored_regions=int(regions[0].shape[0]) if regions else None,
    )


def identify(
    *,
    head: str,
    config: Mapping[str, Any],
    dataset: str,
    rule: str,
    target: str,
    protocol: str,
    seed: int,
    fold: int,
    split_digest: str,
    features: Mapping[str, str],
) -> Identity:
    """Everything that makes a run what it is; not where a setting came from, nor device, version or time.

    Parameters
    ----------
    config
        {"head": settings, "train": settings, …}; other keys do not count.
    features
        encoder → fingerprint.
    """
    document = {
        "head": head,
        "config": {part: dict(config[part]) for part in ("head", "train")},
        "dataset": dataset,
        "rule": rule,
        "target": target,
        "protocol": protocol,
        "seed": seed,
        "fold": fold,
        "split_digest": split_digest,
        "features": dict(features),
    }
    return json.dumps(document, sort_keys=True)


def _resolve(choice: Choice, dataset: str) -> ResolvedConfig:
    head = load_head(choice.head)
    return resolve(
        choice.head, head.Config, head.PRESETS, preset=choice.preset, overrides=choice.overrides, dataset=dataset
    )


def _fold_count(dataset_dir: Path, protocol: str, k: int) -> int:
    if protocol not in FOLDED:
        return 0
    return len(read_lists(dataset_dir, protocol).folds) if protocol in PUBLISHED else k


def _facts_reader(dataset_dir: Path, protocol: str, rule: str, write: bool) -> Callable[[int, int], SplitFacts | None]:
    def read(seed: int, fold: int) -> SplitFacts | None:
        if not write and not (dataset_dir / "splits" / f"{protocol}-s{seed}.parquet").is_file():
            return None
        return read_split_facts(dataset_dir, protocol=protocol, seed=seed, rule=rule, fold=fold)

    return read
