"""Do the encoders work here? Those of a profile run on two drawn pictures and two texts; meant for the tiny profile.

A random miniature network has no right numbers that would be the same with every library version, but these must hold:
the promised fields, finite; the same bytes twice; a row alone equals the row beside another.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sentifuse import DataError, ResourceError
from sentifuse.cache.spec import is_finite
from sentifuse.extract.encoder import Array, Backbone, Encoder, describe_encoder
from sentifuse.extract.models.weights import locate
from sentifuse.extract.profile import EncoderEntry

__all__ = ["SelfTestFailed", "check_encoder"]

TEXTS = ("what a lovely day at the lake", "what a lake at the lovely day")  # as many pieces, so that they share a batch
SIDES = (96, 72)
SAME = 1e-5


class SelfTestFailed(ResourceError):
    """Something that is installed here gives other numbers than it must; the message says which."""


def check_encoder(entry: EncoderEntry, *, device: str = "cpu", share: dict[str, Backbone] | None = None) -> str:
    """Run one encoder of a profile on the drawn pairs; returns a line about what it gave.

    Parameters
    ----------
    share
        Networks built already, and where new ones are left: encoders with the same model have one.

    Raises
    ------
    SelfTestFailed
        A field missing, of another shape or dtype, not finite; other bytes the second time; another row in a batch.
    """
    model = locate(entry.model, search=(), is_offline=True)
    plan = describe_encoder(entry, model, precision="exact", device=device)
    encoder = plan.build(device=device, share={} if share is None else share)
    backbone = encoder.backbone
    first, second = (
        backbone.prepare(_picture(seed) if "image" in backbone.inputs else None, text)
        for seed, text in enumerate(TEXTS)
    )
    alone = _read(encoder, [first])[0]
    _check_fields(encoder, alone)
    again = _read(encoder, [first])[0]
    for name, value in alone.items():
        if value.tobytes() != again[name].tobytes():
            raise SelfTestFailed(f"{entry.name}: {name} has other bytes when the same input comes again. {ADVICE}")
    beside = "not batched with another size"
    if backbone.batch_key(first) == backbone.batch_key(second):
        farthest = _farthest(entry.name, alone, _read(encoder, [second, first])[1])
        beside = f"in a batch off by {farthest:.0e}"
    shapes = ", ".join(f"{name} {'×'.join(map(str, value.shape)) or '1'}" for name, value in alone.items())
    return f"{shapes}; the same twice; {beside}"


ADVICE = "Are torch and its libraries those of constraints.txt? Install again: make setup"


def _read(encoder: Encoder, batch: list[Any]) -> list[dict[str, Array]]:
    rows = []
    for values in encoder.read(encoder.backbone.forward(batch), batch):
        if isinstance(values, DataError):
            raise SelfTestFailed(f"{encoder.name}: a drawn picture and a plain text were refused: {values}")
        rows.append(values)
    return rows


def _check_fields(encoder: Encoder, values: Mapping[str, Array]) -> None:
    promised = {field.name: field for field in encoder.fields}
    if values.keys() != promised.keys():
        raise SelfTestFailed(f"{encoder.name}: gives {sorted(values)}, promised {sorted(promised)}. {ADVICE}")
    for name, field in promised.items():
        field.check(values[name], "self-test")
        if not is_finite(values[name]):
            raise SelfTestFailed(f"{encoder.name}: {name} holds values that are not finite. {ADVICE}")


def _farthest(name: str, alone: Mapping[str, Array], together: Mapping[str, Array]) -> float:
    farthest = 0.0
    for key, value in alone.items():
        other = together[key]
        if value.shape != other.shape:
            raise SelfTestFailed(f"{name}: {key} is {value.shape} alone and {other.shape} beside another. {ADVICE}")
        if value.dtype.kind != "f":
            if not np.array_equal(value, other):
                raise SelfTestFailed(f"{name}: {key} is another beside another row. {ADVICE}")
            continue
        # In units of what is stored: half precision rounds what differs in the last bit of float32.
        difference = np.abs(value.astype(np.float64) - other.astype(np.float64))
        step = np.spacing(np.abs(value)).astype(np.float64) if value.dtype == np.float16 else 0.0
        largest = float(np.max(difference - step, initial=0.0))
        if largest > SAME:
            raise SelfTestFailed(
                f"{name}: {key} is off by {largest:.1e} beside another row, at most {SAME:.0e} expected. {ADVICE}"
            )
        farthest = max(farthest, largest)
    return farthest


def _picture(seed: int) -> Image.Image:
    """Coloured blocks and a disc; no two seeds alike."""
    random = np.random.default_rng(seed)
    blocks = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    picture = blocks.resize(SIDES, Image.Resampling.NEAREST)
    ImageDraw.Draw(picture).ellipse((20, 10, 60, 50), fill=(240, 200, 40))
    return picture
