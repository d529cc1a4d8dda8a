"""The names of the detector's objects and attributes: text files, one line for each id, beside the weights.

Names are for people. They change no number, so they are in no fingerprint; weights without them work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sentifuse.extract.detector.architecture import VISUAL_GENOME, Architecture
from sentifuse.extract.errors import ModelMismatch

__all__ = ["Vocabularies", "doubt", "find_vocabularies", "format_vocabulary", "read_vocabulary", "vocabulary_file"]

KINDS = ("objects", "attributes")
LEAST_DIFFERENT = 0.8  # share of names; below it the file is doubted
MAX_BYTES = 1_000_000  # the public files have 13,000
BACKGROUND = ("__background__", "__no_attribute__", "__no_attributes__")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabularies:
    """Names by id; None where there is no file of them."""

    objects: tuple[str, ...] | None = None
    attributes: tuple[str, ...] | None = None


def read_vocabulary(file: Path, count: int) -> tuple[str, ...]:
    """The names of the ids 0 to count - 1: the first of the synonyms that a line lists, in small letters.

    Two ids may have one name: the public files are taken as they are.

    Raises
    ------
    ModelMismatch
        Cannot be read, another number of lines than `count`, or a line without a name.
    """
    try:
        size_bytes = file.stat().st_size
        if size_bytes > MAX_BYTES:
            raise ModelMismatch(f"{file}: {size_bytes:,} bytes, expected a text file of {count:,} short lines")
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ModelMismatch(f"{file}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ModelMismatch(
            f"{file}: not a text in UTF-8 ({error.reason} at byte {error.start:,}); save it as UTF-8"
        ) from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n") if text.strip() else []
    if len(lines) != count:
        raise ModelMismatch(f"{file}: {_wrong_length(lines, count)}")
    names = tuple(line.partition(",")[0].strip().lower() for line in lines)
    if "" in names:
        raise ModelMismatch(f"{file}: line {names.index('') + 1:,} has no name; every line stands for an id")
    return names


def doubt(names: Sequence[str]) -> str:
    """What makes one doubt that these are the names of a network; "" if nothing does.

    Some ids share a name in the public files, but few.
    """
    different = len(set(names))
    if different >= LEAST_DIFFERENT * len(names):
        return ""
    return f"only {different:,} of {len(names):,} names are different: are these the names of this network?"


def format_vocabulary(names: Sequence[str]) -> bytes:
    """The file for names: one line each, the last one ended too."""
    return "".join(f"{name}\n" for name in names).encode("utf-8")


def vocabulary_file(weights_file: Path, kind: str) -> Path:
    """Where the names for some weights lie: net.safetensors has its "objects" in net.objects.txt."""
    return weights_file.with_name(f"{weights_file.stem}.{kind}.txt")


def find_vocabularies(weights_file: Path, sizes: Architecture = VISUAL_GENOME) -> Vocabularies:
    """The names that lie beside a weights file.

    Raises
    ------
    ModelMismatch
        A file is there but is no vocabulary of this network.
    """
    counts = {"objects": sizes.class_count, "attributes": sizes.attribute_count}
    files = {kind: vocabulary_file(weights_file, kind) for kind in KINDS}
    return Vocabularies(**{kind: read_vocabulary(files[kind], counts[kind]) for kind in KINDS if files[kind].exists()})


def _wrong_length(lines: Sequence[str], count: int) -> str:
    text = f"{len(lines):,} lines, expected {count:,}, one for each id"
    if not lines or len(lines) != count + 1:
        return text
    first = lines[0].strip().lower()
    if first in BACKGROUND:
        return f"{text}. The first line, {first!r}, is no name but stands for the background: delete it"
    return f"{text}. Is there a line for the background? It has none here: its id is the last"
