"""What lies where weights should: nothing, a pointer, a page. Told by the first bytes, whatever the network."""

import re
from pathlib import Path

from sentifuse.extract.errors import ModelMismatch

__all__ = ["HEAD_BYTES", "is_text", "quoted", "refuse_stand_in", "refuse_stand_ins", "stand_in"]

HEAD_BYTES = 1024
LFS = b"version https://git-lfs"
PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error", b'{"error')
PLAIN = re.compile(r"[^\x00-\x08\x0e-\x1f\x7f]*")  # texts have no other control signs
# Of the files in a model folder; others may well be empty or pages.
WEIGHTS = frozenset({".bin", ".caffemodel", ".ckpt", ".h5", ".onnx", ".pkl", ".pt", ".pth", ".safetensors"})


def stand_in(head: bytes) -> str:
    """What a file that begins so is in place of the one meant, with what to do; "" if that cannot be told."""
    if not head:
        return "an empty file; fetch it again"
    if head.startswith(LFS):
        return (
            "a pointer of git-LFS, not the file it stands for (its lines oid and size say which). Fetch that one: "
            "git lfs pull in the repository it comes from"
        )
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(PAGES) or (b"<html" in text and is_text(head)):
        return (
            f"looks like a web page or a message of a server, not weights ({quoted(head)}): the link is dead, or "
            "wants a login or a confirmation first. Fetch it in a browser and compare the size"
        )
    return ""


def refuse_stand_in(file: Path) -> None:
    """Raise ModelMismatch for a file that is none but stands where one should; also for one that cannot be read."""
    if problem := stand_in(_head(file)):
        raise ModelMismatch(f"{file}: {problem}")


def refuse_stand_ins(folder: Path) -> None:
    """The same for the files of a model folder: pointers anywhere, nothing and pages in place of weights."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.suffix in WEIGHTS or _head(file).startswith(LFS):
            refuse_stand_in(file)


def is_text(head: bytes) -> bool:
    """Whether a file that begins so is a text, as far as one can see."""
    for missing in range(4):  # the last sign may be cut through
        try:
            return bool(PLAIN.fullmatch(head[: len(head) - missing].decode("utf-8")))
        except UnicodeDecodeError:
            continue
    return False


def quoted(head: bytes) -> str:
    """How a file begins, for a message."""
    begin = " ".join(head.decode("utf-8", errors="replace").split())
    return f"it begins {begin[:60]!r}"


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError as error:
        raise ModelMismatch(f"{file}: cannot be read ({error.strerror or error})") from error
