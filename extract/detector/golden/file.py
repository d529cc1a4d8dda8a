"""Reads a file of golden numbers of the detector, and refuses every other file with a reason.

Golden files come from anywhere: nothing in one is believed before its shape, its kind and its range are checked, and
none can run code (no pickles). What the fields mean stands in `golden_writer.py`, which makes such files.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sentifuse import ConfigError, DataError
from sentifuse.data.images import read_image
from sentifuse.extract.detector.architecture import ANCHORS_PER_CELL, VISUAL_GENOME, Architecture
from sentifuse.extract.detector.golden.limits import LIMITS, Limits
from sentifuse.extract.detector.golden.rule import is_smooth
from sentifuse.extract.detector.stages import POOLED_SIDE

__all__ = ["MAPS", "SELECTIONS", "Array", "GoldenFile", "array_names", "read_arrays", "read_golden"]

# Shapes: S samples, R proposals, m regions, C classes, D feature width.
Array = npt.NDArray[Any]
MAPS = ("input", "stem", "res2", "res3", "res4", "rpn_logits", "rpn_deltas")
SELECTIONS = {"f36": "fixed36", "c36": "caffe36", "ada": "adaptive"}
MAX_BYTES = 1 << 28  # unpacked; the files in circulation have half a megabyte
COMPANION = "_feats.npz"
# What numpy raises on damaged archives and arrays, beside OSError.
_DAMAGE = (
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenFile:
    """A golden file with its image; `features` (rows, D) of `feature_rows` where the second file is there."""

    name: str
    values: Mapping[str, Array]
    image: Path
    features: Array | None = None
    feature_rows: Array | None = None

    @property
    def seed(self) -> int:
        """Seed of the weights these numbers were made with."""
        return int(self.values["seed"])

    def limits(self, *, is_reduced: bool = False, is_float64: bool = False) -> Limits:
        """The limits for this file's profile of weights.

        Raises
        ------
        ConfigError
            Reduced precision on a sharp file, which enlarges rounding beyond recognition.
        """
        smooth = is_smooth(self.seed)
        if is_reduced and not (smooth and "prop_robust" in self.values):
            raise ConfigError(
                f"{self.name}: a sharp golden file (seed {self.seed}): it enlarges rounding beyond recognition, so "
                "reduced precision is measured on smooth ones (seeds from 100 on). Leave --precision out for this file"
            )
        if is_float64:
            return LIMITS["float64"]
        return LIMITS["reduced" if is_reduced else "smooth" if smooth else "sharp"]

    def open_image(self) -> Image.Image:
        """The image, decoded.

        Raises
        ------
        DataError
            It is not there, no image, or of another size than the one these numbers were made from.
        """
        if not self.image.is_file():
            raise DataError(
                f"{self.name}: its image {self.image} is not there. Put it beside the file, or name its folder with "
                "--images DIR"
            )
        image = read_image(self.image)
        height, width = (int(side) for side in self.values["orig_hw"])
        if image.size != (width, height):
            raise DataError(
                f"{self.name}: its image {self.image} is {image.width}x{image.height}, the numbers are of one of "
                f"{width}x{height}. Name the folder of the right one with --images DIR"
            )
        return image


def read_golden(file: Path, *, images: Path | None = None, sizes: Architecture = VISUAL_GENOME) -> GoldenFile:
    """Read and check a golden file, and the features of more rows where `*_feats.npz` lies beside it.

    Parameters
    ----------
    images
        Folder of its image; None: beside the file.
    sizes
        The network the numbers must be of.

    Raises
    ------
    DataError
        No such file, no such kind of file, torn, fields missing, or values that cannot be.
    """
    values = read_arrays(file)
    check = _Check(file, values, sizes)
    check.all()
    name = str(values["image"])
    if Path(name).name != name or not name:
        raise DataError(f"{file}: the image's name is {name!r}, expected a file name without folders")
    companion = file.with_name(file.stem + COMPANION)
    features = feature_rows = None
    if companion.is_file():
        more = read_arrays(companion)
        beside = _Check(companion, more, sizes)
        feature_rows = beside.rows("rows", (None,), len(values["prop_anchor"]))
        features = beside.numbers("feat", (len(feature_rows), sizes.feature_width))
    return GoldenFile(
        name=file.name,
        values=values,
        image=(images or file.parent) / name,
        features=features,
        feature_rows=feature_rows,
    )


def read_arrays(file: Path) -> dict[str, Array]:
    """All arrays of an `.npz` file, without pickles.

    Raises
    ------
    DataError
        No such file, another kind of file, or a torn one.
    """
    with _opened(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


def array_names(file: Path) -> frozenset[str]:
    """Names of the arrays in an `.npz` file; raises as `read_arrays`."""
    with _opened(file) as arrays:
        return frozenset(arrays.files)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    if file.is_dir():
        names = sorted(path.name for path in file.glob("*.npz"))
        more = f", … and {len(names) - 4} more" if len(names) > 4 else ""
        held = f"it has {', '.join(names[:4])}{more}" if names else "it has no .npz"
        raise DataError(f"{file}: is a folder; name golden files in it ({held})")
    if not file.is_file():
        raise DataError(f"{file}: no such file; expected a golden file (.npz)")
    try:
        with zipfile.ZipFile(file) as archive:
            size_bytes = sum(member.file_size for member in archive.infolist())
        if size_bytes > MAX_BYTES:
            raise DataError(f"{file}: {size_bytes:,} bytes unpacked, at most {MAX_BYTES:,} are read: no golden file")
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, *_DAMAGE) as error:
        what = "is damaged" if zipfile.is_zipfile(file) else "is no .npz file, or a torn one"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{file}: {what} ({reason}). Copy it again") from error


class _Check:
    """The fields of one file: what they must be, said once each."""

    def __init__(self, file: Path, values: Mapping[str, Array], sizes: Architecture) -> None:
        self.file = file
        self.values = values
        self.sizes = sizes

    def all(self) -> None:
        """Check every field that is compared."""
        self._are_there()
        self.text("image")
        self.whole("seed", (), least=0)
        for name in ("orig_hw", "net_hw"):
            self.whole(name, (2,), least=1)
        for name, channels in self._channels().items():
            self._map(name, channels)
        count = len(self.whole("prop_anchor", (None,), least=0))
        self._proposals(count)
        self._pooled(count)
        self._predictions(count)
        self._regions(count)

    def _are_there(self) -> None:
        missing = [name for name in self._names() if name not in self.values]
        if missing:
            more = f", … and {len(missing) - 8} more" if len(missing) > 8 else ""
            raise DataError(
                f"{self.file}: {len(missing)} {'field' if len(missing) == 1 else 'fields'} of a golden file of the "
                f"detector missing: {', '.join(missing[:8])}{more}. Made by another tool, or cut? Copy the file again, "
                "or make it with write_golden"
            )

    def _names(self) -> Iterator[str]:
        yield from ("image", "seed", "orig_hw", "net_hw")
        for name in MAPS:
            yield from (f"at_{name}", f"val_{name}", f"stat_{name}")
        yield from ("roi_rows", "at_roi", "val_roi", "prop_anchor", "prop_box", "prop_in_stable")
        yield from ("top5_id", "top5_p", "bg_p", "argmax_all", "delta_top1", "feat_head", "max_conf")
        yield from ("f36_cls", "f36_score", "f36_box_net", "f36_box", "f36_box_norm", "f36_feat")
        for name in SELECTIONS:
            yield from (f"{name}_row", f"{name}_stable")
        if self.sizes.has_attributes:
            yield from ("attr_id_all", "attr_p_all", "attr_stable", "f36_attr", "f36_attr_p")

    def _channels(self) -> dict[str, int]:
        sizes = self.sizes
        stages = {f"res{stage}": sizes.output_width(stage) for stage in (2, 3, 4)}
        anchors = {"rpn_logits": ANCHORS_PER_CELL, "rpn_deltas": 4 * ANCHORS_PER_CELL}
        return {"input": 3, "stem": sizes.base_width, **stages, **anchors}

    def _map(self, name: str, channels: int) -> None:
        shape = self.numbers(f"stat_{name}", (None,))[:3]
        if len(shape) < 3 or shape[0] != channels or not np.all((shape >= 1) & (shape == np.floor(shape))):
            raise self._wrong(f"stat_{name}", f"begins {shape.tolist()}", f"{channels} channels and two sides")
        places = self.whole(f"at_{name}", (None, 3), least=0)
        if np.any(places >= shape):
            raise self._wrong(f"at_{name}", "a place outside the map", f"places inside {shape.astype(int).tolist()}")
        self.numbers(f"val_{name}", (len(places),))

    def _proposals(self, count: int) -> None:
        self.numbers("prop_box", (count, 4))
        self.flags("prop_in_stable", count)
        self.flags("prop_robust", count, is_optional=True)

    def _pooled(self, count: int) -> None:
        rows = self.rows("roi_rows", (None,), count)
        places = self.whole("at_roi", (None, 4), least=0)
        limits = (len(rows), self.sizes.output_width(4), POOLED_SIDE, POOLED_SIDE)
        if np.any(places >= limits):
            raise self._wrong("at_roi", "a place outside the crops", f"places inside {list(limits)}")
        self.numbers("val_roi", (len(places),))

    def _predictions(self, count: int) -> None:
        sizes = self.sizes
        self.rows("top5_id", (count, None), sizes.class_count)
        self.numbers("top5_p", self.values["top5_id"].shape)
        self.rows("argmax_all", (count,), sizes.class_count + 1)
        for name in ("bg_p", "max_conf"):
            self.numbers(name, (count,))
        self.numbers("delta_top1", (count, 4))
        head = self.numbers("feat_head", (count, None))
        if not 1 <= head.shape[1] <= sizes.feature_width:
            raise self._wrong("feat_head", f"{head.shape[1]} values a row", f"1 to {sizes.feature_width}")
        if sizes.has_attributes:
            self.rows("attr_id_all", (count,), sizes.attribute_count)
            self.numbers("attr_p_all", (count,))
            self.flags("attr_stable", count)
            self.flags("attr_robust", count, is_optional=True)

    def _regions(self, count: int) -> None:
        for name in SELECTIONS:
            chosen = len(self.rows(f"{name}_row", (None,), count))
            self.flags(f"{name}_stable", chosen)
            self.flags(f"{name}_robust", chosen, is_optional=True)
        chosen = len(self.values["f36_row"])
        self.rows("f36_cls", (chosen,), self.sizes.class_count)
        self.numbers("f36_score", (chosen,))
        for name in ("f36_box_net", "f36_box", "f36_box_norm"):
            self.numbers(name, (chosen, 4))
        self.numbers("f36_feat", (chosen, self.sizes.feature_width))
        if self.sizes.has_attributes:
            self.rows("f36_attr", (chosen,), self.sizes.attribute_count)
            self.numbers("f36_attr_p", (chosen,))

    # One kind of field each; None in a shape stands for any length.

    def numbers(self, name: str, shape: tuple[int | None, ...]) -> Array:
        """Real and finite."""
        value = self._shaped(name, shape, "fiu", "numbers")
        if not np.isfinite(value).all():
            raise self._wrong(name, "values that are not finite", "finite numbers")
        return value

    def whole(self, name: str, shape: tuple[int | None, ...], *, least: int) -> Array:
        """Whole numbers from `least`."""
        value = self._shaped(name, shape, "iu", "whole numbers")
        if value.size and int(value.min()) < least:
            raise self._wrong(name, f"{int(value.min())}", f"at least {least}")
        return value

    def rows(self, name: str, shape: tuple[int | None, ...], count: int) -> Array:
        """Whole numbers from 0 to below `count`."""
        value = self.whole(name, shape, least=0)
        if value.size and int(value.max()) >= count:
            raise self._wrong(name, f"{int(value.max())}", f"numbers below {count}")
        return value

    def flags(self, name: str, count: int, *, is_optional: bool = False) -> None:
        """True or false; what only smooth files have may be left out."""
        if name in self.values or not is_optional:
            self._shaped(name, (count,), "b", "true or false")

    def text(self, name: str) -> None:
        """One text."""
        self._shaped(name, (), "U", "a text")

    def _shaped(self, name: str, shape: tuple[int | None, ...], kinds: str, what: str) -> Array:
        if name not in self.values:
            raise DataError(f"{self.file}: {name} is missing. Made by another tool, or cut? Copy the file again")
        value = self.values[name]
        if value.dtype.kind not in kinds:
            raise self._wrong(name, f"dtype {value.dtype}", what)
        fits = all(want in (None, side) for want, side in zip(shape, value.shape, strict=False))
        if len(shape) != value.ndim or not fits:
            wanted = "×".join("any" if side is None else str(side) for side in shape) or "a single value"
            raise self._wrong(name, f"shape {value.shape}", wanted)
        return value

    def _wrong(self, name: str, found: str, expected: str) -> DataError:
        return DataError(
            f"{self.file}: {name} has {found}, expected {expected}. Damaged, or made with another network? "
            "Copy it again"
        )
