"""Is this installation right? Runs the self-tests of the rooms and verifies golden files. Computes nothing itself.

A check is a function that returns a line about what it saw, or raises; whatever it raises is a finding, never an end.
So is a library without which the checks cannot even be listed.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sentifuse import DataError, ResourceError, SentifuseError
from sentifuse.extract.environment import (
    REINSTALL,
    Seen,
    see_gpu,
    see_hdf5,
    see_numpy,
    see_operators,
    see_packages,
    see_processor,
    see_python,
    see_torch,
)

if TYPE_CHECKING:
    from sentifuse.extract.detector.golden.limits import Deviation
    from sentifuse.extract.encoder import Backbone
    from sentifuse.extract.profile import EncoderEntry

__all__ = [
    "CHECKERS",
    "Check",
    "Finding",
    "Seen",
    "Unwell",
    "all_checks",
    "examine",
    "golden_kind",
    "verify_golden",
]

LEAST_DISK_GB = 5.0

# Kind of golden file -> who verifies files of it: "module:function", called as `GoldenChecker` says.
CHECKERS: Mapping[str, str] = {
    "detector": "sentifuse.extract.detector.golden.check:check_golden_files",
    "heads": "sentifuse.fuse.golden.check:check_golden_files",
}


class Unwell(ResourceError):
    """Something that is installed here is not right, or a golden file is not reproduced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of the report: `found` is what was seen, `advice` what to do about it."""

    area: str
    check: str
    state: str
    found: str
    advice: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to look at; skipped where a check that it needs (by name) has failed."""

    area: str
    name: str
    look: Callable[[], Seen | str]
    needs: tuple[str, ...] = ()
    advice: str = ""  # where `look` raises something that has none


class GoldenVerdict(Protocol):
    """What the check of one golden file found."""

    @property
    def is_right(self) -> bool: ...

    def lines(self) -> list[str]: ...

    def to_json(self) -> dict[str, Any]: ...


class GoldenChecker(Protocol):
    """Verifies golden files of one kind; refuses (DataError, ConfigError) before it computes."""

    def __call__(
        self,
        files: Sequence[Path],
        *,
        images: Path | None,
        precision: str,
        is_float64: bool,
        device: str,
        note: Callable[[str], None],
    ) -> Iterable[GoldenVerdict]: ...


def examine(checks: Iterable[Check], *, begin: Callable[[Check], None] = lambda check: None) -> Iterator[Finding]:
    """Run checks one after the other; each gives one finding, whatever happens.

    Parameters
    ----------
    begin
        Called before each check: some take seconds.
    """
    failed: set[str] = set()
    for check in checks:
        begin(check)
        lacking = [name for name in check.needs if name in failed]
        if lacking:
            failed.add(check.name)
            seen, seconds = Seen(found=f"needs {', '.join(lacking)}, see above", state="skipped"), 0.0
        else:
            started = time.perf_counter()
            seen = _look(check)
            seconds = time.perf_counter() - started
        if seen.state == "failed":
            failed.add(check.name)
        yield Finding(
            area=check.area,
            check=check.name,
            state=seen.state,
            found=seen.found,
            advice=seen.advice or (check.advice if seen.state == "failed" else ""),
            seconds=seconds,
        )


def _look(check: Check) -> Seen:
    try:
        seen = check.look()
    except SentifuseError as error:  # says itself what to do
        return Seen(found=str(error), state="failed")
    except Exception as error:  # noqa: BLE001 - a broken library may raise anything, and that is the finding
        lines = str(error).strip().splitlines()
        return Seen(found=f"{type(error).__name__}: {lines[0] if lines else ''}", state="failed")
    return Seen(found=seen) if isinstance(seen, str) else seen


def all_checks(*, artifacts: Path, profile: str | Path, weights: Sequence[Path] = ()) -> list[Check]:
    """Every check there is: the environment, the models of a profile, the encoders, the cache.

    Parameters
    ----------
    artifacts
        The folder for everything that is made; it is not created, and nothing stays in it.
    profile
        Its name or file.
    weights
        Folders to look for the profile's models in, before that of `artifacts`.

    Raises
    ------
    ConfigError
        There is no such profile, or it is not right.
    """
    return [
        *_environment_checks(artifacts),
        *_listed("weights", partial(_weight_checks, profile, [*weights, artifacts / "weights"])),
        *_listed("encoders", _encoder_checks),
        *_cache_checks(artifacts),
    ]


def _listed(area: str, checks: Callable[[], Iterable[Check]]) -> list[Check]:
    """The checks of an area that profiles name; one in their place where a library to read profiles with is broken."""
    try:
        return list(checks())
    except SentifuseError:  # the profile is not right: the user's, not the installation's
        raise
    except Exception as error:  # noqa: BLE001 - what a broken library raises is a finding, see `_look`
        look = partial(_fail, error)
        return [Check(area=area, name=f"all {area}", look=look, needs=("numpy and Pillow",), advice=REINSTALL)]


def _fail(error: Exception) -> str:
    raise error


# The environment -----------------------------------------------------------------------------------------------------


def _environment_checks(artifacts: Path) -> Iterator[Check]:
    def check(name: str, look: Callable[[], Seen | str], *needs: str, advice: str = REINSTALL) -> Check:
        return Check(area="environment", name=name, look=look, needs=needs, advice=advice)

    yield check("python", see_python)
    yield check("numpy and Pillow", see_numpy)
    yield check("torch and torchvision", see_torch)
    yield check("torchvision's operators", see_operators, "numpy and Pillow")
    yield check("other packages", see_packages)
    yield check("HDF5", see_hdf5, "numpy and Pillow")
    yield check("processor", see_processor)
    yield check("GPU", see_gpu, "torchvision's operators")
    yield check("artifacts folder", partial(_see_folder, artifacts), "HDF5")


def _see_folder(artifacts: Path) -> Seen:
    from sentifuse.cache.checkup.self_test import check_lock

    place = _nearest_folder(artifacts)
    locks = check_lock(place)
    free_gb = shutil.disk_usage(place).free / 1e9
    where = f"{artifacts}" if place == artifacts else f"{artifacts} is not there yet; {place}"
    found = f"{where} can be written, locks keep {locks}; {free_gb:,.1f} GB free"
    if free_gb < LEAST_DISK_GB:
        return Seen(found=found, state="warning", advice="Make room, or choose another disk with --artifacts")
    return Seen(found=found)


def _nearest_folder(path: Path) -> Path:
    """The folder, or the one in which it would be made."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise Unwell(f"{path}: {place} is a file; choose another folder with --artifacts")
    return path if place == path.absolute() else place


# Models, encoders and the cache --------------------------------------------------------------------------------------


def _weight_checks(profile: str | Path, search: Sequence[Path]) -> Iterator[Check]:
    from sentifuse.extract.profile import load_profile

    loaded = load_profile(profile)
    for entry in loaded.encoders.values():
        name = f"{entry.name} of {loaded.name}"
        yield Check(area="weights", name=name, look=partial(_see_model, entry, search))


def _see_model(entry: "EncoderEntry", search: Sequence[Path]) -> Seen:
    from sentifuse.extract.encoder import describe_encoder
    from sentifuse.extract.encoders import encoder_class
    from sentifuse.extract.errors import MissingModel, ModelMismatch
    from sentifuse.extract.models.source import DOWNLOADED
    from sentifuse.extract.models.weights import locate

    chosen = encoder_class(entry.name, entry.settings, where=entry.where)
    try:
        chosen.check_available(entry.settings)
        model = locate(entry.model, search=search, is_offline=True)
    except ModelMismatch:  # there, but torn or another one
        raise
    except ResourceError as error:
        if isinstance(error, MissingModel) and entry.model.kind in DOWNLOADED:
            fetched = "The first extract fetches it. Without a network: a local copy, named in a profile of your own"
            return Seen(found=f"{entry.model}: not on this machine yet", state="warning", advice=fetched)
        more = f". {chosen.model_advice}" if isinstance(error, MissingModel) and chosen.model_advice else ""
        return Seen(found=f"{entry.model}: missing", state="warning", advice=f"{error}{more}")
    describe_encoder(entry, model, precision="exact", device="cpu")  # refuses another network's files
    return Seen(found=f"{entry.model}: there, {model.architecture}, digest {model.digest[:12]}")


def _encoder_checks() -> Iterator[Check]:
    from sentifuse.extract.profile import load_profile

    def check(name: str, look: Callable[[], Seen | str]) -> Check:
        return Check(area="encoders", name=name, look=look, needs=("torchvision's operators",), advice=REINSTALL)

    for arithmetic in ("plain", "exact", "fast"):
        yield check(f"detector, {arithmetic}", partial(_see_detector, arithmetic))
    yield check("detector, on a GPU", _see_detector_on_gpu)
    share: dict[str, Backbone] = {}
    for entry in load_profile("tiny").encoders.values():
        yield check(f"tiny {entry.name}", partial(_see_encoder, entry, share))


def _see_detector(arithmetic: str, device: str = "cpu") -> Seen:
    from sentifuse.extract.detector.golden.self_test import check_regions, check_stages
    from sentifuse.extract.detector.precision import choose_arithmetic

    note = "" if arithmetic == "plain" else choose_arithmetic(arithmetic, device=device).note
    with _one_thread():
        found = [*check_stages(arithmetic, device=device), *check_regions(arithmetic, device=device)]
    return _judge(found, note)


def _judge(deviations: "Sequence[Deviation]", note: str = "") -> Seen:
    from sentifuse.extract.detector.golden.limits import first_beyond

    first = first_beyond(deviations)
    if first:
        beyond = sum(not deviation.is_within for deviation in deviations)
        return Seen(
            found=f"{first.stage}: {first.quantity} {first.value:.3g}, limit {first.limit:.3g}; the first of {beyond} "
            f"beyond their limit, of {len(deviations)}",
            state="failed",
            advice=f"{REINSTALL}. If it stays, report it with what `sentifuse doctor --json` prints",
        )
    largest = {deviation.quantity: deviation.value for deviation in deviations}
    return Seen(
        found=f"{len(deviations)} golden quantities kept; boxes off by {largest['boxes, px']:.0e} px, features by "
        f"{largest['features']:.0e}; the same behind another image" + (f"; {note}" if note else "")
    )


def _see_detector_on_gpu() -> Seen:
    import torch

    if not torch.cuda.is_available():
        return Seen(found="no GPU here", state="skipped")
    return _see_detector("exact", "cuda:0")


def _see_encoder(entry: "EncoderEntry", share: "dict[str, Backbone]") -> str:
    from sentifuse.extract.self_test import check_encoder

    with _one_thread():
        return check_encoder(entry, share=share)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads of small operators wait for each other: five times as long where other processes work too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cache_checks(artifacts: Path) -> Iterator[Check]:
    needs = ("HDF5", "artifacts folder")
    for name, function in (("rows", "check_rows"), ("a turned bit", "check_damage")):
        look = partial(_see_cache, function, artifacts)
        yield Check(area="cache", name=name, look=look, needs=needs, advice=REINSTALL)


def _see_cache(function: str, artifacts: Path) -> str:
    # Imported here: where h5py is broken, that is a finding.
    seen: str = getattr(import_module("sentifuse.cache.checkup.self_test"), function)(_nearest_folder(artifacts))
    return seen


# Golden files --------------------------------------------------------------------------------------------------------


def verify_golden(
    files: Sequence[Path],
    *,
    images: Path | None = None,
    precision: str = "exact",
    is_float64: bool = False,
    device: str = "cpu",
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[GoldenVerdict]:
    """Verify golden files, kind by kind; `*_feats.npz` is left out where the file it belongs to is given too.

    Raises
    ------
    DataError, ConfigError
        A file is no golden file, or of a kind that cannot be verified. All are looked at before anything is computed.
    """
    if images is not None and not images.is_dir():
        raise DataError(f"--images {images}: no such folder; name the one that holds the golden files' images")
    by_kind: dict[str, list[Path]] = {}
    for file in dict.fromkeys(files):
        if file.stem.endswith("_feats") and file.with_name(f"{file.stem.removesuffix('_feats')}.npz") in files:
            note(f"{file.name}: read together with the file it belongs to")
            continue
        by_kind.setdefault(golden_kind(file), []).append(file)
    for kind, of_kind in by_kind.items():
        module, _, function = CHECKERS[kind].partition(":")
        checker: GoldenChecker = getattr(import_module(module), function)
        yield from checker(of_kind, images=images, precision=precision, is_float64=is_float64, device=device, note=note)


def golden_kind(file: Path) -> str:
    """What a golden file is of, by the names of its arrays: a key of `CHECKERS`.

    Raises
    ------
    DataError
        None of those, with the reason.
    """
    from sentifuse.extract.detector.golden.file import array_names

    if file.suffix == ".json":  # sums of a run at real size
        return "heads"
    names = array_names(file)
    if names == {"rows", "feat"}:
        main = file.with_name(f"{file.stem.removesuffix('_feats')}.npz")
        raise DataError(f"{file}: holds features of more rows only; give the golden file it belongs to, {main.name}")
    if names & {"prop_anchor", "at_res4", "f36_row"}:
        return "detector"
    if names and all("." in name for name in names):
        return "heads"
    some = ", ".join(sorted(names)[:3]) or "no array"
    raise DataError(
        f"{file}: no golden file of a known kind ({', '.join(CHECKERS)}); it holds "
        f"{some}{' …' if len(names) > 3 else ''}"
    )
