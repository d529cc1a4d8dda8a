"""Puts weight files where profiles look for them: `artifacts/weights/`. Downloads nothing.

Refuses what anybody can see to hold no weights; whether they fit a network, it does not ask.
"""

import shutil
from pathlib import Path

from sentifuse import ConfigError, ResourceError
from sentifuse.cache.files import sha256_of
from sentifuse.extract.models.stand_ins import refuse_stand_in, refuse_stand_ins

__all__ = ["add_weights"]


def add_weights(source: Path, folder: Path, *, overwrite: bool = False) -> dict[str, str]:
    """Copy a weight file, or a model folder, into the weights folder under its own name.

    A copy appears under its name only when it is complete and its digest is that of the source.

    Returns
    -------
    dict
        SHA-256 of each file, by its path inside the weights folder.

    Raises
    ------
    ResourceError
        There is no such file, it is empty, a pointer or a page in place of weights, or it cannot be copied.
    ConfigError
        Something else of this name is there, and `overwrite` is false.
    """
    if not source.exists():
        raise ResourceError(f"{source}: no such file or folder; name the weight file or model folder to add")
    if source.is_dir():
        refuse_stand_ins(source)
    else:
        refuse_stand_in(source)
    target = folder / source.resolve().name
    wanted = _digests(source)
    if target.exists() and _digests(target) == wanted:
        return _named(target.name, wanted)
    if target.exists() and not overwrite:
        raise ConfigError(f"{target}: something else of this name is there; --force replaces it")
    temporary = folder / f".{target.name}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        if source.is_dir():
            shutil.copytree(source, temporary)
        else:
            shutil.copyfile(source, temporary)
        if _digests(temporary) != wanted:
            raise ResourceError(f"{source}: changed while it was copied to {folder}; try again")
        _remove(target)
        temporary.rename(target)
    except OSError as error:
        _remove(temporary)
        raise ResourceError(
            f"{source}: cannot be copied to {folder} ({error}); make room or mend the rights"
        ) from error
    return _named(target.name, wanted)


def _digests(path: Path) -> dict[str, str]:
    """SHA-256 of a file ("" is its name) or of each file of a folder."""
    if path.is_file():
        return {"": sha256_of(path)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): sha256_of(file) for file in files}


def _named(name: str, digests: dict[str, str]) -> dict[str, str]:
    return {f"{name}/{inner}" if inner else name: digest for inner, digest in digests.items()}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
