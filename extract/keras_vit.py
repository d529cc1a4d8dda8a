"""The original checkpoints of "The Emotions of the Crowd" (Keras, .h5) rewritten as student folders of kind vit.

The originals are a vision transformer of vit_keras with two dense layers on the class token (Serra et al., ECAI 2023).
Tested on files written with their names and small shapes; the real ones were not at hand.

What is easily got wrong, and is right here:
- LayerNorm's epsilon is 1e-6; the default of transformers is 1e-12.
- B_32 was trained on pixels from 0 to 1, the others on -1 to 1.
- The head's GELU is that of TensorFlow Addons, whose default is the tanh form; the blocks' is the exact one.
- The heads lie one after the other in query, key and value, as in transformers; dense kernels are (in, out).
"""

import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import ConfigError, ResourceError
from sentifuse.cache.files import fsync_directory, sha256_of
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.keras_h5 import KerasLayer, open_keras
from sentifuse.extract.keras_names import VARIANTS, Variant, by_meaning, find_variant, hidden_width, read_tensors
from sentifuse.extract.models.located import read_folder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.students import MODEL_TYPE, StudentConfig, StudentParts, write_student

__all__ = ["ConvertedStudent", "convert_crowd"]

EPSILON = 1e-6
GELUS = ("exact", "tanh")
# Every class of layer in the originals. Their one Lambda, vit_keras's own, takes the class token; it is not run.
KNOWN_LAYERS = frozenset(
    {
        "AddPositionEmbs", "ClassToken", "Conv2D", "Dense", "Dropout", "Functional", "InputLayer", "LayerNormalization",
        "Model", "Reshape", "Sequential", "TransformerBlock",
    }
)  # fmt: skip
TOKEN_LAMBDA = "ExtractToken"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedStudent:
    """What a conversion read and wrote; `is_new` is False if the same student was there already."""

    folder: Path
    digest: str
    layout: str
    variant: str
    image_px: int
    pixels: str
    gelu: str
    tensors: int
    ignored: tuple[str, ...]
    is_new: bool


def convert_crowd(
    source: Path, target: Path, *, variant: str | None = None, gelu: str | None = None, overwrite: bool = False
) -> ConvertedStudent:
    """Rewrite an .h5 file of the original as a student folder, which the encoder `crowd` loads.

    Parameters
    ----------
    variant
        One of `VARIANTS`; None: told by the shapes.
    gelu
        Of the head, "exact" or "tanh"; None: as the file's config says (Addons' is tanh, Keras' own exact), and tanh
        where it holds weights alone.

    Raises
    ------
    ModelMismatch
        Not such a file; a layer of another kind, a Lambda by its name; weights that are missing, too many, of another
        shape or not finite.
    ConfigError
        Unknown variant or gelu; something else lies at `target`, and `overwrite` is false.
    ResourceError
        The folder cannot be written.
    """
    for name, value, known in (("variant", variant, VARIANTS), ("gelu", gelu, GELUS)):
        if value is not None and value not in known:
            raise ConfigError.unknown(name, value, known, where="weights convert crowd")
    with open_keras(source) as opened:
        _refuse_other_layers(opened.layers, source)
        found = by_meaning(opened, source)
        name = find_variant(found, variant, source)
        size = VARIANTS[name]
        _check_config(opened.layers, size, source)
        chosen = gelu or _gelu(opened.layers, source)
        width = hidden_width(found, size, source)
        tensors = read_tensors(found, size, width, source)
        layout, ignored = opened.layout, opened.ignored
    pixels = "0 to 1" if size.is_zero_to_one else "-1 to 1"
    parts = StudentParts(
        config=StudentConfig(
            kind="vit",
            head={"kind": "two_layer", "in": size.hidden_size, "width": width, "gelu": chosen},
            vit=_vit_config(size),
            resize="tensorflow",
        ),
        tensors=tensors,
        processor=_processor(size),
        notes={
            "converted_from": {"file": source.name, "sha256": sha256_of(source), "layout": layout},
            "variant": name,
            "pixels": pixels,
            "source": "Serra, Carrara, Tesconi, Falchi: The Emotions of the Crowd (ECAI 2023)",
        },
    )
    digest, is_new = _put(target, parts, overwrite=overwrite)
    return ConvertedStudent(
        folder=target,
        digest=digest,
        layout=layout,
        variant=name,
        image_px=size.image_px,
        pixels=pixels,
        gelu=chosen,
        tensors=len(tensors),
        ignored=ignored,
        is_new=is_new,
    )


def _refuse_other_layers(layers: Sequence[KerasLayer], source: Path) -> None:
    for layer in layers:
        if layer.kind == "Lambda" and layer.name != TOKEN_LAMBDA:
            raise ModelMismatch(
                f"{source}: layer {layer.name!r} is a Lambda, code that is never run here. Only vit_keras's own, "
                f"{TOKEN_LAMBDA}, is known"
            )
        if layer.kind != "Lambda" and layer.kind not in KNOWN_LAYERS:
            raise ModelMismatch(
                f"{source}: layer {layer.name!r} is a {layer.kind}, which the crowd's models do not have"
            )


def _check_config(layers: Sequence[KerasLayer], size: Variant, source: Path) -> None:
    """What the weights do not tell: refused where the file's own words contradict the variant."""
    for layer in layers:
        if layer.kind == "LayerNormalization" and layer.config.get("epsilon", EPSILON) != EPSILON:
            raise ModelMismatch(f"{source}: {layer.name} has epsilon {layer.config['epsilon']}, expected {EPSILON}")
        heads = layer.config.get("num_heads", size.attention_heads)
        if layer.kind == "TransformerBlock" and heads != size.attention_heads:
            raise ModelMismatch(f"{source}: {layer.name} has {heads} heads, expected {size.attention_heads}")


def _gelu(layers: Sequence[KerasLayer], source: Path) -> str:
    """The head's GELU by the config of its two dense layers, the last of the file."""
    dense = [layer for layer in layers if layer.kind == "Dense"][-2:]
    if not dense:
        return "tanh"
    first, last = (_activation(layer) for layer in (dense[0], dense[-1]))
    if first.rpartition(">")[2] != "gelu" or last not in ("softmax", "linear"):
        raise ModelMismatch(f"{source}: a head with {first} and {last}, expected gelu and softmax")
    return "tanh" if first.startswith("Addons>") else "exact"


def _activation(layer: KerasLayer) -> str:
    """Its name, wherever the release of Keras put it."""
    value = layer.config.get("activation")
    while isinstance(value, Mapping):
        value = value.get("registered_name") or value.get("config") or value.get("class_name")
    return str(value)


def _vit_config(size: Variant) -> dict[str, Any]:
    return {
        "hidden_size": size.hidden_size,
        "num_hidden_layers": size.layer_count,
        "num_attention_heads": size.attention_heads,
        "intermediate_size": size.mlp_size,
        "hidden_act": "gelu",  # transformers' is the exact one, as that of vit_keras' blocks
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "layer_norm_eps": EPSILON,
        "image_size": size.image_px,
        "patch_size": size.patch_px,
        "num_channels": 3,
        "qkv_bias": True,
    }


def _processor(size: Variant) -> dict[str, Any]:
    middle, spread = (0.0, 1.0) if size.is_zero_to_one else (0.5, 0.5)
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": size.image_px, "width": size.image_px},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [middle] * 3,
        "image_std": [spread] * 3,
    }


def _put(target: Path, parts: StudentParts, *, overwrite: bool) -> tuple[str, bool]:
    """Digest of the student at `target`, and whether it was written now."""
    temporary = target.with_name(f".{target.name}.new-{uuid.uuid4().hex}")
    try:
        digest = _digest(write_student(temporary, parts))
        if target.exists():
            if _is_student(target) and _digest(target) == digest:
                return digest, False
            if not overwrite or not _is_student(target):
                raise ConfigError(
                    f"{target}: something else of this name is there; --force replaces a student, --to names another"
                )
        _replace(target, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return digest, True


def _replace(target: Path, new: Path) -> None:
    """Put a folder in the place of another, which goes when the new one lies there and not before."""
    old = target.with_name(f".{target.name}.old-{uuid.uuid4().hex}")
    try:
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except BaseException:  # Ctrl-C too
            if old.exists():
                old.rename(target)
            raise
        fsync_directory(target.parent)
    except OSError as error:
        raise ResourceError(
            f"{target}: cannot be written ({error}); what was there before is untouched. Mend the rights or name "
            "another with --to"
        ) from error
    shutil.rmtree(old, ignore_errors=True)


def _is_student(folder: Path) -> bool:
    try:
        return read_folder(ModelSource(kind="path", name=str(folder)), folder).architecture == MODEL_TYPE
    except ModelMismatch:
        return False


def _digest(folder: Path) -> str:
    return read_folder(ModelSource(kind="path", name=str(folder)), folder).digest
