"""Registering: a raw pair of a source becomes a row of the manifest, with digests and statuses.

Decodes texts and hashes image files. Decodes no image and judges no label.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sentifuse.data import files
from sentifuse.data.manifest import MISSING, OK, Pair
from sentifuse.data.source import RawPair, Source
from sentifuse.data.text import UndecodableText, decode


def register_pairs(source: Source, progress: Callable[[int, int], None] | None = None) -> tuple[Pair, ...]:
    """Decode each text and hash each image of a source, in its order."""
    pairs = []
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing and reading files both leave the interpreter lock
        for done, pair in enumerate(pool.map(lambda raw: _register(raw, source), source.pairs), 1):
            pairs.append(pair)
            if progress is not None:
                progress(done, len(source.pairs))
    return tuple(pairs)


def _register(raw: RawPair, source: Source) -> Pair:
    text, text_status = _read_text(raw, source.encoding)
    has_text = text_status == OK
    image_digest, image_status = _hash_image(source.root, raw.image_path)
    return Pair(
        id=raw.id,
        image_path=raw.image_path,
        text=text,
        text_encoding=source.encoding if has_text else "",
        image_digest=image_digest,
        text_digest=files.digest(text.encode()) if has_text else "",
        image_status=image_status,
        text_status=text_status,
    )


def _read_text(raw: RawPair, encoding: str) -> tuple[str, str]:
    if raw.text_problem:
        return "", f"undecodable: {raw.text_problem}"
    if raw.text is None:
        return "", MISSING
    try:
        text = decode(raw.text, encoding) if isinstance(raw.text, bytes) else raw.text
        text.encode()  # half an emoji in a JSON escape is no text
    except UndecodableText as error:
        return "", f"undecodable: {error.reason}"
    except UnicodeEncodeError as error:
        return "", f"undecodable: half a surrogate pair at character {error.start}"
    return text, OK


def _hash_image(root: Path, image_path: str) -> tuple[str, str]:
    if not image_path:
        return "", MISSING
    try:
        return files.digest((root / image_path).read_bytes()), OK
    except FileNotFoundError:
        return "", MISSING
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return "", f"unreadable: {getattr(error, 'strerror', None) or error}"
