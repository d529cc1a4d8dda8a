"""One extraction, resolved but not started: which models, which feature sets, which rows are left.

Everything that can stop the work stops it here, before a model is loaded. Imports no torch, so that asking what is
left to do costs a second.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sentifuse import ConfigError, DataError
from sentifuse.cache.errors import CorruptIndex, NoFeatures
from sentifuse.cache.featureset import open_feature_set
from sentifuse.cache.fingerprint import fingerprint
from sentifuse.cache.journal import read_index
from sentifuse.cache.shard import read_layout
from sentifuse.data.image_hashes import read_image_hashes
from sentifuse.data.manifest import Manifest, read_manifest
from sentifuse.data.prepare import dataset_dir
from sentifuse.extract.encoder import EncoderPlan, describe_encoder
from sentifuse.extract.gold_seen import add_gold_seen
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.models.weights import find_models, weights_folder
from sentifuse.extract.plan import Plan, RowInput, list_inputs, plan_shards
from sentifuse.extract.precision import check_precision
from sentifuse.extract.profile import Profile
from sentifuse.extract.seen_images import refuse_seen
from sentifuse.extract.students import MODEL_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractRequest:
    """What `extract` was asked to do.

    `part` (i, n) takes only every n-th shard from the i-th, into a journal of its own; `encoders` empty means the
    profile's default.
    """

    artifacts: Path
    dataset: str
    profile: Profile
    encoders: tuple[str, ...] = ()
    weights: tuple[Path, ...] = ()
    engine: str = "local"
    device: str = "auto"
    precision: str = "exact"
    loader_count: int = 0  # 0: one thread per core
    batch_rows: int = 16
    shard_rows: int = 0  # 0: each encoder's own number
    is_offline: bool = False
    skip_missing: bool = False
    part: tuple[int, int] | None = None
    max_failures: int | None = None

    @property
    def cache_dir(self) -> Path:
        return self.artifacts / "cache" / self.dataset

    def rows_per_shard(self, encoder: EncoderPlan) -> int:
        """Rows of a full shard of an encoder: the number asked for, or else its own."""
        return self.shard_rows or encoder.shard_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderJob:
    """One feature set of the job; `plan` is what is left according to its index."""

    encoder: EncoderPlan
    directory: Path
    inputs: tuple[RowInput, ...]
    plan: Plan

    @property
    def name(self) -> str:
        return self.encoder.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything `runner.run` needs; `left_out` says why an encoder does not run (under --skip-missing)."""

    request: ExtractRequest
    manifest: Manifest
    encoders: Mapping[str, EncoderJob]
    left_out: Mapping[str, str]
    devices: tuple[str, ...]  # () until something has to be computed: only then is torch asked

    @property
    def has_work(self) -> bool:
        return any(encoder.plan.shards for encoder in self.encoders.values())


def resolve(request: ExtractRequest) -> Job:
    """Find the models, name the feature sets, plan the shards; reads only.

    Raises
    ------
    ConfigError
        A setting, an encoder's name, a part or a precision that cannot be.
    DataError
        The dataset is not prepared, its manifest is damaged, or the folder of its images has gone; or a student was
        trained on some of its images.
    ModelsMissing
        Models that cannot be had, all of them in one message.
    CacheError
        A feature set that is there cannot be believed.
    """
    if request.part is not None and not 0 <= request.part[0] < request.part[1]:
        raise ConfigError(f"--shards {request.part[0]}/{request.part[1]}: expected i/n with 0 ≤ i < n, such as 0/4")
    check_precision(request.precision)
    manifest = read_manifest(dataset_dir(request.artifacts, request.dataset))
    entries = request.profile.choose(request.encoders)
    found = find_models(
        request.profile,
        entries,
        search=(*request.weights, weights_folder(request.artifacts)),
        is_offline=request.is_offline,
        skip_missing=request.skip_missing,
    )
    for model in found.models.values():
        _refuse_students_own_images(model, manifest, request)
    # In exact precision the device changes no recipe; asking for it costs three seconds of importing torch.
    devices = () if request.precision == "exact" else find_devices(request.device)
    jobs = {
        entry.name: _encoder_job(
            request,
            manifest,
            add_gold_seen(
                describe_encoder(
                    entry,
                    found.models[entry.name],
                    precision=request.precision,
                    device=devices[0] if devices else "cpu",
                ),
                manifest,
                request.dataset,
            ),
        )
        for entry in entries
        if entry.name in found.models
    }
    planned = (job.inputs[row] for job in jobs.values() for shard in job.plan.shards for row in shard.rows)
    refuse_missing_root(request.dataset, manifest.root, planned)
    left_out = {name: str(error) for name, error in found.missing.items()}
    return Job(request=request, manifest=manifest, encoders=jobs, left_out=left_out, devices=devices)


def find_devices(asked: str) -> tuple[str, ...]:
    """The devices for `--device`: auto (the first GPU, else the CPU), cpu, cuda (all GPUs), or a list by commas.

    Raises
    ------
    ConfigError
        A name that is no device.
    ResourceError
        A GPU that is not there.
    """
    from sentifuse.extract.devices import resolve_devices

    return resolve_devices(asked)


def _encoder_job(request: ExtractRequest, manifest: Manifest, encoder: EncoderPlan) -> EncoderJob:
    directory = request.cache_dir / f"{encoder.name}-{fingerprint(encoder.recipe)[:12]}"
    inputs = tuple(list_inputs(manifest, encoder.inputs))
    known, numbers = _stored(directory)
    plan = plan_shards(inputs, known, numbers, shard_rows=request.rows_per_shard(encoder))
    return EncoderJob(encoder=encoder, directory=directory, inputs=inputs, plan=plan)


def refuse_missing_root(dataset: str, root: Path, rows: Iterable[RowInput]) -> None:
    """A disk that is not mounted must not become a store of failed rows.

    Raises
    ------
    DataError
        Some row's image lies in the dataset's folder, and that is not there.
    """
    needs_root = any(row.status == "ok" and row.image_path and not Path(row.image_path).is_absolute() for row in rows)
    if needs_root and not root.is_dir():
        raise DataError(
            f"{root}: expected the folder of the images of {dataset}, found none. Bring it back (is its disk mounted?) "
            f"or name its new place: sentifuse data prepare {dataset} --root DIR"
        )


def _refuse_students_own_images(model: LocatedModel, manifest: Manifest, request: ExtractRequest) -> None:
    if model.architecture == MODEL_TYPE and model.path is not None:
        digests = {pair.id: pair.image_digest for pair in manifest.pairs}
        # `data prepare` keeps the hashes; an image that it could not read is known by its bytes and id alone.
        hashes = read_image_hashes(dataset_dir(request.artifacts, request.dataset))
        refuse_seen(model.path, digests, request.dataset, hashes)


def _stored(directory: Path) -> tuple[dict[str, tuple[str, str]], frozenset[int]]:
    """What a feature set has, as far as its index says; the writer looks again under its lock."""
    try:
        feature_set = open_feature_set(directory)
        index = read_index(feature_set.index)
    except (NoFeatures, CorruptIndex):
        return {}, frozenset()  # nothing there yet, or an index that the next writer makes anew from the journal
    known: dict[str, tuple[str, str]] = {}
    present = [record for record in index.shards if (directory / record.file).exists()]  # the rest is made again
    for record in present:
        layout = read_layout(feature_set, record)
        known.update(zip(layout.ids, zip(layout.digests, layout.statuses, strict=True), strict=True))
    return known, frozenset(record.number for record in present)
