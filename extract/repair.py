"""Repairs the feature sets of a dataset: what `cache.mend` cannot prove is encoded again, batch by batch as it was.

Models are found and loaded only when a row really has to go through them. Rows that cannot come back as they were are
left to an ordinary extraction, which follows at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sentifuse import ConfigError, DataError, ResourceError, SentifuseError
from sentifuse.cache.checkup.evidence import weigh
from sentifuse.cache.checkup.faults import Report
from sentifuse.cache.checkup.guess import Expected
from sentifuse.cache.checkup.mend import Repaired
from sentifuse.cache.checkup.mend import repair as mend
from sentifuse.cache.checkup.salvage import LostBatch
from sentifuse.cache.checkup.verify import verify
from sentifuse.cache.errors import CacheError, FingerprintMismatch
from sentifuse.cache.featureset import FeatureSet, differing_keys, open_feature_set
from sentifuse.cache.fingerprint import fingerprint
from sentifuse.cache.spec import Row
from sentifuse.data.manifest import Manifest, read_manifest
from sentifuse.data.prepare import dataset_dir
from sentifuse.extract.encoder import Encoder, EncoderPlan, describe_encoder
from sentifuse.extract.encoders import ENCODERS, encoder_inputs
from sentifuse.extract.gold_seen import add_gold_seen
from sentifuse.extract.job import ExtractRequest, find_devices, refuse_missing_root, resolve
from sentifuse.extract.lanes import core_count
from sentifuse.extract.models.weights import find_models, weights_folder
from sentifuse.extract.plan import RowInput, list_inputs
from sentifuse.extract.precision import PRECISIONS
from sentifuse.extract.runner import Summary, TooManyFailures, run, set_details
from sentifuse.extract.worker import build_encoders, encode_again

__all__ = ["SetRepair", "encoder_of", "find_expected", "repair", "verify_set"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRepair:
    """What became of one feature set.

    Attributes
    ----------
    repaired : Repaired
        What was mended, and the check before and after.
    after : Report
        The last check of all, after the extraction if there was one.
    extracted : Summary or None
        The extraction of rows that could not come back as they were.
    error : SentifuseError or None
        Why rows could not be made again; everything else was mended.
    """

    repaired: Repaired
    after: Report
    extracted: Summary | None = None
    error: SentifuseError | None = None

    def to_json(self) -> dict[str, Any]:
        done = self.repaired
        return {
            "directory": str(done.directory),
            "faults_before": [fault.to_json() for fault in done.before.faults],
            "faults_after": [fault.to_json() for fault in self.after.faults],
            "files_made_anew": list(done.files),
            "shards": [shard.to_json() for shard in done.shards],
            "restored": done.count("restored"),
            "changed": done.count("changed"),
            "dropped": done.count("dropped"),
            "left": done.count("left"),
            "rows_kept": done.total("kept"),
            "rows_recomputed": done.total("recomputed"),
            "batches_recomputed": done.total("batches"),
            "rows_encoded": done.total("encoded"),
            "extracted": self.extracted.computed if self.extracted else 0,
            "error": str(self.error) if self.error else None,
        }


def encoder_of(directory: Path) -> str:
    """The encoder whose feature set lies in a folder, by the folder's name: its recipe may be damaged."""
    return directory.name.rpartition("-")[0]


def find_expected(artifacts: Path, dataset: str, encoder: str) -> Expected | None:
    """Id -> digest and status of each input an encoder has in a dataset; None when that is not known.

    It is not for a dataset that is not prepared here, and for features that another program made.
    """
    try:
        manifest = read_manifest(dataset_dir(artifacts, dataset))
    except DataError:
        return None
    inputs = _inputs(manifest, encoder)
    return {row.id: (row.digest, row.status) for row in inputs} if inputs is not None else None


def verify_set(
    artifacts: Path, directory: Path, *, deep: bool, progress: Callable[[int], None] | None = None
) -> Report:
    """`cache.verify` of a feature set, with the manifest of its dataset beside it."""
    expected = find_expected(artifacts, directory.parent.name, encoder_of(directory))
    return verify(directory, deep=deep, expected=expected, progress=progress)


def repair(
    request: ExtractRequest,
    directory: Path,
    *,
    precision: str | None = None,
    is_dry: bool = False,
    progress: Callable[[int], None] | None = None,
) -> SetRepair:
    """Mend one feature set of `request.dataset`, with the models and devices of the request where it takes them.

    Parameters
    ----------
    precision
        None: the one the set was made with.
    is_dry
        Only say what would be done.
    progress
        Called with the number of bytes checked while looking for damage.

    Raises
    ------
    ConfigError
        A precision there is not.
    CacheError
        Another writer is at work, a later version wrote the set, or nothing says what it is.
    """
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError.unknown("precision", precision, PRECISIONS, where="--precision")
    encoder = encoder_of(directory)
    request = replace(request, precision=precision or _precision_of(directory))
    again = _Again(request, encoder)
    done = mend(
        directory,
        expected=again.expected,
        recompute=again,
        details=None if is_dry else again.details(directory),
        is_dry=is_dry,
        progress=progress,
    )
    if done.count("left") and isinstance(again.manifest, DataError):
        again.error = again.manifest
    if is_dry or not done.must_extract:
        return SetRepair(repaired=done, after=done.after, error=again.error)
    extracted, error = _extract(request, encoder, directory)
    after = verify(directory, expected=again.expected)
    return SetRepair(repaired=done, after=after, extracted=extracted, error=again.error or error)


class _Again:
    """Encodes batches again; finds and loads the models when the first one comes. Called by `cache.mend`."""

    def __init__(self, request: ExtractRequest, encoder: str) -> None:
        self.request = request
        self.encoder = encoder
        self.error: SentifuseError | None = None
        self.manifest: Manifest | DataError
        self.rows: Mapping[str, RowInput] = {}
        self.expected: Expected | None = None
        self._loaded: Encoder | None = None
        self._device = ""
        try:
            self.manifest = read_manifest(dataset_dir(request.artifacts, request.dataset))
        except DataError as error:
            self.manifest = error  # of no consequence until a row must be made again
            return
        inputs = _inputs(self.manifest, encoder)
        if inputs is not None:
            self.rows = {row.id: row for row in inputs}
            self.expected = {row.id: (row.digest, row.status) for row in inputs}

    def __call__(self, feature_set: FeatureSet, batches: Sequence[LostBatch]) -> list[Row] | None:
        inputs = [[self.rows[row_id] for row_id in batch.ids] for batch in batches]
        try:
            if isinstance(self.manifest, DataError):
                raise self.manifest
            root = self.manifest.root
            refuse_missing_root(self.request.dataset, root, (row for rows in inputs for row in rows))
            encoder = self._load(feature_set)
        except (ResourceError, ConfigError, DataError, CacheError) as error:
            self.error = error
            return None
        made = encode_again(
            inputs,
            encoder,
            root=root,
            loader_count=self.request.loader_count or core_count(),
            device=self._device,
        )
        # A row that never went through the encoder has a reason for it. If that has gone, it is a new row.
        never = {row_id for batch in batches if not batch.had_values for row_id in batch.ids}
        return [row for row in made if row.status != "ok" or row.id not in never]

    def details(self, directory: Path) -> dict[str, Any] | None:
        """The details of a recipe.json that is damaged, as the same extraction would write them."""
        try:
            open_feature_set(directory)
        except CacheError:
            try:
                plan = _plan(self.request, self.encoder)
            except SentifuseError:
                return None  # they are for people only; the recipe itself is in every shard
            is_same = directory.name == f"{self.encoder}-{fingerprint(plan.recipe)[:12]}"
            return set_details(_as_extracted(self.request, directory), plan) if is_same else None
        return None

    def _load(self, feature_set: FeatureSet) -> Encoder:
        if self._loaded is None:
            plan = _plan(self.request, self.encoder)
            _refuse_other_recipe(feature_set, plan, self.request)
            self._device = find_devices(self.request.device)[0]
            self._loaded = build_encoders({self.encoder: plan}, self._device)[self.encoder]
            if self._loaded.fields != feature_set.fields:
                raise FingerprintMismatch(
                    f"{feature_set.directory}: the encoder has fields {[f.to_json() for f in self._loaded.fields]}, "
                    f"expected {[f.to_json() for f in feature_set.fields]}. Another version made it: extract it anew."
                )
        return self._loaded


def _inputs(manifest: Manifest, encoder: str) -> list[RowInput] | None:
    return list_inputs(manifest, encoder_inputs(encoder)) if encoder in ENCODERS else None


def _plan(request: ExtractRequest, encoder: str) -> EncoderPlan:
    """The encoder as the profile describes it; raises what `job.resolve` raises."""
    (entry,) = request.profile.choose((encoder,))
    search = (*request.weights, weights_folder(request.artifacts))
    found = find_models(request.profile, [entry], search=search, is_offline=request.is_offline)
    device = "cpu" if request.precision == "exact" else find_devices(request.device)[0]
    plan = describe_encoder(entry, found.models[encoder], precision=request.precision, device=device)
    return add_gold_seen(plan, read_manifest(dataset_dir(request.artifacts, request.dataset)), request.dataset)


def _refuse_other_recipe(feature_set: FeatureSet, plan: EncoderPlan, request: ExtractRequest) -> None:
    if fingerprint(plan.recipe) == feature_set.fingerprint:
        return
    differing = differing_keys(feature_set.recipe, plan.recipe)
    keys = ", ".join(f"{key} {old!r} there, {new!r} here" for key, old, new in differing)
    made_with = feature_set.details.get("profile")
    asked = feature_set.details.get("precision_asked")
    advice = "Give the ones it was made with"
    advice += f": --profile {made_with} --precision {asked}" if made_with and asked else ""
    raise FingerprintMismatch(
        f"{feature_set.directory}: made by another recipe than profile {request.profile.name!r} with precision "
        f"{request.precision} has ({keys}). {advice}."
    )


def _extract(request: ExtractRequest, encoder: str, directory: Path) -> tuple[Summary | None, SentifuseError | None]:
    """The ordinary extraction of what is not stored, if it goes into this folder."""
    try:
        _refuse_other_recipe(open_feature_set(directory), _plan(request, encoder), request)
        return run(resolve(replace(_as_extracted(request, directory), encoders=(encoder,)))), None
    except TooManyFailures as error:
        return error.summary, error
    except (ResourceError, ConfigError, DataError, CacheError) as error:
        return None, error


def _as_extracted(request: ExtractRequest, directory: Path) -> ExtractRequest:
    """The request with the sizes of shards and batches that a feature set was made with, so that bytes are equal."""
    try:
        details = open_feature_set(directory).details
    except CacheError:
        details = _seen_sizes(directory)
    return replace(
        request,
        batch_rows=_size(details.get("batch_rows"), request.batch_rows),
        shard_rows=_size(details.get("shard_rows"), request.shard_rows),
    )


def _precision_of(directory: Path) -> str:
    """The --precision of the extraction, as far as the set still says it."""
    found = weigh(directory).feature_set
    asked = found.details.get("precision_asked") if found is not None else None
    return asked if asked in PRECISIONS else "exact"


def _size(value: Any, default: int) -> int:
    return value if type(value) is int and value > 0 else default


def _seen_sizes(directory: Path) -> dict[str, int]:
    """Rows of a full shard and of a full batch; a single shard may be no full one."""
    shards = weigh(directory).shards
    counts = [np.unique(shard.proof.row_batch, return_counts=True) for shard in shards if shard.proof is not None]
    batches = [
        int(count) for numbers, found in counts for number, count in zip(numbers, found, strict=True) if number >= 0
    ]
    if len(shards) < 2 or not batches:
        return {}
    return {"batch_rows": max(batches), "shard_rows": max(shard.record.rows for shard in shards)}
