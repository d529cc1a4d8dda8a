"""Rewrites weights of any layout as one safetensors file, with their vocabularies and their digest beside it.

The file is a normal form: our names, float32, without counters, always with anchors. So equal weights give equal
bytes, and the same fingerprint of features, whatever layout they came in.
"""

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sentifuse import ConfigError, ResourceError
from sentifuse.cache.errors import Unwritable
from sentifuse.cache.files import fsync_directory, replace_file, sha256_of
from sentifuse.extract.detector.architecture import VISUAL_GENOME, Architecture
from sentifuse.extract.detector.boxes import cell_anchors, cell_anchors_of_caffe
from sentifuse.extract.detector.checkpoints.layouts import ANCHORS_KEY, COUNTER
from sentifuse.extract.detector.checkpoints.vocabulary import doubt, format_vocabulary, read_vocabulary, vocabulary_file
from sentifuse.extract.detector.checkpoints.weights import Weights, read_weights
from sentifuse.extract.models.located import check_safetensors

__all__ = ["Converted", "convert_weights", "normal_form"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a conversion read and wrote.

    Attributes
    ----------
    layout, anchors, ignored
        See `Weights`.
    anchor_values
        Whose values the anchors are: "formula", "caffe" or "own".
    vocabularies
        The file of names for "objects" and "attributes", where they were given.
    is_new
        False if the weights were there already, byte by byte.
    """

    file: Path
    sha256: str
    sha256_file: Path
    layout: str
    tensors: int
    size_bytes: int
    has_attributes: bool
    anchors: str
    anchor_values: str
    vocabularies: dict[str, Path]
    ignored: tuple[str, ...]
    is_new: bool


def convert_weights(
    source: Path,
    target: Path,
    sizes: Architecture = VISUAL_GENOME,
    *,
    objects: Path | None = None,
    attributes: Path | None = None,
    overwrite: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> Converted:
    """Rewrite a file of any layout as safetensors, with the names of its objects and attributes if given.

    Nothing is written before everything was read and checked, and each file appears whole or not at all.

    Parameters
    ----------
    note
        Takes a line for the person before each step that takes seconds.

    Raises
    ------
    ModelMismatch
        See `read_weights` and `read_vocabulary`.
    ConfigError
        `target` has another ending, or something else is there and `overwrite` is false.
    ResourceError
        The file cannot be written.
    """
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target}: the file to write has to end in .safetensors")
    texts: dict[Path, bytes] = {}
    vocabularies: dict[str, Path] = {}
    for kind, given, count in (
        ("objects", objects, sizes.class_count),
        ("attributes", attributes, sizes.attribute_count),
    ):
        if given is not None:
            vocabularies[kind] = file = vocabulary_file(target, kind)
            texts[file] = _read_names(given, count, note)
            is_same = file.is_file() and file.read_bytes() == texts[file]
            _check_free(file, is_same=is_same, overwrite=overwrite)
    note(f"reading {source} ({_megabytes(source)})")
    weights = read_weights(source, sizes)
    state = normal_form(weights)
    note(f"writing {target}")
    sha256, is_new = _write_tensors(target, state, overwrite=overwrite)
    digest_file = target.with_suffix(".sha256")
    for file, content in {**texts, digest_file: f"{sha256}  {target.name}\n".encode()}.items():
        _write(file, content)
    return Converted(
        file=target,
        sha256=sha256,
        sha256_file=digest_file,
        layout=weights.layout,
        tensors=len(state),
        size_bytes=target.stat().st_size,
        has_attributes=weights.sizes.has_attributes,
        anchors=weights.anchors,
        anchor_values=_anchor_values(state[ANCHORS_KEY]),
        vocabularies=vocabularies,
        ignored=weights.ignored,
        is_new=is_new,
    )


def normal_form(weights: Weights) -> dict[str, Tensor]:
    """The tensors as they are written: no counters, and anchors by the formula where none were stored.

    So a converted file says all there is to say, and a file without anchors equals one that stores the formula's.
    """
    state = {name: value for name, value in weights.state.items() if not name.endswith(COUNTER)}
    state.setdefault(ANCHORS_KEY, cell_anchors())
    places: set[int] = set()
    for name, value in state.items():
        place = value.untyped_storage().data_ptr()
        if place in places:  # two names for one memory, which safetensors refuses
            state[name] = value.clone()
        places.add(place)
    return dict(sorted(state.items()))


def _read_names(given: Path, count: int, note: Callable[[str], None]) -> bytes:
    """The file to write for a vocabulary that was given."""
    names = read_vocabulary(given, count)
    if problem := doubt(names):
        note(f"warning: {given}: {problem}")
    return format_vocabulary(names)


def _anchor_values(anchors: Tensor) -> str:
    known = {"formula": cell_anchors(), "caffe": cell_anchors_of_caffe()}
    return next((name for name, values in known.items() if torch.equal(anchors, values)), "own")


def _write_tensors(target: Path, state: dict[str, Tensor], *, overwrite: bool) -> tuple[str, bool]:
    """Digest of the file, and whether it was written: one that is there with the same bytes stays."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # what others may do with a file made here; safetensors makes them private
        save_file(state, temporary, metadata={"format": "pt"})
        temporary.chmod(mode)
        check_safetensors(temporary)
        sha256 = sha256_of(temporary)
        is_same = target.is_file() and sha256_of(target) == sha256
        _check_free(target, is_same=is_same, overwrite=overwrite)
        if not is_same:
            target.with_suffix(".sha256").unlink(missing_ok=True)  # at no moment a digest beside other weights
            _put(temporary, target)
    except (OSError, SafetensorError) as error:
        raise _unwritable(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return sha256, not is_same


def _check_free(file: Path, *, is_same: bool, overwrite: bool) -> None:
    if file.exists() and not is_same and (not overwrite or file.is_dir()):
        raise ConfigError(f"{file}: something else of this name is there; --force replaces a file, --to names another")


def _write(file: Path, content: bytes) -> None:
    try:
        replace_file(file, content)
    except Unwritable as error:
        raise _unwritable(file, error.__cause__ or error) from error


def _unwritable(file: Path, error: BaseException) -> ResourceError:
    return ResourceError(f"{file}: cannot be written ({error}); make room, mend the rights, or name another with --to")


def _put(temporary: Path, file: Path) -> None:
    """Rename a file that is whole, so that it lasts through a power cut."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(file)
    fsync_directory(file.parent)


def _megabytes(file: Path) -> str:
    try:
        return f"{file.stat().st_size / 1e6:,.1f} MB"
    except OSError:  # reading says what is wrong
        return "size unknown"
