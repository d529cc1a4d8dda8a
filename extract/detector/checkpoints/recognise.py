"""What a file of weights is, by its first bytes and never by its name. Reads no weights.

What people place by mistake is named as what it is: the login page of a cloud drive, a pointer of git-LFS, an archive.
"""

import mmap
from pathlib import Path

from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import MAX_HEADER_BYTES
from sentifuse.extract.models.stand_ins import HEAD_BYTES, is_text, quoted, stand_in

__all__ = ["WHOLE_SIZE", "holds_original", "recognise"]

WHOLE_SIZE = "the whole file has about 262 MB"
FEWEST_BYTES = 64
ZIP = b"PK\x03\x04"  # torch files since 1.6
OLD_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # before: a pickle that begins with torch's own number
PICKLE = (b"\x80", b"(dp", b"}q")  # of protocols 2 and up; a dict in 0 and in 1
ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x28\xb5\x2f\xfd": "zstandard",
}
HDF5 = b"\x89HDF\r\n\x1a\n"
# Names of tensors and layers that a Faster R-CNN of this build has, in others' files.
MARKS = {
    "torch": (b"proposal_generator.rpn_head", b"roi_heads.res5."),
    "pickle": (b"proposal_generator.rpn_head", b"roi_heads.res5."),
    "caffe": (b"rpn_conv/3x3", b"res5a_branch1"),
}


def recognise(file: Path) -> str:
    """Which of the layouts a file may be read as: "safetensors", "torch", "pickle" or "caffe".

    A pickle that torch wrote before 1.6 is "torch". Caffe models have no first bytes of their own: they are what
    nothing else is.

    Raises
    ------
    ModelMismatch
        It cannot be read, or is none of them for sure; says what it is.
    """
    if file.is_dir():
        raise ModelMismatch(f"{file}: a folder; name the weights file in it{_inside(file)}")
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        size_bytes = file.stat().st_size
    except OSError as error:
        raise ModelMismatch(f"{file}: cannot be read ({error.strerror or error})") from error
    if problem := stand_in(head):
        raise ModelMismatch(f"{file}: {problem}; {WHOLE_SIZE}")
    # First, for the length of its header may begin with any byte, also with a pickle's.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES:
        return "safetensors"
    if head.startswith((ZIP, OLD_TORCH)):
        return "torch"
    if head.startswith(PICKLE):
        return "pickle"
    if problem := _something_else(head, size_bytes):
        raise ModelMismatch(f"{file}: {problem}")
    return "caffe"


def holds_original(file: Path) -> bool:
    """Whether a file seems to be the detector in a layout it was published in, by the names in it; False if unsure."""
    try:
        marks = MARKS.get(recognise(file), ())
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return bool(marks) and all(content.find(mark) >= 0 for mark in marks)
    except (ModelMismatch, OSError, ValueError):
        return False


def _something_else(head: bytes, size_bytes: int) -> str:
    """What a file is that holds no weights, with what to do; "" if that cannot be told."""
    for first, kind in ARCHIVES.items():
        if head.startswith(first):
            return f"a {kind} archive; unpack it and name the file in it"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it and name the file in it"
    if head.startswith(HDF5):
        return "an HDF5 file (of Keras?), expected the weights of the Visual Genome detector"
    if is_text(head):
        return f"a text file ({quoted(head)}), expected the weights of the Visual Genome detector"
    if size_bytes < FEWEST_BYTES:
        return f"{size_bytes} bytes only: cut off? Fetch it again"
    return ""


def _inside(folder: Path) -> str:
    endings = (".safetensors", ".bin", ".pth", ".pkl", ".caffemodel")
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in endings)
    except OSError:
        return ""
    return f" (it has {', '.join(names[:4])})" if names else ""
