"""One way to read an image: any common file becomes upright 8-bit RGB, or is refused with a reason.

Judges by content, never by the file's name. Does not resize, crop or normalise; embedded colour profiles are ignored.
"""

import warnings
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from sentifuse import DataError

MAX_PIXELS = 89_478_485  # 256 MiB of RGB; the size at which Pillow begins to warn
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO")
ORIENTATION_TAG = 0x0112
REASONS = (
    "missing",
    "cannot be read",
    "empty file",
    "not an image",
    "undecodable",
    "truncated",
    "corrupt",
    "too many pixels",
    "unsupported mode",
)

# First bytes of the formats above (and of some that are refused): what has one of these was meant to be an image.
_MAGIC = (
    b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51",
    b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"\0\0\1\0", b"8BPS",
)  # fmt: skip

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow and its plugins raise on damaged files, beside OSError: each of these was seen or stands in their source.
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError,
    MemoryError, RuntimeError, AssertionError, Image.DecompressionBombError,
)  # fmt: skip


class UnreadableImage(DataError):
    """This file gives no image; `reason` is one of `REASONS`, the same in the manifest, the cache and the audit."""

    def __init__(self, where: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{where}: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.detail = detail


def read_image(path: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a file (or its bytes) to RGB: first frame, upright by EXIF, transparency over white, 16 bit scaled.

    Safe to call from several threads: no switch of Pillow is touched and no state is shared.

    Returns
    -------
    PIL.Image.Image
        Mode "RGB", loaded, with no file behind it.

    Raises
    ------
    UnreadableImage
        With its `reason`. Truncated files are refused, not padded with grey.
    """
    where = "image" if isinstance(path, bytes) else str(path)
    raw = path if isinstance(path, bytes) else _read(path)
    if not raw:
        raise UnreadableImage(where, "empty file")
    _silence_pillow()
    image = _open(raw, where)
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise UnreadableImage(where, "too many pixels", f"{width}x{height}, at most {max_pixels} are read")
        try:
            image.load()
        except _DECODER_ERRORS as error:
            raise UnreadableImage(where, _damage(error), str(error)) from error
        try:
            return _upright(_to_rgb(image), image)
        except _DECODER_ERRORS as error:
            raise UnreadableImage(where, "unsupported mode", f"{image.mode}: {error}") from error


def looks_like_image(head: bytes) -> bool:
    r"""Whether a file that begins with these (12 or more) bytes was meant to be an image; it may be damaged, though.

    >>> looks_like_image(b"\x89PNG\r\n"), looks_like_image(b"<!DOCTYPE html>")
    (True, False)
    """
    return head.startswith(_MAGIC) or head[4:8] == b"ftyp"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableImage(str(path), "missing") from error
    except OSError as error:
        raise UnreadableImage(str(path), "cannot be read", error.strerror or str(error)) from error


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # a Pillow may be built without some of them


def _open(raw: bytes, where: str) -> Image.Image:
    try:
        return Image.open(BytesIO(raw), formats=_formats())
    except UnidentifiedImageError as error:
        raise UnreadableImage(where, "undecodable" if looks_like_image(raw) else "not an image") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(where, "too many pixels", str(error)) from error
    except _DECODER_ERRORS as error:
        raise UnreadableImage(where, "undecodable", str(error)) from error


def _damage(error: BaseException) -> str:
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return "too many pixels"
    return "truncated" if isinstance(error, EOFError) or "truncated" in str(error).lower() else "corrupt"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        # The scale of the values is unknown; Pillow's own conversion would clip them, often to plain black.
        raise ValueError("values of unknown scale")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it to white
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        straight = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
        white = Image.new("RGBA", straight.size, "white")
        return Image.alpha_composite(white, straight).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _upright(rgb: Image.Image, image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except _DECODER_ERRORS:  # damaged EXIF says nothing about the pixels
        orientation = 1
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return rgb if turn is None else rgb.transpose(turn)


def _silence_pillow() -> None:
    # Pillow warns about odd EXIF, odd palettes, big sizes; all of these end here in a value or a reason. A filter for
    # its modules alone, put in place once: `warnings.catch_warnings` would not be safe in loader threads.
    if not any(entry[0] == "ignore" and entry[3] is not None and _is_ours(entry[3]) for entry in warnings.filters):
        warnings.filterwarnings("ignore", module=_PILLOW_MODULES)


_PILLOW_MODULES = r"PIL(\..*)?$"


def _is_ours(pattern: object) -> bool:
    return getattr(pattern, "pattern", pattern) == _PILLOW_MODULES
