"""Whether a finished run learned from the labels and inputs that the dataset has today.

Under protocols with given lists a split stays the same when a label in it is changed, and a feature set keeps its
fingerprint when a row is completed or made anew from another picture; so both are looked at pair by pair. Opens the
index of feature sets, no value.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from sentifuse.cache.current import Current, read_current
from sentifuse.cache.featureset import open_feature_set
from sentifuse.cache.reader import FeatureReader
from sentifuse.data.labels import Labels, read_labels
from sentifuse.data.manifest import Pair, read_manifest
from sentifuse.data.splits import read_split
from sentifuse.fuse.features.inputs import digest_labels, digest_rows
from sentifuse.fuse.run import RunDirectory
from sentifuse.fuse.train import PARTS


class Today:
    """Digests of a dataset's parts as they are now; everything is read when first needed, and once."""

    def __init__(self, artifacts: Path, dataset: str, *, protocol: str, rule: str, target: str) -> None:
        self.dataset_dir = artifacts / "datasets" / dataset
        self.cache_dir = artifacts / "cache" / dataset
        self.protocol = protocol
        self.rule = rule
        self.target = target
        self._ids: dict[tuple[int, int, str], tuple[str, ...]] = {}
        self._digests: dict[tuple[int, int, str, str], str] = {}  # (seed, fold, part, encoder; "" of the labels)
        self._readers: dict[str, FeatureReader] = {}

    def has_inputs_of(self, run: RunDirectory) -> bool:
        """Whether training and validation part have the labels and inputs that the run was trained on.

        True of runs from before these were recorded: of them no more can be known than their split and recipes.
        """
        place, encoders = (run.document["seed"], run.document.get("fold", 0)), run.document["feature_sets"]
        return "inputs" not in run.document or run.document["inputs"] == {
            part: {"labels": self._digest(place, part, ""), "features": self.features(place, part, encoders)}
            for part in PARTS
        }

    def features(self, place: tuple[int, int], part: str, encoders: Mapping[str, object]) -> dict[str, str]:
        """Encoder → `digest_rows` of this part of the split of (seed, fold)."""
        return {encoder: self._digest(place, part, encoder) for encoder in encoders}

    def _digest(self, place: tuple[int, int], part: str, encoder: str) -> str:
        key = (*place, part, encoder)
        if key not in self._digests:
            ids = self._ids_of(place, part)
            if encoder:
                self._digests[key] = digest_rows(ids, self._reader(encoder), self._pairs)
            else:
                self._digests[key] = digest_labels(ids, self._labels, self.target)
        return self._digests[key]

    def _ids_of(self, place: tuple[int, int], part: str) -> tuple[str, ...]:
        seed, fold = place
        if (seed, fold, part) not in self._ids:
            self._ids[seed, fold, part] = read_split(
                self.dataset_dir, protocol=self.protocol, seed=seed, rule=self.rule, fold=fold, parts=(part,)
            )[part]
        return self._ids[seed, fold, part]

    def _reader(self, encoder: str) -> FeatureReader:
        if encoder not in self._readers:
            self._readers[encoder] = FeatureReader(open_feature_set(self._current.directory(encoder)))
        return self._readers[encoder]

    @cached_property
    def _current(self) -> Current:
        return read_current(self.cache_dir)

    @cached_property
    def _labels(self) -> Labels:
        return read_labels(self.dataset_dir, self.rule)

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        return read_manifest(self.dataset_dir).by_id()
